//! Organisations and teams: who is in them. What teams may do is kept with each package.

use std::{collections::BTreeMap, sync::Arc};

use super::Administration;
use crate::{
    error::RegistryError,
    models::{Caller, Organisation, Team, Username},
    storage::{AccountsError, OrganisationRecord, Role, TeamRecord},
};

impl Administration {
    /// The members of `organisation` and their roles; for those who are signed in.
    pub fn members(
        &self,
        caller: &Caller,
        organisation: &Organisation,
    ) -> Result<BTreeMap<String, Role>, RegistryError> {
        Ok(self.organisation(caller, organisation)?.members.clone())
    }

    /// Makes `user` a member of `organisation`, which begins with its first member. How many
    /// members it has now.
    pub async fn set_member(
        &self,
        caller: &Caller,
        organisation: &Organisation,
        user: &Username,
        role: Option<Role>,
    ) -> Result<(Role, usize), RegistryError> {
        self.require(caller).await?;
        self.require_user(user)?;
        self.edit(organisation, |record| {
            let member = record.members.entry(user.as_str().to_owned()).or_default();
            *member = role.unwrap_or(*member);
            let role = *member;
            Ok((role, record.members.len()))
        })
        .await
    }

    /// Takes `user` out of `organisation` and all its teams.
    pub async fn remove_member(
        &self,
        caller: &Caller,
        organisation: &Organisation,
        user: &Username,
    ) -> Result<(), RegistryError> {
        self.require(caller).await?;
        self.edit(organisation, |record| {
            if record.members.remove(user.as_str()).is_none() {
                return Err(missing(format!(
                    "`{user}` is not a member of @{organisation}"
                )));
            }
            for team in record.teams.values_mut() {
                team.users.remove(user.as_str());
            }
            Ok(())
        })
        .await
    }

    /// The names of the teams of `organisation`; for those who are signed in.
    pub fn teams(
        &self,
        caller: &Caller,
        organisation: &Organisation,
    ) -> Result<Vec<String>, RegistryError> {
        let organisation = self.organisation(caller, organisation)?;
        Ok(organisation.teams.keys().cloned().collect())
    }

    /// Adds a team.
    pub async fn create_team(
        &self,
        caller: &Caller,
        team: &Team,
        description: String,
    ) -> Result<(), RegistryError> {
        self.require(caller).await?;
        self.edit(&team.organisation, |record| {
            if record.teams.contains_key(team.name()) {
                let message = format!("there is a team {} already", team.group());
                return Err(AccountsError::Refused(message));
            }
            let new = TeamRecord {
                description,
                ..TeamRecord::default()
            };
            record.teams.insert(team.name().to_owned(), new);
            Ok(())
        })
        .await
    }

    /// Removes a team. What packages grant it is worth nothing then, until there is such a team
    /// again.
    pub async fn destroy_team(&self, caller: &Caller, team: &Team) -> Result<(), RegistryError> {
        self.require(caller).await?;
        self.edit(&team.organisation, |record| {
            let removed = record.teams.remove(team.name());
            removed.map(|_| ()).ok_or_else(|| no_such_team(team))
        })
        .await
    }

    /// The members of a team; for those who are signed in.
    pub fn team_members(&self, caller: &Caller, team: &Team) -> Result<Vec<String>, RegistryError> {
        let organisation = self.organisation(caller, &team.organisation)?;
        let record = organisation.teams.get(team.name());
        let record = record.ok_or_else(|| no_such_team(team))?;
        Ok(record.users.iter().cloned().collect())
    }

    /// Adds `user` to a team, and with that to its organisation.
    pub async fn add_to_team(
        &self,
        caller: &Caller,
        team: &Team,
        user: &Username,
    ) -> Result<(), RegistryError> {
        self.require(caller).await?;
        self.require_user(user)?;
        self.edit(&team.organisation, |record| {
            let members = record.teams.get_mut(team.name());
            let members = members.ok_or_else(|| no_such_team(team))?;
            members.users.insert(user.as_str().to_owned());
            record.members.entry(user.as_str().to_owned()).or_default();
            Ok(())
        })
        .await
    }

    /// Takes `user` out of a team.
    pub async fn remove_from_team(
        &self,
        caller: &Caller,
        team: &Team,
        user: &Username,
    ) -> Result<(), RegistryError> {
        self.require(caller).await?;
        self.edit(&team.organisation, |record| {
            let members = record.teams.get_mut(team.name());
            let members = members.ok_or_else(|| no_such_team(team))?;
            if members.users.remove(user.as_str()) {
                Ok(())
            } else {
                Err(missing(format!("`{user}` is not in {}", team.group())))
            }
        })
        .await
    }

    fn organisation(
        &self,
        caller: &Caller,
        name: &Organisation,
    ) -> Result<Arc<OrganisationRecord>, RegistryError> {
        if caller.is_anonymous() {
            return Err(RegistryError::unauthorized("You must be logged in"));
        }
        let record = self.auth.accounts().organisation(name);
        record.ok_or_else(|| RegistryError::not_found(format!("there is no organisation @{name}")))
    }

    fn require_user(&self, user: &Username) -> Result<(), RegistryError> {
        if self.auth.knows_all_users() && self.auth.user(user).is_none() {
            return Err(RegistryError::not_found(format!(
                "there is no user `{user}`"
            )));
        }
        Ok(())
    }

    async fn edit<T>(
        &self,
        organisation: &Organisation,
        edit: impl FnOnce(&mut OrganisationRecord) -> Result<T, AccountsError>,
    ) -> Result<T, RegistryError> {
        let accounts = self.auth.accounts();
        Ok(accounts.edit_organisation(organisation, edit).await?)
    }
}

fn missing(message: String) -> AccountsError {
    AccountsError::Missing(message)
}

fn no_such_team(team: &Team) -> AccountsError {
    missing(format!("there is no team {}", team.group()))
}
