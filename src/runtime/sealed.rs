//! Whether what one registry has sealed can be opened by another.

use futures_util::TryStreamExt as _;

use super::end::End;
use crate::{
    auth::SEED_SEAL,
    config::Config,
    error::RegistryError,
    storage::{AccountEntry, Secrets, SigningKeys},
};

/// Fails where a registry with the settings `config`, and the keys of `to`, could not open what comes from
/// `from`: the signing key, and the seeds of second factors. Nothing is written.
pub(super) async fn require_openable(
    config: &Config,
    from: &End,
    to: &End,
) -> Result<(), RegistryError> {
    let given = config.storage.secret_key.as_ref();
    let mut secrets = Secrets::find(&*to.keys, given).await?;
    if secrets.is_none() {
        // It is moved too.
        secrets = Secrets::find(&*from.keys, None).await?;
    }
    let seeds = seeds_of(from).await?;
    let Some(secrets) = secrets else {
        let has_signing_key = !SigningKeys::list(&*from.keys).await?.is_empty();
        return if seeds.is_empty() && !has_signing_key {
            Ok(())
        } else {
            Err(wrong_key("no key that opens them is there"))
        };
    };
    if !secrets.agree_with(&*to.keys).await? {
        return Err(wrong_key(
            "the target's own were sealed with another key than the one that is set now",
        ));
    }
    let opens_key =
        !config.publish.signing || SigningKeys::open_with(&*from.keys, &secrets).await?;
    // Where one opens, it is the key; another one is damaged in the source too.
    let mut opened = seeds.iter().map(|seed| secrets.unseal(SEED_SEAL, seed));
    let opens_seeds = seeds.is_empty() || opened.any(|opened| opened.is_ok());
    if opens_key && opens_seeds {
        return Ok(());
    }
    Err(wrong_key("they were sealed with another key"))
}

fn wrong_key(why: &str) -> RegistryError {
    RegistryError::Settings {
        message: format!(
            "the target could not open the signing key or the second factors that would come to it: {why}. \
             Nothing was changed; set RUSTACCIO_SECRET_KEY to what it is for the registry that they come \
             from, or leave it unset if that one has a secret.key"
        ),
    }
}

/// All seeds of second factors, sealed.
async fn seeds_of(end: &End) -> Result<Vec<String>, RegistryError> {
    let mut seeds = Vec::new();
    let mut entries = end.accounts.entries();
    while let Some(entry) = entries.try_next().await? {
        if let AccountEntry::User(_, user) = entry
            && let Some(factor) = &user.second_factor
        {
            seeds.push(factor.seed.clone());
        }
    }
    Ok(seeds)
}
