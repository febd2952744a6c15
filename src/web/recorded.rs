//! [`recorded`]: every attempt to change something, and every call of an administrator, leaves a line
//! in the trail of audit, whatever comes of it.
//!
//! Whether a request is one is decided by its method, so that no route can forget to say so; the
//! table below only gives each its name. A test compares it with the table of routes.

use std::{borrow::Cow, sync::Arc};

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
};
use futures_util::future::Either;
use http::Method;
use percent_encoding::percent_decode_str;
use tracing::Instrument as _;

use super::{error::Error, metrics::Counting, redact::redacted, state::WebState};
use crate::{
    error::RegistryError,
    events::{Attempt, Ending, Event, Line},
    lifecycle::carried,
    models::{Caller, PackageName},
};

/// What a request wants, by method and route.
const ACTIONS: [(&str, &str, &str); 55] = [
    ("PUT", "/-/user/{text}", "user.sign_in"),
    ("PUT", "/-/user/{text}/-rev/{rev}", "user.sign_in"),
    ("DELETE", "/-/user/token/{text}", "user.sign_out"),
    ("POST", "/-/npm/v1/user", "user.change"),
    ("POST", "/-/npm/v1/tokens", "token.create"),
    ("DELETE", "/-/npm/v1/tokens/token/{text}", "token.revoke"),
    ("POST", "/-/v1/login_cli/{text}", "user.sign_in"),
    ("POST", "/-/verdaccio/sec/login", "user.sign_in"),
    ("PUT", "/-/verdaccio/sec/signup", "user.sign_in"),
    ("PUT", "/-/verdaccio/sec/reset_password", "user.change"),
    ("POST", "/-/web/login", "user.sign_in"),
    ("POST", "/-/web/logout", "user.sign_out"),
    ("POST", "/-/web/settings/password", "user.change"),
    ("POST", "/-/web/settings/tokens", "token.create"),
    ("POST", "/-/web/settings/tokens/revoke", "token.revoke"),
    ("POST", "/-/web/settings/second-factor", "user.change"),
    (
        "PUT",
        "/-/org/{organisation}/user",
        "organisation.set_member",
    ),
    (
        "DELETE",
        "/-/org/{organisation}/user",
        "organisation.remove_member",
    ),
    ("PUT", "/-/org/{organisation}/team", "team.create"),
    ("DELETE", "/-/team/{organisation}/{team}", "team.destroy"),
    (
        "PUT",
        "/-/team/{organisation}/{team}/user",
        "team.add_member",
    ),
    (
        "DELETE",
        "/-/team/{organisation}/{team}/user",
        "team.remove_member",
    ),
    (
        "PUT",
        "/-/team/{organisation}/{team}/package",
        "package.grant",
    ),
    (
        "DELETE",
        "/-/team/{organisation}/{team}/package",
        "package.revoke",
    ),
    ("POST", "/-/package/{package}/access", "package.set_access"),
    ("PUT", "/-/package/{package}/owners", "package.add_owner"),
    (
        "DELETE",
        "/-/package/{package}/owners/{text}",
        "package.remove_owner",
    ),
    ("PUT", "/-/user/v1/star", "package.star"),
    ("DELETE", "/-/user/v1/star", "package.unstar"),
    ("PUT", "/-/user/package/{package}/star", "package.star"),
    ("DELETE", "/-/user/package/{package}/star", "package.unstar"),
    (
        "POST",
        "/-/admin/package-cache/invalidate",
        "admin.package_cache.invalidate",
    ),
    (
        "POST",
        "/-/admin/policy-cache/invalidate",
        "admin.policy_cache.invalidate",
    ),
    ("POST", "/-/admin/reindex", "admin.reindex"),
    (
        "GET",
        "/-/admin/storage-health",
        "admin.storage_health.read",
    ),
    ("POST", "/-/web/admin/reindex", "admin.reindex"),
    (
        "POST",
        "/-/web/admin/storage-health",
        "admin.storage_health.read",
    ),
    (
        "PUT",
        "/-/package/{package}/dist-tags",
        "dist_tag.replace_all",
    ),
    (
        "POST",
        "/-/package/{package}/dist-tags",
        "dist_tag.set_many",
    ),
    (
        "PUT",
        "/-/package/{package}/dist-tags/{text}",
        "dist_tag.set",
    ),
    (
        "POST",
        "/-/package/{package}/dist-tags/{text}",
        "dist_tag.set",
    ),
    (
        "DELETE",
        "/-/package/{package}/dist-tags/{text}",
        "dist_tag.remove",
    ),
    ("PUT", "/{package}", "package.put"),
    ("PUT", "/{package}/-rev/{text}", "package.put"),
    ("DELETE", "/{package}/-rev/{text}", "package.unpublish"),
    (
        "DELETE",
        "/{package}/-/{file}/-rev/{text}",
        "package.unpublish_version",
    ),
    ("PUT", "/{package}/{version}", "dist_tag.set"),
    // These change nothing that lasts, or only ask.
    ("POST", "/-/npm/v1/security/advisories/bulk", ASKS),
    ("POST", "/-/npm/v1/security/audits/quick", ASKS),
    ("POST", "/-/npm/v1/security/audits", ASKS),
    // A browser remembers it, and nobody else.
    ("POST", "/-/web/theme", ASKS),
    // A login begins, which does not say whose it will be, and ends with an answer, see above.
    ("POST", "/-/v1/login", ASKS),
    ("POST", "/-/v1/done/{text}", ASKS),
    ("PUT", "/-/v1/done/{text}", ASKS),
    ("DELETE", "/-/v1/done/{text}", ASKS),
];

