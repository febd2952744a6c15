//! `npm access` and `npm owner` as pnpm does it: who may use a package, and which packages
//! somebody may use.

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::Error,
    extract::{Actor, Agent, Json, Package, PathText, TeamName, Visitor, unless_hidden},
    respond,
    state::WebState,
};
use crate::{
    error::RegistryError,
    models::{
        Caller, Organisation, PackageName, Permission, Restrictions, Team, Username, Visibility,
    },
    registry::{AccessChange, Holder},
};

/// `POST /-/package/:package/access`.
#[derive(Deserialize)]
pub(super) struct Change {
    access: Option<Word>,
    publish_requires_tfa: Option<bool>,
    automation_token_overrides_tfa: Option<bool>,
}

/// npm's words for who may read a package.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Public,
    Restricted,
    Private,
}

/// What a team is granted, or no longer.
#[derive(Deserialize)]
pub(super) struct Grant {
    package: String,
    permissions: Option<Permission>,
}

#[derive(Deserialize)]
pub(super) struct NewOwner {
    user: OwnerName,
}

/// A user by name, or as an object with one.
#[derive(Deserialize)]
#[serde(untagged)]
enum OwnerName {
    Text(String),
    Object { name: String },
}

fn shown(restrictions: &Restrictions) -> Value {
    json!({
        "access": restrictions.visibility,
        "publish_requires_tfa": restrictions.publish_requires_tfa,
        "automation_token_overrides_tfa": restrictions.automation_token_overrides_tfa,
    })
}

fn user_named(name: &str) -> Result<Username, RegistryError> {
    let name = name.trim_start_matches(['@', '~']);
    name.parse()
        .map_err(|error| RegistryError::bad_request(format!("{error}")))
}

fn permissions(packages: BTreeMap<String, Permission>) -> Response {
    let packages: BTreeMap<String, &str> = packages
        .into_iter()
        .map(|(name, permission)| (name, permission.as_str()))
        .collect();
    respond::json(StatusCode::OK, &packages)
}

/// `GET /-/package/:package/access`, which pnpm asks.
pub(super) async fn show(
    State(state): State<WebState>,
    Visitor { caller, problem }: Visitor,
    Package(name): Package,
) -> Result<Response, Error> {
    let restrictions = state.registry.access(&caller, &name).await;
    let restrictions = restrictions.map_err(|error| unless_hidden(problem, &name, error))?;
    Ok(respond::json(StatusCode::OK, &shown(&restrictions)))
}

/// `POST /-/package/:package/access`.
pub(super) async fn change(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Package(name): Package,
    Json(change): Json<Change>,
) -> Result<Response, Error> {
    let change = AccessChange {
        visibility: change.access.map(|word| match word {
            Word::Public => Visibility::Public,
            Word::Restricted | Word::Private => Visibility::Restricted,
        }),
        publish_requires_tfa: change.publish_requires_tfa,
        automation_token_overrides_tfa: change.automation_token_overrides_tfa,
    };
    if change.publish_requires_tfa == Some(true) && !state.auth.knows_all_users() {
        let message = "accounts are kept elsewhere, and so is their second factor: a package \
                       cannot require one here";
        return Err(RegistryError::forbidden(message).into());
    }
    let only_unlocks = change.publish_requires_tfa == Some(false)
        && change.visibility.is_none()
        && change.automation_token_overrides_tfa.is_none();
    let restrictions = if only_unlocks && state.administration.names(&caller) {
        let lifted = state.administration.lift_second_factor(&caller, &name);
        lifted.await?
    } else {
        state.registry.set_access(&caller, &name, change).await?;
        state.registry.access(&caller, &name).await?
    };
    Ok(respond::json(StatusCode::OK, &shown(&restrictions)))
}

/// `GET /-/package/:package/visibility`.
pub(super) async fn visibility(
    State(state): State<WebState>,
    Visitor { caller, problem }: Visitor,
    Package(name): Package,
) -> Result<Response, Error> {
    let restrictions = state.registry.access(&caller, &name).await;
    let restrictions = restrictions.map_err(|error| unless_hidden(problem, &name, error))?;
    let body = json!({ "public": restrictions.visibility == Visibility::Public });
    Ok(respond::json(StatusCode::OK, &body))
}

/// `GET /-/package/:package/collaborators`: an object for npm, a list for pnpm.
pub(super) async fn collaborators(
    State(state): State<WebState>,
    Actor(caller): Actor,
    agent: Agent,
    Package(name): Package,
) -> Result<Response, Error> {
    let found = state.registry.collaborators(&caller, &name).await?;
    let mut people: BTreeMap<String, Permission> = BTreeMap::new();
    let mut admit = |user: String, permission: Permission| {
        let held = people.entry(user).or_insert(permission);
        if permission == Permission::ReadWrite {
            *held = permission;
        }
    };
    for (group, permission) in found.grants {
        let Some(team) = team_of(&group) else {
            continue;
        };
        // A team that is gone has no members.
        let members = state.administration.team_members(&caller, &team).await;
        let members = match members {
            Err(RegistryError::NotFound { .. }) => Vec::new(),
            members => members?,
        };
        for user in members {
            admit(user, permission);
        }
    }
    for owner in found.owners {
        admit(owner, Permission::ReadWrite);
    }
    if agent == Agent::Pnpm {
        let list: Vec<Value> = people
            .into_iter()
            .map(|(user, permission)| {
                json!({ "user": user, "username": user, "permissions": permission.as_str() })
            })
            .collect();
        return Ok(respond::json(StatusCode::OK, &list));
    }
    Ok(permissions(people))
}

