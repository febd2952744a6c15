//! A request for each route of `src/web/mod.rs`, and the routes that the file really has.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use crate::support::{Package, publish_body};

/// One row of the table. In `path` and `body`, `NAME` stands for a package's name without its scope.
pub(super) struct Row {
    pub(super) method: &'static str,
    pub(super) route: &'static str,
    pub(super) path: &'static str,
    body: &'static str,
}

impl Row {
    pub(super) fn path_of(&self, scope: &str, name: &str) -> String {
        self.path.replace("SCOPE", scope).replace("NAME", name)
    }

    pub(super) fn body_of(&self, scope: &str, name: &str) -> Value {
        if self.body == "publish" {
            let package = Package::new(&format!("{scope}/{name}"), "2.0.0");
            return publish_body(&package, "latest");
        }
        let body = self.body.replace("SCOPE", scope).replace("NAME", name);
        if body.is_empty() {
            json!({})
        } else {
            serde_json::from_str(&body).unwrap()
        }
    }

    /// The form that it sends, where a page sends one.
    pub(super) fn form(&self) -> Option<&'static str> {
        self.route.starts_with("/-/web/").then_some(self.body)
    }

    /// Whether it is about one package that its path or body names.
    pub(super) fn names_a_package(&self) -> bool {
        self.path.contains("NAME") || self.body.contains("NAME") || self.body == "publish"
    }
}

const fn row(
    method: &'static str,
    route: &'static str,
    path: &'static str,
    body: &'static str,
) -> Row {
    Row {
        method,
        route,
        path,
        body,
    }
}

const SIGN_IN: &str = r#"{"name":"owner","password":"password"}"#;
const TAG: &str = r#""1.0.0""#;
const MEMBER: &str = r#"{"user":"reader","role":"developer"}"#;
const GRANT: &str = r#"{"package":"SCOPE/NAME","permissions":"read-only"}"#;
const STAR: &str = r#"{"name":"SCOPE/NAME","package":"SCOPE/NAME"}"#;
const OWNERS: &str = r#"{"_id":"SCOPE/NAME","_rev":"1","maintainers":[{"name":"owner","email":"o@x.example"},{"name":"reader","email":"r@x.example"}]}"#;
const PASSWORD: &str = r#"{"password":"password"}"#;