/// The name of what leaves no line unless something came of it.
const ASKS: &str = "";

/// Whoever posts something below this only asks, and may stop asking.
const AUDITS: &str = "/-/npm/v1/security/";
/// Below this, reading leaves a line too.
const ADMIN: &str = "/-/admin/";

/// What an error tells its client, for the line of its request.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) reason: String,
}

/// The answer of `work`, which is on a request that is `wanted` in the trail, if it is. One that may
/// change something is worked on to its end, also when its client goes away or is told that it takes
/// too long: the line says what truly came of it.
pub(super) fn recorded<F>(
    state: &WebState,
    wanted: Option<Box<Wanted>>,
    work: F,
) -> impl Future<Output = Response>
where
    F: Future<Output = Response> + Send + 'static,
{
    match wanted {
        None => Either::Left(work),
        // In a box: most requests only read, and room for it would be made for them too.
        Some(wanted) => Either::Right(Box::pin(wanted.recorded(state, work))),
    }
}

fn ending_of(response: &Response) -> Ending {
    let refusal = response.extensions().get::<Refusal>();
    Ending {
        status: response.status().as_u16(),
        code: refusal.map(|refusal| refusal.code),
        reason: refusal.map(|refusal| refusal.reason.clone()),
    }
}

/// A request that leaves a line.
pub(super) struct Wanted {
    method: Method,
    /// In its one form, still encoded.
    path: String,
    /// The pattern of its route, if there is a route for it.
    route: Option<Arc<str>>,
}

