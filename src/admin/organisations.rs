//! Organisations and teams: who is in them. What teams may do is kept with each package.
//!
//! Members decide who reads what is restricted to them, so being signed in is never enough to
//! change them: it takes an administrator whom the settings name, or a role in the organisation.

use std::{collections::BTreeMap, sync::Arc};

use super::Administration;
use crate::{
    error::RegistryError,
    events::Event,
    models::{Caller, Organisation, Team, Username},
    policy::require_no_limits,
    storage::{AccountStoreExt as _, AccountsError, OrganisationRecord, Role, TeamRecord},
};

/// What a caller may do with an organisation that she may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authority {
    /// Everything, also with its owners.
    Owner,
    /// Everything but that.
    Admin,
}

impl Administration {
    /// The members of `organisation` and their roles; for those who are signed in.
    pub async fn members(
        &self,
        caller: &Caller,
        organisation: &Organisation,
    ) -> Result<BTreeMap<String, Role>, RegistryError> {
        let organisation = self.organisation(caller, organisation).await?;
        Ok(organisation.members.clone())
    }

    /// Makes `user` a member of `organisation`, which an administrator begins with its first member.
    /// How many members it has now.
    pub async fn set_member(
        &self,
        caller: &Caller,
        organisation: &Organisation,
        user: &Username,
        role: Option<Role>,
    ) -> Result<(Role, usize), RegistryError> {
        let may_join = self.may_join(user).await?;
        let told = |done: &(Role, usize)| {
            let role = serde_json::to_value(done.0).ok();
            let role = role.and_then(|role| role.as_str().map(str::to_owned));
            changed(organisation, "member-set", None, Some(user), role)
        };
        self.edit(caller, organisation, told, |record, authority| {
            require_user(user, may_join)?;
            let before = record.members.get(user.as_str()).copied();
            let after = role.or(before).unwrap_or_default();
            let is_about_owners = (before == Some(Role::Owner)) != (after == Role::Owner);
            if is_about_owners && authority != Authority::Owner {
                return Err(only_owners(organisation));
            }
            record.members.insert(user.as_str().to_owned(), after);
            Ok((after, record.members.len()))
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
        let told = |(): &()| changed(organisation, "member-removed", None, Some(user), None);
        self.edit(caller, organisation, told, |record, authority| {
            match record.members.remove(user.as_str()) {
                Some(Role::Owner) if authority != Authority::Owner => {
                    return Err(only_owners(organisation));
                }
                Some(_) => {}
                None => {
                    return Err(missing(format!(
                        "`{user}` is not a member of @{organisation}"
                    )));
                }
            }
            for team in record.teams.values_mut() {
                team.users.remove(user.as_str());
            }
            Ok(())
        })
        .await
    }

    /// The names of the teams of `organisation`; for those who are signed in.
    pub async fn teams(
        &self,
        caller: &Caller,
        organisation: &Organisation,
    ) -> Result<Vec<String>, RegistryError> {
        let organisation = self.organisation(caller, organisation).await?;
        Ok(organisation.teams.keys().cloned().collect())
    }

    /// Adds a team.
    pub async fn create_team(
        &self,
        caller: &Caller,
        team: &Team,
        description: String,
    ) -> Result<(), RegistryError> {
        let told = |(): &()| of_team(team, "team-created", None);
        self.edit(caller, &team.organisation, told, |record, _| {
            if record.teams.contains_key(team.name()) {
                let message = format!("there is a team {} already", team.group());
                return Err(AccountsError::Refused(message));
            }
            let new = TeamRecord {
                description: description.clone(),
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
        let told = |(): &()| of_team(team, "team-destroyed", None);
        self.edit(caller, &team.organisation, told, |record, _| {
            let removed = record.teams.remove(team.name());
            removed.map(|_| ()).ok_or_else(|| no_such_team(team))
        })
        .await
    }

    /// The members of a team; for those who are signed in.
    pub async fn team_members(
        &self,
        caller: &Caller,
        team: &Team,
    ) -> Result<Vec<String>, RegistryError> {
        let organisation = self.organisation(caller, &team.organisation).await?;
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
        let may_join = self.may_join(user).await?;
        let told = |(): &()| of_team(team, "team-member-added", Some(user));
        self.edit(caller, &team.organisation, told, |record, _| {
            require_user(user, may_join)?;
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
        let told = |(): &()| of_team(team, "team-member-removed", Some(user));
        self.edit(caller, &team.organisation, told, |record, _| {
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

    async fn organisation(
        &self,
        caller: &Caller,
        name: &Organisation,
    ) -> Result<Arc<OrganisationRecord>, RegistryError> {
        if caller.is_anonymous() {
            return Err(RegistryError::unauthorized("You must be logged in"));
        }
        let record = self.auth.accounts().organisation(name).await?;
        record.ok_or_else(|| RegistryError::not_found(format!("there is no organisation @{name}")))
    }

    /// Whether `user` may be made a member: an embedder may know users that have no account here.
    async fn may_join(&self, user: &Username) -> Result<bool, RegistryError> {
        Ok(!self.auth.knows_all_users() || self.auth.user(user).await?.is_some())
    }

    /// Changes `organisation` if `caller` may, with the second factor that changes need, and tells
    /// of it.
    async fn edit<T>(
        &self,
        caller: &Caller,
        organisation: &Organisation,
        told: impl FnOnce(&T) -> Event + Send,
        mut edit: impl FnMut(&mut OrganisationRecord, Authority) -> Result<T, AccountsError> + Send,
    ) -> Result<T, RegistryError>
    where
        T: Send,
    {
        if caller.is_anonymous() {
            return Err(RegistryError::unauthorized("You must be logged in"));
        }
        require_no_limits(caller)?;
        self.auth
            .second_factors()
            .require_for_writes(caller)
            .await?;
        let accounts = self.auth.accounts();
        let changed = accounts.change_organisation(organisation, |record| {
            let authority = self.authority(caller, organisation, record)?;
            edit(record, authority)
        });
        let done = changed.await?;
        self.events.tell(caller, None, &told(&done));
        Ok(done)
    }

    fn authority(
        &self,
        caller: &Caller,
        organisation: &Organisation,
        record: &OrganisationRecord,
    ) -> Result<Authority, AccountsError> {
        if self.admins.names(caller) {
            return Ok(Authority::Owner);
        }
        let user = caller.username();
        let role = user.and_then(|user| record.members.get(user.as_str()));
        match role {
            Some(Role::Owner) => Ok(Authority::Owner),
            Some(Role::Admin) => Ok(Authority::Admin),
            Some(Role::Developer) | None => {
                Err(AccountsError::Forbidden(if record.members.is_empty() {
                    format!(
                        "@{organisation} has no members yet, and only an administrator may begin \
                         it: somebody whom RUSTACCIO_ADMIN_USERS or RUSTACCIO_ADMIN_GROUPS names"
                    )
                } else {
                    format!(
                        "user {} is not allowed to change @{organisation}: its owners and admins \
                         are, and administrators whom RUSTACCIO_ADMIN_USERS or \
                         RUSTACCIO_ADMIN_GROUPS names",
                        caller.display_name()
                    )
                }))
            }
        }
    }
}

fn changed(
    organisation: &Organisation,
    change: &'static str,
    team: Option<&Team>,
    user: Option<&Username>,
    role: Option<String>,
) -> Event {
    Event::OrganisationChanged {
        organisation: organisation.to_string(),
        change,
        team: team.map(|team| team.name().to_owned()),
        user: user.map(ToString::to_string),
        role,
    }
}

fn of_team(team: &Team, change: &'static str, user: Option<&Username>) -> Event {
    changed(&team.organisation, change, Some(team), user, None)
}

fn require_user(user: &Username, may_join: bool) -> Result<(), AccountsError> {
    if may_join {
        Ok(())
    } else {
        Err(AccountsError::NoSuchUser(user.clone()))
    }
}

fn only_owners(organisation: &Organisation) -> AccountsError {
    AccountsError::Forbidden(format!(
        "only an owner of @{organisation} may make somebody its owner, or no longer one"
    ))
}

fn missing(message: String) -> AccountsError {
    AccountsError::Missing(message)
}

fn no_such_team(team: &Team) -> AccountsError {
    missing(format!("there is no team {}", team.group()))
}
