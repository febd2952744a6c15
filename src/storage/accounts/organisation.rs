//! [`OrganisationRecord`]: a group of users with teams, as it is kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::models::{Organisation, Username};

/// A member's role, in npm's words. Owners and admins may change members and teams; only owners may
/// make somebody an owner, or no longer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs the organisation.
    Owner,
    /// Looks after it.
    Admin,
    /// Works in it.
    #[default]
    Developer,
}

/// A team.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TeamRecord {
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its members.
    pub users: BTreeSet<String>,
}

/// An organisation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrganisationRecord {
    /// Its members and their roles.
    pub members: BTreeMap<String, Role>,
    /// Its teams.
    pub teams: BTreeMap<String, TeamRecord>,
}

impl OrganisationRecord {
    /// The groups that `user` holds through this organisation, whose name is `name`.
    pub(in crate::storage) fn groups_of(&self, name: &str, user: &Username) -> Vec<String> {
        let Ok(organisation) = name.parse::<Organisation>() else {
            return Vec::new();
        };
        let group = organisation.group();
        let teams = self.teams.iter();
        let held = teams
            .filter(|(_, team)| team.users.contains(user.as_str()))
            .map(|(team, _)| format!("{group}:{team}"));
        let mut groups: Vec<String> = held.collect();
        if self.members.contains_key(user.as_str()) || !groups.is_empty() {
            groups.insert(0, group);
        }
        groups
    }
}

/// The groups that `user` holds through all `organisations`.
pub(in crate::storage) fn groups_in<'a>(
    organisations: impl IntoIterator<Item = (&'a String, &'a Arc<OrganisationRecord>)>,
    user: &Username,
) -> Vec<String> {
    let organisations = organisations.into_iter();
    organisations
        .flat_map(|(name, organisation)| organisation.groups_of(name, user))
        .collect()
}
