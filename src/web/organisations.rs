//! `npm org` and `npm team`. Every answer has a body: older clients read one even after `DELETE`.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::Error,
    extract::{Actor, Agent, Json, OrganisationName, TeamName},
    respond,
    state::WebState,
};
use crate::{
    error::RegistryError,
    models::{Team, Username},
    storage::Role,
};

/// The member whom a request is about.
#[derive(Deserialize)]
pub(super) struct Member {
    user: String,
    role: Option<Role>,
}

impl Member {
    fn name(&self) -> Result<Username, RegistryError> {
        // npm takes a user's name with `@` or `~` before it.
        let name = self.user.trim_start_matches(['@', '~']);
        name.parse()
            .map_err(|error| RegistryError::bad_request(format!("{error}")))
    }
}

#[derive(Deserialize)]
pub(super) struct NewTeam {
    name: String,
    #[serde(default)]
    description: Option<String>,
}

fn done() -> Response {
    respond::json(StatusCode::OK, &json!({}))
}

/// `GET /-/org/:organisation/user`.
pub(super) async fn members(
    State(state): State<WebState>,
    Actor(caller): Actor,
    OrganisationName(organisation): OrganisationName,
) -> Result<Response, Error> {
    let members = state.administration.members(&caller, &organisation).await?;
    Ok(respond::json(StatusCode::OK, &members))
}

/// `PUT /-/org/:organisation/user`.
pub(super) async fn set_member(
    State(state): State<WebState>,
    Actor(caller): Actor,
    OrganisationName(organisation): OrganisationName,
    Json(member): Json<Member>,
) -> Result<Response, Error> {
    let user = member.name()?;
    let set = state
        .administration
        .set_member(&caller, &organisation, &user, member.role);
    let (role, size) = set.await?;
    let body = json!({
        "org": { "name": organisation.as_str(), "size": size },
        "user": user.as_str(),
        "role": role,
    });
    Ok(respond::json(StatusCode::OK, &body))
}

/// `DELETE /-/org/:organisation/user`.
pub(super) async fn remove_member(
    State(state): State<WebState>,
    Actor(caller): Actor,
    OrganisationName(organisation): OrganisationName,
    Json(member): Json<Member>,
) -> Result<Response, Error> {
    let user = member.name()?;
    let removed = state
        .administration
        .remove_member(&caller, &organisation, &user);
    removed.await?;
    Ok(done())
}

/// `GET /-/org/:organisation/team`: names for npm, objects for pnpm.
pub(super) async fn teams(
    State(state): State<WebState>,
    Actor(caller): Actor,
    agent: Agent,
    OrganisationName(organisation): OrganisationName,
) -> Result<Response, Error> {
    let teams = state.administration.teams(&caller, &organisation).await?;
    let shown: Vec<Value> = teams
        .into_iter()
        .map(|team| match agent {
            Agent::Pnpm => json!({ "name": team }),
            Agent::Npm | Agent::Other => format!("{organisation}:{team}").into(),
        })
        .collect();
    Ok(respond::json(StatusCode::OK, &shown))
}

/// `PUT /-/org/:organisation/team`.
pub(super) async fn create_team(
    State(state): State<WebState>,
    Actor(caller): Actor,
    OrganisationName(organisation): OrganisationName,
    Json(new): Json<NewTeam>,
) -> Result<Response, Error> {
    let team = Team::new(organisation, &new.name)
        .map_err(|error| RegistryError::bad_request(error.to_string()))?;
    let description = new.description.unwrap_or_default();
    let created = state
        .administration
        .create_team(&caller, &team, description);
    created.await?;
    let body = json!({ "name": team.name() });
    Ok(respond::json(StatusCode::CREATED, &body))
}

/// `DELETE /-/team/:organisation/:team`.
pub(super) async fn destroy_team(
    State(state): State<WebState>,
    Actor(caller): Actor,
    TeamName(team): TeamName,
) -> Result<Response, Error> {
    state.administration.destroy_team(&caller, &team).await?;
    Ok(done())
}

/// `GET /-/team/:organisation/:team/user`: names for npm, objects for pnpm.
pub(super) async fn team_members(
    State(state): State<WebState>,
    Actor(caller): Actor,
    agent: Agent,
    TeamName(team): TeamName,
) -> Result<Response, Error> {
    let members = state.administration.team_members(&caller, &team).await?;
    let shown: Vec<Value> = members
        .into_iter()
        .map(|user| match agent {
            Agent::Pnpm => json!({ "name": user, "user": user }),
            Agent::Npm | Agent::Other => user.into(),
        })
        .collect();
    Ok(respond::json(StatusCode::OK, &shown))
}

/// `PUT /-/team/:organisation/:team/user`.
pub(super) async fn add_to_team(
    State(state): State<WebState>,
    Actor(caller): Actor,
    TeamName(team): TeamName,
    Json(member): Json<Member>,
) -> Result<Response, Error> {
    let user = member.name()?;
    let added = state.administration.add_to_team(&caller, &team, &user);
    added.await?;
    Ok(respond::json(StatusCode::CREATED, &json!({})))
}

/// `DELETE /-/team/:organisation/:team/user`.
pub(super) async fn remove_from_team(
    State(state): State<WebState>,
    Actor(caller): Actor,
    TeamName(team): TeamName,
    Json(member): Json<Member>,
) -> Result<Response, Error> {
    let user = member.name()?;
    let removed = state.administration.remove_from_team(&caller, &team, &user);
    removed.await?;
    Ok(done())
}