fn team_of(group: &str) -> Option<Team> {
    let (organisation, name) = group.split_once(':')?;
    Team::new(organisation.parse().ok()?, name).ok()
}

/// `GET /-/package/:package/owners`.
pub(super) async fn owners(
    State(state): State<WebState>,
    Visitor { caller, problem }: Visitor,
    Package(name): Package,
) -> Result<Response, Error> {
    let found = state.registry.collaborators(&caller, &name).await;
    let found = found.map_err(|error| unless_hidden(problem, &name, error))?;
    let owners: Vec<Value> = found
        .owners
        .iter()
        .map(|owner| json!({ "name": owner, "username": owner }))
        .collect();
    Ok(respond::json(StatusCode::OK, &owners))
}

/// `PUT /-/package/:package/owners`.
pub(super) async fn add_owner(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Package(name): Package,
    Json(new): Json<NewOwner>,
) -> Result<Response, Error> {
    let (OwnerName::Text(user) | OwnerName::Object { name: user }) = new.user;
    let user = user_named(&user)?;
    // Who may change nothing hears nothing of who there is.
    state.registry.require_owners_right(&caller, &name).await?;
    let record = state.auth.user(&user).await?;
    if record.is_none() && state.auth.knows_all_users() {
        let message = format!("there is no user `{user}`");
        return Err(RegistryError::not_found(message).into());
    }
    let email = record.map_or_else(String::new, |record| record.profile.email.clone());
    set_owner(&state, &caller, &name, &user, email, true).await
}

/// `DELETE /-/package/:package/owners/:user`.
pub(super) async fn remove_owner(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Package(name): Package,
    PathText(user): PathText,
) -> Result<Response, Error> {
    let user = user_named(&user)?;
    set_owner(&state, &caller, &name, &user, String::new(), false).await
}

async fn set_owner(
    state: &WebState,
    caller: &Caller,
    name: &PackageName,
    user: &Username,
    email: String,
    is_owner: bool,
) -> Result<Response, Error> {
    let registry = &state.registry;
    let set = registry.set_owner(caller, name, user, email, is_owner);
    set.await?;
    Ok(respond::json(StatusCode::OK, &json!({ "ok": true })))
}

/// `GET /-/team/:organisation/:team/package`.
pub(super) async fn packages_of_team(
    State(state): State<WebState>,
    Actor(caller): Actor,
    TeamName(team): TeamName,
) -> Result<Response, Error> {
    state.administration.team_members(&caller, &team).await?;
    let holder = Holder::Team(team);
    let packages = state.registry.packages_of(&caller, &holder).await?;
    Ok(permissions(packages))
}

/// `PUT /-/team/:organisation/:team/package`.
pub(super) async fn grant(
    State(state): State<WebState>,
    Actor(caller): Actor,
    TeamName(team): TeamName,
    Json(grant): Json<Grant>,
) -> Result<Response, Error> {
    let permission = grant.permissions.ok_or_else(|| {
        RegistryError::bad_request("`permissions` must be `read-only` or `read-write`")
    })?;
    state.administration.team_members(&caller, &team).await?;
    set_grant(&state, &caller, &team, &grant.package, Some(permission)).await
}

/// `DELETE /-/team/:organisation/:team/package`.
pub(super) async fn revoke(
    State(state): State<WebState>,
    Actor(caller): Actor,
    TeamName(team): TeamName,
    Json(grant): Json<Grant>,
) -> Result<Response, Error> {
    set_grant(&state, &caller, &team, &grant.package, None).await
}

async fn set_grant(
    state: &WebState,
    caller: &Caller,
    team: &Team,
    package: &str,
    permission: Option<Permission>,
) -> Result<Response, Error> {
    let name: PackageName = package
        .parse()
        .map_err(|error| RegistryError::bad_request(format!("{error}")))?;
    let registry = &state.registry;
    registry.grant(caller, &name, team, permission).await?;
    Ok(respond::json(StatusCode::OK, &json!({})))
}

/// `GET /-/org/:organisation/package`. Where there is no such organisation and no package in its
/// scope, npm asks for a user of that name next.
pub(super) async fn packages_of_organisation(
    State(state): State<WebState>,
    Actor(caller): Actor,
    PathText(text): PathText,
) -> Result<Response, Error> {
    // What cannot be an organisation may well be a user.
    let organisation: Organisation = text
        .parse()
        .map_err(|error| RegistryError::not_found(format!("{error}")))?;
    let is_known = state.administration.members(&caller, &organisation).await;
    let holder = Holder::Organisation(organisation);
    let packages = state.registry.packages_of(&caller, &holder).await?;
    if packages.is_empty() {
        is_known?;
    }
    Ok(permissions(packages))
}

/// `GET /-/user/:user/package`.
pub(super) async fn packages_of_user(
    State(state): State<WebState>,
    Actor(caller): Actor,
    PathText(user): PathText,
) -> Result<Response, Error> {
    let user = user_named(&user)?;
    packages_of(&state, &caller, user).await
}

/// `GET /-/-/package`, which is how pnpm asks for one's own.
pub(super) async fn own_packages(
    State(state): State<WebState>,
    Actor(caller): Actor,
) -> Result<Response, Error> {
    let user = caller.username();
    let user = user.ok_or_else(|| RegistryError::unauthorized("You must be logged in"))?;
    packages_of(&state, &caller, user).await
}

async fn packages_of(state: &WebState, caller: &Caller, user: Username) -> Result<Response, Error> {
    let groups = state.auth.accounts().groups_of(&user).await;
    let groups = groups.map_err(RegistryError::from)?;
    let holder = Holder::User { name: user, groups };
    let packages = state.registry.packages_of(caller, &holder).await?;
    Ok(permissions(packages))
}
