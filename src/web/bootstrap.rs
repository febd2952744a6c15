//! `/-/npm/v1/bootstrap`: how each client is pointed at this registry, to be copied.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::json;

use super::{
    error::Error,
    extract::{Base, Query},
    respond,
    state::WebState,
};
use crate::{error::RegistryError, models::Organisation};

/// The variable that a token is put in; it stands in snippets, never its value.
const TOKEN: &str = "RUSTACCIO_NPM_TOKEN";

/// `GET /-/npm/v1/bootstrap?scope=@acme`.
pub(super) async fn bootstrap(
    State(state): State<WebState>,
    Base(base): Base,
    query: Query,
) -> Result<Response, Error> {
    let scope = query.get("scope").filter(|scope| !scope.is_empty());
    // Typed, because it ends up in a line for a shell.
    let scope = scope.map(str::parse::<Organisation>).transpose();
    let scope = scope.map_err(|error| RegistryError::bad_request(error.to_string()))?;
    let scope = scope.map(|scope| scope.group());
    let registry = format!("{base}/");
    let key = format!("{}:_authToken", base.nerf_dart());
    let login = if state.settings.web_login {
        format!("npm login --registry={registry}")
    } else {
        format!("npm login --auth-type=legacy --registry={registry}")
    };
    let snippets = json!({
        "npmrc": npmrc(&registry, scope.as_deref(), &key),
        "npm": set_registry("npm", &registry, scope.as_deref()),
        "pnpm": set_registry("pnpm", &registry, scope.as_deref()),
        "yarn": yarnrc(&registry, scope.as_deref()),
        "bun": bunfig(&registry, scope.as_deref()),
    });
    let body = json!({
        "registry": registry,
        "scope": scope,
        "authTokenKey": key,
        "userHint": login,
        "snippets": snippets,
        "notes": [
            format!("Sign in with `{login}`, or put a token of `npm token create` into the variable {TOKEN}."),
            "Yarn 1 sends tokens for unscoped packages only with `always-auth=true` in .npmrc. Yarn 4, \
             pnpm and Deno pass over versions that are younger than a day, also of your own packages, \
             unless `npmPreapprovedPackages`, `minimumReleaseAgeExclude` or `minimumDependencyAge` \
             names them.",
        ],
    });
    Ok(respond::json(StatusCode::OK, &body))
}

/// `.npmrc`, which npm, pnpm, Yarn 1, Bun and Deno read.
fn npmrc(registry: &str, scope: Option<&str>, key: &str) -> String {
    let line = match scope {
        Some(scope) => format!("{scope}:registry={registry}"),
        None => format!("registry={registry}"),
    };
    format!("{line}\n{key}=${{{TOKEN}}}\n")
}

fn set_registry(client: &str, registry: &str, scope: Option<&str>) -> String {
    match scope {
        Some(scope) => format!("{client} config set {scope}:registry {registry}"),
        None => format!("{client} config set registry {registry}"),
    }
}

/// `.yarnrc.yml` of Yarn 2 and later, which takes plain HTTP only from hosts that it is told.
fn yarnrc(registry: &str, scope: Option<&str>) -> String {
    let mut lines = match scope {
        Some(scope) => format!(
            "npmScopes:\n  {}:\n    npmRegistryServer: \"{registry}\"\n    npmAuthToken: \"${{{TOKEN}}}\"\n",
            scope.trim_start_matches('@')
        ),
        None => format!(
            "npmRegistryServer: \"{registry}\"\nnpmAuthToken: \"${{{TOKEN}}}\"\nnpmAlwaysAuth: true\n"
        ),
    };
    let url: Option<url::Url> = registry.parse().ok();
    let host = url
        .as_ref()
        .filter(|url| url.scheme() == "http")
        .and_then(url::Url::host_str);
    if let Some(host) = host {
        lines.push_str(&format!("unsafeHttpWhitelist:\n  - \"{host}\"\n"));
    }
    lines
}

/// `bunfig.toml`.
fn bunfig(registry: &str, scope: Option<&str>) -> String {
    let value = format!("{{ url = \"{registry}\", token = \"${TOKEN}\" }}");
    match scope {
        Some(scope) => format!("[install.scopes]\n\"{scope}\" = {value}\n"),
        None => format!("[install]\nregistry = {value}\n"),
    }
}
