//! Making tokens of users, and keeping their hashes.

use std::time::Duration;

use secrecy::SecretString;

use super::{Auth, tokens};
use crate::{
    error::RegistryError,
    events::Event,
    models::Username,
    storage::{AccountStore as _, AccountStoreExt as _, TokenKind, TokenRecord},
};

/// What is told of a token that was made.
pub fn token_created(record: &TokenRecord) -> Event {
    let packages = record.packages.iter().map(|name| name.0.to_string());
    Event::TokenCreated {
        user: record.user.clone(),
        token: record.prefix.clone(),
        name: record.name.clone(),
        readonly: record.readonly,
        cidr: record.cidr.iter().map(ToString::to_string).collect(),
        limits: packages.chain(record.scopes.iter().cloned()).collect(),
        bypass_2fa: record.bypass_second_factor,
        expires: record.expires,
    }
}

impl Auth {
    pub(super) async fn issue_login_token(
        &self,
        user: &Username,
    ) -> Result<SecretString, RegistryError> {
        let record = self.record(user, TokenKind::Login, self.config.token_ttl);
        Ok(self.keep(user, record).await?.0)
    }

    pub(super) fn record(
        &self,
        user: &Username,
        kind: TokenKind,
        lifetime: Option<Duration>,
    ) -> TokenRecord {
        let now = self.clock.now();
        TokenRecord {
            key: String::new(),
            user: user.as_str().to_owned(),
            kind,
            prefix: String::new(),
            name: None,
            readonly: false,
            bypass_second_factor: false,
            cidr: Vec::new(),
            packages: Vec::new(),
            scopes: Vec::new(),
            created: now,
            expires: lifetime.map(|lifetime| now.plus(lifetime)),
        }
    }

    /// A token that begins unlike the user's others: by that, npm tells which of them one is.
    async fn distinct_token(&self, user: &Username) -> Result<tokens::NewToken, RegistryError> {
        let others = self.accounts.tokens_of(user).await?;
        let mut new = tokens::generate();
        for _ in 0..10 {
            if others.iter().all(|other| other.prefix != new.prefix) {
                break;
            }
            new = tokens::generate();
        }
        Ok(new)
    }

    pub(super) async fn keep(
        &self,
        user: &Username,
        record: TokenRecord,
    ) -> Result<(SecretString, TokenRecord), RegistryError> {
        let new = self.distinct_token(user).await?;
        let record = TokenRecord {
            key: new.key,
            prefix: new.prefix,
            ..record
        };
        self.accounts.add_token(record.clone()).await?;
        Ok((new.token.into(), record))
    }
}
