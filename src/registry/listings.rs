//! Which packages somebody has to do with: owned, granted, starred.

use std::{collections::BTreeMap, sync::Arc};

use super::{Registry, search::is_let_in};
use crate::{
    error::RegistryError,
    models::{Action, Caller, Organisation, Permission, Team, Username},
    search::SearchEntry,
};

/// Whose packages are listed.
#[derive(Clone, Debug)]
pub enum Holder {
    /// Those that a user owns, and what her teams were granted.
    User {
        /// Her name.
        name: Username,
        /// The groups that she holds.
        groups: Vec<String>,
    },
    /// Those of a scope.
    Organisation(Organisation),
    /// Those that a team was granted.
    Team(Team),
}

impl Holder {
    fn permission(&self, entry: &SearchEntry) -> Option<Permission> {
        let granted = |group: &str| entry.restrictions.grants.as_ref()?.get(group).copied();
        match self {
            Self::User { name, groups } => {
                if entry.owners.iter().any(|owner| owner == name.as_str()) {
                    return Some(Permission::ReadWrite);
                }
                let granted = groups.iter().filter_map(|group| granted(group));
                granted.max_by_key(|permission| *permission == Permission::ReadWrite)
            }
            Self::Organisation(organisation) => {
                let is_theirs = entry.name.scope() == Some(organisation.group().as_str());
                is_theirs.then_some(Permission::ReadWrite)
            }
            Self::Team(team) => granted(&team.group()),
        }
    }
}

impl Registry {
    /// The packages of `holder` that `caller` may read, and what the holder may do with them.
    #[tracing::instrument(name = "registry.packages_of", skip_all)]
    pub async fn packages_of(
        &self,
        caller: &Caller,
        holder: &Holder,
    ) -> Result<BTreeMap<String, Permission>, RegistryError> {
        let mut packages = BTreeMap::new();
        for entry in self.visible_entries(caller).await? {
            if let Some(permission) = holder.permission(&entry) {
                packages.insert(entry.name.as_str().to_owned(), permission);
            }
        }
        Ok(packages)
    }

    /// The packages that `user` has starred and that `caller` may read, by name.
    #[tracing::instrument(name = "registry.starred_by", skip_all)]
    pub async fn starred_by(
        &self,
        caller: &Caller,
        user: &str,
    ) -> Result<Vec<String>, RegistryError> {
        let entries = self.visible_entries(caller).await?;
        let starred = entries
            .iter()
            .filter(|entry| entry.starred_by.iter().any(|fan| fan == user));
        Ok(starred.map(|entry| entry.name.to_string()).collect())
    }

    async fn visible_entries(
        &self,
        caller: &Caller,
    ) -> Result<Vec<Arc<SearchEntry>>, RegistryError> {
        self.indexed().await;
        let mut visible = Vec::new();
        for entry in self.index.after("") {
            if self.may_see(caller, &entry).await? {
                visible.push(entry);
            }
        }
        Ok(visible)
    }

    /// Whether `caller` may read a package of the index.
    pub(super) async fn may_see(
        &self,
        caller: &Caller,
        entry: &SearchEntry,
    ) -> Result<bool, RegistryError> {
        Ok(is_let_in(caller, entry)
            && self
                .policy
                .allows(caller, Action::Access, &entry.name)
                .await?)
    }
}
