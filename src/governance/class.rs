//! [`Class`]: what kind of request one is, for limits and metrics.

use http::Method;

/// The kind of a request, by its method and the route that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Read a tarball.
    Download,
    /// Read anything else of a package.
    Access,
    /// Publish, or change a package otherwise.
    Publish,
    /// Remove a version or a package.
    Unpublish,
    /// Search, or list all packages.
    Search,
    /// Call an operator's endpoint.
    Admin,
    /// Anything else.
    Other,
}

impl Class {
    /// The class of a request for `path`, which has its canonical form: a package is one segment,
    /// whatever the client wrote. `None` for what is never limited: machines ask it whether the
    /// registry is well.
    pub fn of(method: &Method, path: &str) -> Option<Self> {
        let method = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let is = |wanted: Method| *method == wanted;
        let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
        // More than these decide about none.
        let parts: [Option<&str>; 6] = std::array::from_fn(|_| segments.next());
        Some(match parts {
            [Some("-"), Some("ping"), None, ..]
            | [Some("-"), Some("health"), Some("live" | "ready"), None, ..] => return None,
            [Some("-"), Some("admin"), ..] => Self::Admin,
            [Some("-"), Some("verdaccio"), below @ ..] if is(Method::GET) => Self::of_pages(below),
            [Some("-"), Some("all"), None | Some("since"), ..]
            | [Some("-"), Some("v1"), Some("search"), None, ..]
                if is(Method::GET) =>
            {
                Self::Search
            }
            [
                Some("-"),
                Some("package"),
                Some(_),
                Some("dist-tags"),
                _,
                None,
            ] => match *method {
                Method::GET => Self::Access,
                Method::PUT | Method::POST | Method::DELETE => Self::Publish,
                _ => Self::Other,
            },
            [Some("-"), Some("package"), Some(_), Some("owners"), _, None]
            | [
                Some("-"),
                Some("package"),
                Some(_),
                Some("access"),
                None,
                ..,
            ]
            | [
                Some("-"),
                Some("team"),
                Some(_),
                Some(_),
                Some("package"),
                None,
            ]
            | [
                Some("-"),
                Some("user"),
                Some("package"),
                Some(_),
                Some("star"),
                None,
            ]
            | [Some("-"), Some("user"), Some("v1"), Some("star"), None, ..]
                if is(Method::PUT) || is(Method::POST) || is(Method::DELETE) =>
            {
                Self::Publish
            }
            [Some("-"), ..] => Self::Other,
            [Some(_), Some("-"), Some(_), None, ..] if is(Method::GET) => Self::Download,
            [Some(_), Some("-rev"), Some(_), None, ..] if is(Method::PUT) || is(Method::DELETE) => {
                Self::Unpublish
            }
            [Some(_), Some("-"), Some(_), Some("-rev"), Some(_), None] if is(Method::DELETE) => {
                Self::Unpublish
            }
            [Some(package), None, ..] | [Some(package), Some(_), None, ..]
                if !package.is_empty() =>
            {
                match *method {
                    Method::GET => Self::Access,
                    Method::PUT => Self::Publish,
                    _ => Self::Other,
                }
            }
            _ => Self::Other,
        })
    }

    /// The class of a read below `/-/verdaccio/`.
    fn of_pages(below: [Option<&str>; 4]) -> Self {
        let [Some("data"), below @ ..] = below else {
            return Self::Other;
        };
        match below {
            [Some("packages"), None, _] | [Some("search"), Some(_), None] => Self::Search,
            [Some("sidebar"), Some(_), None] | [Some("package"), Some("readme"), Some(_)] => {
                Self::Access
            }
            _ => Self::Other,
        }
    }

    /// The word in keys, labels and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Access => "access",
            Self::Publish => "publish",
            Self::Unpublish => "unpublish",
            Self::Search => "search",
            Self::Admin => "admin",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_that_of_the_route() {
        let check = |method: Method, path: &str, class: &str| {
            let found = Class::of(&method, path).map_or("never limited", Class::as_str);
            assert_eq!(found, class, "{method} {path}");
        };
        for method in [Method::GET, Method::HEAD] {
            check(method.clone(), "/app", "access");
            check(method.clone(), "/@acme%2fapp", "access");
            check(method.clone(), "/@acme%2fapp/1.0.0", "access");
            check(method.clone(), "/app/-/app-1.0.0.tgz", "download");
            check(method.clone(), "/-/package/app/dist-tags", "access");
            check(method.clone(), "/-/v1/search", "search");
            check(method.clone(), "/-/all", "search");
            check(method.clone(), "/-/all/since", "search");
            check(method.clone(), "/-/ping", "never limited");
            check(method.clone(), "/-/health/ready", "never limited");
            check(method.clone(), "/-/whoami", "other");
            check(method.clone(), "/-/npm/v1/user", "other");
            check(method.clone(), "/", "other");
        }
        check(Method::PUT, "/app", "publish");
        check(Method::PUT, "/app/latest", "publish");
        check(Method::PUT, "/app/-rev/1-a", "unpublish");
        check(Method::DELETE, "/app/-rev/1-a", "unpublish");
        let tarball = "/app/-/app-1.0.0.tgz/-rev/1-a";
        check(Method::DELETE, tarball, "unpublish");
        for method in [Method::PUT, Method::POST, Method::DELETE] {
            check(method, "/-/package/app/dist-tags/next", "publish");
        }
        // Other changes of a package, as documented.
        check(Method::PUT, "/-/package/app/owners", "publish");
        check(Method::DELETE, "/-/package/app/owners/ada", "publish");
        check(Method::POST, "/-/package/@acme%2fapp/access", "publish");
        for method in [Method::PUT, Method::DELETE] {
            check(method.clone(), "/-/team/acme/web/package", "publish");
            check(method.clone(), "/-/user/package/app/star", "publish");
            check(method.clone(), "/-/user/v1/star", "publish");
            check(method, "/-/team/acme/web/user", "other");
        }
        check(Method::GET, "/-/package/app/access", "other");
        check(Method::POST, "/-/admin/reindex", "admin");
        check(Method::PUT, "/-/user/org.couchdb.user:a", "other");
        // What Verdaccio's pages read.
        check(Method::GET, "/-/verdaccio/data/packages", "search");
        check(Method::HEAD, "/-/verdaccio/data/search/app", "search");
        for path in [
            "sidebar/app",
            "package/readme/app",
            "package/readme/app/1.0.0",
        ] {
            check(Method::GET, &format!("/-/verdaccio/data/{path}"), "access");
        }
        check(Method::POST, "/-/verdaccio/sec/login", "other");
        check(Method::GET, "/-/verdaccio/data/search", "other");
        // What no route takes.
        check(Method::DELETE, "/app", "other");
        check(Method::PUT, "/app/-/app-1.0.0.tgz", "other");
        check(Method::GET, "/app/a/b/c/d/e/f", "other");
        check(Method::GET, "/-/package/app/dist-tags/a/b", "other");
    }
}
