//! Users, groups and rules of a company's own directory instead of local accounts.
//!
//! People sign in with their password (`npm login --auth-type=legacy`), machines bring a token of
//! the directory. A team publishes what is in its scope; some packages are for one group's eyes.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use rustaccio::{
    auth::AuthHook, config::Config, error::RegistryError, models::AuthIdentity, runtime,
};

/// What the company knows: a real one would ask LDAP or an identity provider.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directory {
    passwords: HashMap<String, String>,
    tokens: HashMap<String, String>,
    groups: HashMap<String, Vec<String>>,
}

impl Directory {
    /// A user with her groups.
    pub(crate) fn user(mut self, name: &str, password: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        self.groups.insert(name.to_owned(), groups);
        self.passwords.insert(name.to_owned(), password.to_owned());
        self
    }

    /// A token with which a machine is `name`.
    pub(crate) fn token(mut self, token: &str, name: &str) -> Self {
        self.tokens.insert(token.to_owned(), name.to_owned());
        self
    }

    fn has(&self, identity: Option<&AuthIdentity>, group: &str) -> bool {
        let name = identity.and_then(|identity| identity.username.as_deref());
        let groups = name.and_then(|name| self.groups.get(name));
        groups.is_some_and(|groups| groups.iter().any(|known| known == group))
    }
}

/// The company's say in who somebody is and what she may do.
pub(crate) struct CompanyHook(pub(crate) Directory);

#[async_trait]
impl AuthHook for CompanyHook {
    async fn authenticate(&self, name: &str, password: &str) -> Result<(), RegistryError> {
        if self
            .0
            .passwords
            .get(name)
            .is_some_and(|known| known == password)
        {
            Ok(())
        } else {
            Err(RegistryError::unauthorized("the directory says no"))
        }
    }

    async fn authenticate_request(
        &self,
        token: &str,
        _method: &str,
        _path: &str,
    ) -> Result<Option<AuthIdentity>, RegistryError> {
        // `None` leaves the question to the tokens that logins here have made.
        let name = self.0.tokens.get(token);
        Ok(name.map(|name| AuthIdentity {
            username: Some(name.clone()),
            groups: self.0.groups.get(name).cloned().unwrap_or_default(),
        }))
    }

    async fn allow_access(
        &self,
        identity: Option<AuthIdentity>,
        package: &str,
    ) -> Result<Option<bool>, RegistryError> {
        let is_secret = package.starts_with("@board/");
        Ok(is_secret.then(|| self.0.has(identity.as_ref(), "board")))
    }

    async fn allow_publish(
        &self,
        identity: Option<AuthIdentity>,
        package: &str,
    ) -> Result<Option<bool>, RegistryError> {
        // `@web/app` belongs to the group `web`; the rules decide about names without a scope.
        let scope = package
            .strip_prefix('@')
            .and_then(|rest| rest.split_once('/'));
        Ok(scope.map(|(group, _)| self.0.has(identity.as_ref(), group)))
    }

    async fn allow_unpublish(
        &self,
        identity: Option<AuthIdentity>,
        _package: &str,
    ) -> Result<Option<bool>, RegistryError> {
        Ok(Some(self.0.has(identity.as_ref(), "admins")))
    }
}

#[tokio::main]
async fn main() -> Result<(), RegistryError> {
    let directory = Directory::default()
        .user("alice", "correct horse", &["web", "board"])
        .user("robot", "battery staple", &["web"])
        .user("root", "hunter2 hunter2", &["admins"])
        .token("robot-token", "robot");
    let hook: Arc<dyn AuthHook> = Arc::new(CompanyHook(directory));
    runtime::run(Config::from_env(), Some(hook)).await
}
