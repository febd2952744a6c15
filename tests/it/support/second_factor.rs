//! Second factors of test users, made where accounts are kept.

use serde_json::{Value, json};
use sha2::Digest as _;

use super::{Registry, registry::Start};

/// The registry after a restart in which `user` has got a second factor, whose recovery codes these
/// are; each is a one-time pass. Tokens that she has stay good.
pub(crate) async fn with_second_factor(
    registry: Registry,
    variables: Vec<(&str, String)>,
    user: &str,
    mode: &str,
    codes: &[&str],
) -> Registry {
    let folder = registry.stop().await;
    let path = folder.path().join("data/state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let hashes: Vec<String> = codes
        .iter()
        .map(|code| hex::encode(sha2::Sha256::digest(code)))
        .collect();
    state["users"][user]["second_factor"] = json!({ "mode": mode, "seed": "", "recovery": hashes });
    std::fs::write(&path, state.to_string()).unwrap();
    Registry::with(Start {
        variables,
        folder: Some(folder),
        ..Start::default()
    })
    .await
}
