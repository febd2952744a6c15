//! Which packages somebody has to do with: owned, granted, starred.

use std::{collections::BTreeMap, sync::Arc};

use super::{Registry, search::is_let_in};
use crate::{
    error::RegistryError,
    models::{Caller, Organisation, PackageName, Permission, Team, Username},
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
        self.indexed().await;
        let entries = self.index.after("");
        let held = entries
            .into_iter()
            .filter(|entry| holder.permission(entry).is_some());
        let visible = self.visible_entries(caller, held.collect()).await?;
        let packages = visible.iter().filter_map(|entry| {
            let permission = holder.permission(entry)?;
            Some((entry.name.as_str().to_owned(), permission))
        });
        Ok(packages.collect())
    }

    /// The packages that `user` has starred and that `caller` may read, by name.
    #[tracing::instrument(name = "registry.starred_by", skip_all)]
    pub async fn starred_by(
        &self,
        caller: &Caller,
        user: &str,
    ) -> Result<Vec<String>, RegistryError> {
        self.indexed().await;
        let entries = self.index.after("");
        let starred = entries
            .into_iter()
            .filter(|entry| entry.starred_by.iter().any(|fan| fan == user));
        let visible = self.visible_entries(caller, starred.collect()).await?;
        Ok(visible.iter().map(|entry| entry.name.to_string()).collect())
    }

    /// Those of `entries` that `caller` may read, in their order. All lists are made of these.
    pub(super) async fn visible_entries(
        &self,
        caller: &Caller,
        mut entries: Vec<Arc<SearchEntry>>,
    ) -> Result<Vec<Arc<SearchEntry>>, RegistryError> {
        entries.retain(|entry| is_let_in(caller, entry));
        if let Some(readable) = self.policy.readable(caller) {
            entries.retain(|entry| readable.covers(&entry.name, entry.rule));
            return Ok(entries);
        }
        let names: Vec<&PackageName> = entries.iter().map(|entry| &entry.name).collect();
        let readable = self.policy.readable_of(caller, &names).await?;
        let visible = entries.into_iter().zip(readable);
        Ok(visible
            .filter_map(|(entry, is_readable)| is_readable.then_some(entry))
            .collect())
    }
}