/// Where metrics are read: a setting says it, and so it is in no table of routes.
const METRICS: &str = "/-/metrics";

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row("GET", "/", "/", ""),
    row("GET", "/favicon.ico", "/favicon.ico", ""),
    row("GET", "/-/ping", "/-/ping", ""),
    row("GET", "/-/health/live", "/-/health/live", ""),
    row("GET", "/-/health/ready", "/-/health/ready", ""),
    row("GET", "/-/whoami", "/-/whoami", ""),
    row("GET", "/-/user/{text}", "/-/user/org.couchdb.user:owner", ""),
    row("PUT", "/-/user/{text}", "/-/user/org.couchdb.user:owner", SIGN_IN),
    row("PUT", "/-/user/{text}/-rev/{rev}", "/-/user/org.couchdb.user:owner/-rev/1", SIGN_IN),
    row("DELETE", "/-/user/token/{text}", "/-/user/token/unknown", ""),
    row("GET", "/-/npm/v1/user", "/-/npm/v1/user", ""),
    row("POST", "/-/npm/v1/user", "/-/npm/v1/user", r#"{"fullname":"x"}"#),
    row("GET", "/-/npm/v1/tokens", "/-/npm/v1/tokens", ""),
    row("POST", "/-/npm/v1/tokens", "/-/npm/v1/tokens", PASSWORD),
    row("DELETE", "/-/npm/v1/tokens/token/{text}", "/-/npm/v1/tokens/token/unknown", ""),
    row("POST", "/-/v1/login", "/-/v1/login", ""),
    row("POST", "/-/v1/login_cli/{text}", "/-/v1/login_cli/unknown", SIGN_IN),
    row("ANY", "/-/v1/done/{text}", "/-/v1/done/unknown", ""),
    row("GET", "/-/web", "/-/web?q=acme", ""),
    row("GET", "/-/web/static/{text}", "/-/web/static/unknown", ""),
    row("POST", "/-/web/theme", "/-/web/theme", "theme=dark"),
    row("GET", "/-/web/detail/{package}", "/-/web/detail/SCOPE%2fNAME", ""),
    row("GET", "/-/web/detail/{package}/v/{version}", "/-/web/detail/SCOPE%2fNAME/v/1.0.0", ""),
    row("GET", "/-/web/raw/{package}/{version}", "/-/web/raw/SCOPE%2fNAME/1.0.0", ""),
    row("GET", "/-/web/tarball/{package}/{file}", "/-/web/tarball/SCOPE%2fNAME/NAME-1.0.0.tgz", ""),
    row("GET", "/-/web/login", "/-/web/login", ""),
    row("POST", "/-/web/login", "/-/web/login", "username=owner&password=password"),
    row("POST", "/-/web/logout", "/-/web/logout", "back="),
    row("GET", "/-/web/settings", "/-/web/settings", ""),
    row("POST", "/-/web/settings/password", "/-/web/settings/password", "old=password&new=password2"),
    row("POST", "/-/web/settings/tokens", "/-/web/settings/tokens", "password=password"),
    row("POST", "/-/web/settings/tokens/revoke", "/-/web/settings/tokens/revoke", "key=unknown"),
    row("POST", "/-/web/settings/second-factor", "/-/web/settings/second-factor", "change=enable&password=password"),
    row("GET", "/-/org/{organisation}/user", "/-/org/acme/user", ""),
    row("PUT", "/-/org/{organisation}/user", "/-/org/acme/user", MEMBER),
    row("DELETE", "/-/org/{organisation}/user", "/-/org/acme/user", r#"{"user":"member"}"#),
    row("GET", "/-/org/{organisation}/team", "/-/org/acme/team", ""),
    row("PUT", "/-/org/{organisation}/team", "/-/org/acme/team", r#"{"name":"other"}"#),
    row("GET", "/-/org/{text}/package", "/-/org/acme/package", ""),
    row("DELETE", "/-/team/{organisation}/{team}", "/-/team/acme/dev", ""),
    row("GET", "/-/team/{organisation}/{team}/user", "/-/team/acme/dev/user", ""),
    row("PUT", "/-/team/{organisation}/{team}/user", "/-/team/acme/dev/user", r#"{"user":"member"}"#),
    row("DELETE", "/-/team/{organisation}/{team}/user", "/-/team/acme/dev/user", r#"{"user":"member"}"#),
    row("GET", "/-/team/{organisation}/{team}/package", "/-/team/acme/dev/package", ""),
    row("PUT", "/-/team/{organisation}/{team}/package", "/-/team/acme/dev/package", GRANT),
    row("DELETE", "/-/team/{organisation}/{team}/package", "/-/team/acme/dev/package", GRANT),
    row("GET", "/-/user/{text}/package", "/-/user/owner/package", ""),
    row("GET", "/-/-/package", "/-/-/package", ""),
    row("GET", "/-/package/{package}/access", "/-/package/SCOPE%2fNAME/access", ""),
    row("POST", "/-/package/{package}/access", "/-/package/SCOPE%2fNAME/access", r#"{"access":"restricted"}"#),
    row("GET", "/-/package/{package}/visibility", "/-/package/SCOPE%2fNAME/visibility", ""),
    row("GET", "/-/package/{package}/collaborators", "/-/package/SCOPE%2fNAME/collaborators", ""),
    row("GET", "/-/package/{package}/owners", "/-/package/SCOPE%2fNAME/owners", ""),
    row("PUT", "/-/package/{package}/owners", "/-/package/SCOPE%2fNAME/owners", r#"{"user":"reader"}"#),
    row("DELETE", "/-/package/{package}/owners/{text}", "/-/package/SCOPE%2fNAME/owners/reader", ""),
    row("GET", "/-/_view/starredByUser", "/-/_view/starredByUser?key=%22owner%22", ""),
    row("GET", "/-/user/v1/star", "/-/user/v1/star", ""),
    row("PUT", "/-/user/v1/star", "/-/user/v1/star", STAR),
    row("DELETE", "/-/user/v1/star", "/-/user/v1/star", STAR),
    row("PUT", "/-/user/package/{package}/star", "/-/user/package/SCOPE%2fNAME/star", ""),
    row("DELETE", "/-/user/package/{package}/star", "/-/user/package/SCOPE%2fNAME/star", ""),
    row("GET", "/-/user/{text}/stars", "/-/user/owner/stars", ""),
    row("GET", "/-/util/user/{text}/stars", "/-/util/user/owner/stars", ""),
    row("POST", "/-/npm/v1/security/advisories/bulk", "/-/npm/v1/security/advisories/bulk", r#"{"SCOPE/NAME":["1.0.0"]}"#),
    row("POST", "/-/npm/v1/security/audits/quick", "/-/npm/v1/security/audits/quick", r#"{"requires":{"SCOPE/NAME":"1"},"dependencies":{"SCOPE/NAME":{"version":"1.0.0"}}}"#),
    row("POST", "/-/npm/v1/security/audits", "/-/npm/v1/security/audits", r#"{"requires":{"SCOPE/NAME":"1"},"dependencies":{"SCOPE/NAME":{"version":"1.0.0"}}}"#),
    row("GET", "/-/npm/v1/keys", "/-/npm/v1/keys", ""),
    row("GET", "/-/npm/v1/attestations/{text}", "/-/npm/v1/attestations/SCOPE%2fNAME@1.0.0", ""),
    row("GET", "/-/npm/v1/bootstrap", "/-/npm/v1/bootstrap?scope=acme", ""),
    row("POST", "/-/admin/package-cache/invalidate", "/-/admin/package-cache/invalidate", r#"{"package":"SCOPE/NAME"}"#),
    row("POST", "/-/admin/policy-cache/invalidate", "/-/admin/policy-cache/invalidate", ""),
    row("POST", "/-/admin/reindex", "/-/admin/reindex", ""),
    row("GET", "/-/admin/storage-health", "/-/admin/storage-health", ""),
    row("GET", METRICS, METRICS, ""),
    row("GET", "/-/v1/search", "/-/v1/search?text=acme", ""),
    row("GET", "/-/all", "/-/all", ""),
    row("GET", "/-/all/since", "/-/all/since?startkey=@", ""),
    row("GET", "/-/verdaccio/data/packages", "/-/verdaccio/data/packages", ""),
    row("GET", "/-/verdaccio/data/search/{text}", "/-/verdaccio/data/search/acme", ""),
    row("GET", "/-/verdaccio/data/sidebar/{package}", "/-/verdaccio/data/sidebar/SCOPE%2fNAME", ""),
    row("GET", "/-/verdaccio/data/package/readme/{package}", "/-/verdaccio/data/package/readme/SCOPE%2fNAME", ""),
    row("GET", "/-/verdaccio/data/package/readme/{package}/{version}", "/-/verdaccio/data/package/readme/SCOPE%2fNAME/1.0.0", ""),
    row("POST", "/-/verdaccio/sec/login", "/-/verdaccio/sec/login", r#"{"username":"owner","password":"password"}"#),
    row("PUT", "/-/verdaccio/sec/signup", "/-/verdaccio/sec/signup", r#"{"name":"newcomer","password":"password"}"#),
    row("PUT", "/-/verdaccio/sec/reset_password", "/-/verdaccio/sec/reset_password", r#"{"password":{"old":"password","new":"password2"}}"#),
    row("GET", "/-/package/{package}/dist-tags", "/-/package/SCOPE%2fNAME/dist-tags", ""),
    row("PUT", "/-/package/{package}/dist-tags", "/-/package/SCOPE%2fNAME/dist-tags", r#"{"latest":"1.0.0","next":"1.0.0"}"#),
    row("POST", "/-/package/{package}/dist-tags", "/-/package/SCOPE%2fNAME/dist-tags", r#"{"next":"1.0.0"}"#),
    row("GET", "/-/package/{package}/dist-tags/{text}", "/-/package/SCOPE%2fNAME/dist-tags/latest", ""),
    row("PUT", "/-/package/{package}/dist-tags/{text}", "/-/package/SCOPE%2fNAME/dist-tags/next", TAG),
    row("POST", "/-/package/{package}/dist-tags/{text}", "/-/package/SCOPE%2fNAME/dist-tags/next", TAG),
    row("DELETE", "/-/package/{package}/dist-tags/{text}", "/-/package/SCOPE%2fNAME/dist-tags/beta", ""),
    row("GET", "/-/web/cached", "/-/web/cached", ""),
    row("GET", "/-/web/admin", "/-/web/admin", ""),
    row("POST", "/-/web/admin/reindex", "/-/web/admin/reindex", ""),
    row("POST", "/-/web/admin/storage-health", "/-/web/admin/storage-health", ""),
    row("GET", "/{package}", "/SCOPE%2fNAME", ""),
    row("PUT", "/{package}", "/SCOPE%2fNAME", "publish"),
    row("PUT", "/{package}/-rev/{text}", "/SCOPE%2fNAME/-rev/1", OWNERS),
    row("DELETE", "/{package}/-rev/{text}", "/SCOPE%2fNAME/-rev/1", ""),
    row("GET", "/{package}/-/{file}", "/SCOPE%2fNAME/-/NAME-1.0.0.tgz", ""),
    row("DELETE", "/{package}/-/{file}/-rev/{text}", "/SCOPE%2fNAME/-/NAME-1.0.0.tgz/-rev/1", ""),
    row("GET", "/{package}/{version}", "/SCOPE%2fNAME/1.0.0", ""),
    row("PUT", "/{package}/{version}", "/SCOPE%2fNAME/next", TAG),
];

/// Method and route of each handler in the table of routes; those that are never there are left out.
pub(super) fn routes() -> BTreeSet<(String, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/mod.rs");
    let text = fs::read_to_string(file).unwrap();
    let mut routes = BTreeSet::from([("GET".to_owned(), METRICS.to_owned())]);
    for line in text.lines() {
        let Some((_, rest)) = line.split_once(".route(\"") else {
            assert!(!line.contains(".route("), "one line a route: {line}");
            continue;
        };
        let (route, handlers) = rest.split_once('"').unwrap();
        if handlers.contains("any(not_found)") {
            continue;
        }
        let before = routes.len();
        for method in ["get", "put", "post", "delete", "patch", "head", "any"] {
            if handlers.contains(&format!("{method}(")) {
                routes.insert((method.to_uppercase(), route.to_owned()));
            }
        }
        assert!(routes.len() > before, "no method that is known: {line}");
    }
    routes
}
