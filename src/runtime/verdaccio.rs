//! What a registry goes on using of a Verdaccio that was there before: its users and its tokens.

use std::sync::Arc;

use crate::{
    auth::VerdaccioTokens,
    config::Config,
    error::RegistryError,
    storage::{AccountStore, FileAccounts, HtpasswdAccounts},
};

/// Verdaccio's list of tokens, in its folder.
const TOKENS: &str = ".token-db.json";

/// Tokens that Verdaccio made, where the data folder is one of its.
pub(super) async fn tokens(config: &Config) -> Result<Option<VerdaccioTokens>, RegistryError> {
    let Some(folder) = &config.storage.verdaccio else {
        return Ok(None);
    };
    let opened = VerdaccioTokens::open(folder.database.clone(), folder.root.join(TOKENS));
    Ok(opened.await?)
}

/// The accounts of this node: those of a file of users where there is one, with what is `kept` about them.
pub(super) async fn accounts(
    config: &Config,
    kept: FileAccounts,
) -> Result<Arc<dyn AccountStore>, RegistryError> {
    Ok(match &config.auth.htpasswd {
        None => Arc::new(kept),
        Some(htpasswd) => {
            let (file, cost) = (htpasswd.file.clone(), htpasswd.rounds);
            Arc::new(HtpasswdAccounts::open(kept, file, cost).await?)
        }
    })
}

/// Says that a file of users is not used, where accounts are kept by more than this node.
pub(super) fn warn_of_unused_users(config: &Config) {
    if let Some(htpasswd) = &config.auth.htpasswd {
        tracing::warn!(
            file = %htpasswd.file.display(),
            "accounts are not kept in files here, so that the file of users is not used; \
             `rustaccio import` brings its users over"
        );
    }
}