impl Wanted {
    /// `None` for a request that only reads, and is none of administrators'.
    pub(super) fn of(request: &Request, counting: &Counting) -> Option<Box<Self>> {
        let path = request.uri().path();
        let only_reads = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS
        );
        let only_asks = (only_reads && !path.starts_with(ADMIN)) || path.starts_with(AUDITS);
        // In a box: most requests only read.
        (!only_asks).then(|| {
            Box::new(Self {
                method: request.method().clone(),
                path: path.to_owned(),
                route: counting.pattern_of(path),
            })
        })
    }

    async fn recorded<F>(self, state: &WebState, work: F) -> Response
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let attempt = Attempt::by(self.route.clone());
        let work = attempt.scope(work);
        let recording = state.clone();
        let work = async move {
            let response = work.await;
            let ending = ending_of(&response);
            self.record(&recording, &attempt, ending).await;
            response
        };
        let work = carried(work.instrument(tracing::Span::current()));
        let done = state.lifecycle.spawn(work).await;
        done.unwrap_or_else(|_| Error(RegistryError::internal("a task panicked")).into_response())
    }

    async fn record(&self, state: &WebState, attempt: &Attempt, ending: Ending) {
        let so_far = attempt.so_far();
        let route = self.route.as_deref();
        let is_nowhere = match ending.status {
            404 => route.is_none_or(|route| route.starts_with("/-/{*")),
            status => status == 405,
        };
        let action = self.action(route);
        let says_nothing = action == ASKS && so_far.facts.is_empty();
        if is_nowhere || says_nothing {
            return;
        }
        // Whoever is over a limit may come as often as the network lets him.
        if ending.status == 429 && so_far.facts.is_empty() {
            state.events.count_limited();
            return;
        }
        let package = route.and_then(|route| self.package(route));
        let caller = so_far.caller.clone().unwrap_or_default();
        // A challenge is how a client learns that it has to ask for a code.
        let is_challenge = ending.code == Some("AUTH_OTP_REQUIRED");
        if ending.outcome() == "denied" && !is_challenge && so_far.facts.is_empty() {
            let denied = async {
                tell_denied(state, &caller, package.as_deref(), (&action, &ending));
            };
            attempt.scope(denied).await;
        }
        let found = attempt.close();
        let path = redacted(&self.path);
        let line =
            |now| Line::of_request(now, action.into_owned(), &path, package, (found, ending));
        state.events.record(line).await;
    }

    /// The name of what it wants; of a route without one, the route itself.
    fn action(&self, route: Option<&str>) -> Cow<'static, str> {
        let method = match self.method {
            Method::HEAD => "GET",
            _ => self.method.as_str(),
        };
        let Some(route) = route else {
            return "request".into();
        };
        let known = ACTIONS
            .iter()
            .find(|(known, pattern, _)| *known == method && *pattern == route);
        match known {
            Some((.., action)) => (*action).into(),
            None => format!("{method} {route}").into(),
        }
    }

    /// What stands in the path where `route` has its package.
    fn package(&self, route: &str) -> Option<String> {
        let mut segments = route.split('/').zip(self.path.split('/'));
        let (_, text) = segments.find(|(pattern, _)| *pattern == "{package}")?;
        let text = percent_decode_str(text).decode_utf8_lossy();
        Some(text.chars().take(256).collect())
    }
}

fn tell_denied(
    state: &WebState,
    caller: &Caller,
    package: Option<&str>,
    (action, ending): (&str, &Ending),
) {
    let event = Event::Denied {
        action: action.to_owned(),
        status: ending.status,
        code: ending.code,
        reason: ending.reason.clone(),
    };
    let package: Option<PackageName> = package.and_then(|name| name.parse().ok());
    state.events.tell(caller, package.as_ref(), &event);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What the table of routes takes besides reading, by method and route.
    fn changing_routes() -> BTreeSet<(String, String)> {
        let mut routes = BTreeSet::new();
        for line in include_str!("mod.rs").lines() {
            let Some(rest) = line.trim().strip_prefix(".route(\"") else {
                continue;
            };
            let (route, handlers) = rest.split_once("\", ").unwrap();
            let mut takes = |method: &str| {
                routes.insert((method.to_owned(), route.to_owned()));
            };
            for method in ["put", "post", "delete", "patch"] {
                if handlers.contains(&format!("{method}(")) {
                    takes(&method.to_ascii_uppercase());
                }
            }
            if handlers.starts_with("any(") && !handlers.contains("not_found") {
                for method in ["PUT", "POST", "DELETE"] {
                    takes(method);
                }
            }
            if route.starts_with(ADMIN) && handlers.contains("get(") {
                takes("GET");
            }
        }
        routes
    }

    #[test]
    fn every_route_that_changes_something_has_a_name_in_the_trail() {
        let named = ACTIONS.map(|(method, route, _)| (method.to_owned(), route.to_owned()));
        let named: BTreeSet<(String, String)> = named.into_iter().collect();
        let routes = changing_routes();
        assert!(routes.len() > 35, "{routes:?}");
        let nameless: Vec<_> = routes.difference(&named).collect();
        assert!(nameless.is_empty(), "name these in ACTIONS: {nameless:?}");
        let gone: Vec<_> = named.difference(&routes).collect();
        assert!(gone.is_empty(), "these are no routes: {gone:?}");
        assert_eq!(named.len(), ACTIONS.len());
    }
}
