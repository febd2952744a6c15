//! Keys of Verdaccio's files that have no setting here: what each comes to.

use super::yaml::snake_case;

/// A key, or all keys below it.
#[derive(Debug)]
pub(super) struct Foreign {
    /// Its path, words with `_` between them.
    path: &'static str,
    /// Values with which there is nothing to say: what they ask for is so here.
    fine: Fine,
    /// What it comes to, and what to do instead.
    pub(super) message: &'static str,
}

#[derive(Debug)]
enum Fine {
    Any,
    These(&'static [&'static str]),
}

impl Foreign {
    /// Whether `value` asks for nothing that is otherwise here.
    pub(super) fn is_fine(&self, value: &str) -> bool {
        match self.fine {
            Fine::Any => true,
            Fine::These(values) => values.iter().any(|fine| fine.eq_ignore_ascii_case(value)),
        }
    }
}

/// What the key at `path` comes to; `None` if Verdaccio has no such key.
pub(super) fn find(path: &str) -> Option<&'static Foreign> {
    let path: Vec<String> = path.split('.').map(snake_case).collect();
    let path = path.join(".");
    let is_at = |foreign: &&Foreign| {
        let rest = path.strip_prefix(foreign.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let known = FOREIGN.iter().filter(is_at);
    known.max_by_key(|foreign| foreign.path.len())
}

/// It does nothing here, and need not.
const fn needless(path: &'static str, message: &'static str) -> Foreign {
    let fine = Fine::Any;
    Foreign {
        path,
        fine,
        message,
    }
}

/// It does nothing here, which is told unless it is one of `fine`.
const fn missing(
    path: &'static str,
    fine: &'static [&'static str],
    message: &'static str,
) -> Foreign {
    let fine = Fine::These(fine);
    Foreign {
        path,
        fine,
        message,
    }
}

const LOOK: &str = "does nothing: the pages here have a look of their own, in the light or the dark as the browser \
                    asks for; `web.title` names them";
const SCRIPTS: &str =
    "does nothing: the pages here run no scripts of others; a proxy in front may add them";
const NO_JWT: &str = "does nothing: tokens that are made here are no JWTs, and can be revoked; those that Verdaccio \
                      made go on working";
const RATE: &str = "does nothing: guesses at passwords are slowed down anyway, for each user and address; \
                    RUSTACCIO_RATE_LIMIT_BACKEND limits requests of all kinds";
const LOG: &str = "does nothing: log lines go to standard error; whoever starts rustaccio may write them to a file, such \
                   as systemd's journal or `2>> FILE`";

const FOREIGN: &[Foreign] = &[
    needless("config_path", "is where Verdaccio found the file"),
    needless("self_path", "is where Verdaccio found the file"),
    needless(
        "secret",
        "does nothing: tokens of Verdaccio's are read with the secret in the storage folder, as there",
    ),
    needless(
        "server_id",
        "does nothing: an uplink that is this registry itself is left out",
    ),
    missing(
        "plugins",
        &[],
        "does nothing: plugins of Verdaccio are JavaScript and do not run here; remove it",
    ),
    missing("theme", &[], LOOK),
    missing(
        "user_agent",
        &["false", "hidden"],
        "does nothing: no answer names the program; for what an uplink sees, set `user-agent` in its `headers`",
    ),
    missing(
        "_debug",
        &["false"],
        "does nothing; `log.level: debug` says more",
    ),
    missing("user_rate_limit", &[], RATE),
    missing(
        "https.ca",
        &[],
        "does nothing: put the certificates between yours and the root into the file of `https.cert`",
    ),
    needless(
        "security.api.legacy",
        "does nothing: tokens that are made here can be revoked; those that Verdaccio made go on working, of both kinds",
    ),
    needless(
        "security.api.migrate_to_secure_legacy_signature",
        "does nothing: the secret of Verdaccio is never changed",
    ),
    missing("security.api.jwt", &[], NO_JWT),
    missing(
        "security.web",
        &[],
        "does nothing: who signs in with a browser stays so as long as RUSTACCIO_AUTH_TOKEN_TTL_SECS says",
    ),
    missing("security", &[], NO_JWT),
    needless(
        "server.legacy_auth_cache",
        "does nothing: what was right is remembered for a minute anyway",
    ),
    needless(
        "server.dotfiles",
        "does nothing: no files of a folder are served",
    ),
    needless(
        "server.hide_static_logs",
        "does nothing: requests are not logged one by one",
    ),
    missing(
        "server.plugin_prefix",
        &["verdaccio"],
        "does nothing: plugins of Verdaccio do not run here",
    ),
    needless(
        "publish.keep_readmes",
        "does nothing: each version shows the README that it was published with",
    ),
    missing(
        "auth.htpasswd.algorithm",
        &["bcrypt"],
        "is read in the file, but new passwords are kept in bcrypt: the others are broken",
    ),
    needless(
        "auth.htpasswd.slow_verify_ms",
        "does nothing: passwords are compared beside other work",
    ),
    needless("auth.local", "is what is so anyway"),
    missing(
        "web.gravatar",
        &["false"],
        "does nothing: nobody else is told whose package is looked at",
    ),
    missing("web.login_url", &[], LOOK),
    missing(
        "web.html_cache",
        &["true"],
        "does nothing: pages are made for each request, in about a millisecond",
    ),
    missing(
        "web.public_path",
        &[],
        "does nothing: `url_prefix` and `public_url` say where pages are",
    ),
    missing("web.rate_limit", &[], RATE),
    missing("web.meta_scripts", &[], SCRIPTS),
    missing("web.scripts_body_before", &[], SCRIPTS),
    missing("web.scriptsbody_before", &[], SCRIPTS),
    missing("web.scripts_body_after", &[], SCRIPTS),
    missing(
        "web.pkg_managers",
        &["npm,pnpm,yarn", "yarn,pnpm,npm"],
        "does nothing: a package's page shows the commands of all clients",
    ),
    missing(
        "web.sort_packages",
        &["asc"],
        "does nothing: what was published last comes first",
    ),
    missing(
        "web.scope",
        &[],
        "does nothing: pages show how npm is pointed at the registry whatever the scope",
    ),
    missing("web.dark_mode", &["false"], LOOK),
    missing(
        "web.hide_deprecated_versions",
        &["false"],
        "does nothing: deprecated versions are shown as such",
    ),
    missing("web.show_info", &["true"], LOOK),
    missing("web.show_settings", &["true"], LOOK),
    missing("web.show_theme_switch", &["true"], LOOK),
    missing("web.show_footer", &["true"], LOOK),
    missing("web.show_search", &["true"], LOOK),
    missing("web.show_download_tarball", &["true"], LOOK),
    missing("web.show_raw", &["true"], LOOK),
    missing("web.show_uplinks", &["true"], LOOK),
    missing("web.primary_color", &[], LOOK),
    missing("web.logo", &[], LOOK),
    missing("web.logo_dark", &[], LOOK),
    missing("web.favicon", &[], LOOK),
    missing("web", &[], LOOK),
    missing("log.type", &["stdout"], LOG),
    missing("log.path", &[], LOG),
    missing("log.sync", &["false"], LOG),
    missing(
        "log.colors",
        &["true"],
        "does nothing: lines have colours on a terminal",
    ),
    missing(
        "log.redact",
        &[],
        "does nothing: no password and no token is ever logged",
    ),
    missing(
        "middlewares.audit",
        &[],
        "does nothing: audits are asked of the uplinks, each with its own `timeout` and `strict_ssl`",
    ),
    missing(
        "flags.change_password",
        &["true"],
        "does nothing: users can always change their passwords",
    ),
    missing(
        "flags.create_user",
        &["true"],
        "does nothing: whoever may make an account with npm may make one on the pages; `max_users: -1` ends both",
    ),
    missing("flags", &["false"], "is not known and does nothing"),
    needless("experiments.token", "is always so"),
    missing(
        "experiments.tarball_url_redirect",
        &[],
        "does nothing: tarballs in a bucket are read from there with RUSTACCIO_TARBALL_REDIRECT",
    ),
    missing("experiments", &["false"], "is not known and does nothing"),
];

/// What is said of a key that asks for a plugin; `None` where the plugin's work is done here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    /// Without it nobody could log in, packages would be elsewhere, or what is to be kept out would come in.
    Refused(&'static str),
    /// Its absence opens nothing.
    LeftOut(&'static str),
}

/// What becomes of the plugin `name` below `key`.
pub(super) fn plugin(key: &str, name: &str) -> Plugin {
    use Plugin::{LeftOut, Refused};
    let name = name.trim_start_matches("verdaccio-").to_ascii_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match key {
        "auth" if is(&["ldap", "active"]) => Refused(
            "is a plugin of Verdaccio, which does not run here; let a small service ask the directory, and set \
             RUSTACCIO_AUTH_BACKEND=http and RUSTACCIO_AUTH_HTTP_BASE_URL (docs/access.md)",
        ),
        "auth" => Refused(
            "is a plugin of Verdaccio, which does not run here; use accounts of this registry (remove it), or a \
             service of yours with RUSTACCIO_AUTH_BACKEND=http (docs/access.md)",
        ),
        "store" if is(&["google", "gcs"]) => Refused(
            "is a plugin of Verdaccio, which does not run here; set RUSTACCIO_TARBALL_BACKEND=gcs and \
             RUSTACCIO_GCS_BUCKET (docs/buckets.md)",
        ),
        "store" if is(&["azure"]) => Refused(
            "is a plugin of Verdaccio, which does not run here; set RUSTACCIO_TARBALL_BACKEND=azure, \
             RUSTACCIO_AZURE_ACCOUNT and RUSTACCIO_AZURE_CONTAINER (docs/buckets.md)",
        ),
        "store" if is(&["minio", "s3"]) => Refused(
            "is a plugin of Verdaccio, which does not run here; set RUSTACCIO_TARBALL_BACKEND=s3, \
             RUSTACCIO_S3_BUCKET and RUSTACCIO_S3_ENDPOINT (docs/buckets.md)",
        ),
        "store" => Refused(
            "is a plugin of Verdaccio, which does not run here; use the folder of `storage`, or a bucket with \
             RUSTACCIO_TARBALL_BACKEND (docs/buckets.md)",
        ),
        "filters" => Refused(
            "is a plugin of Verdaccio, which does not run here, and without it what it keeps out would come in; use \
             rules in `packages`, or a service that decides with RUSTACCIO_POLICY_BACKEND=http (docs/access.md), and remove it",
        ),
        _ if is(&["metrics", "prometheus"]) => LeftOut(
            "is a plugin of Verdaccio, which does not run here; RUSTACCIO_METRICS_BACKEND=prometheus counts (docs/metrics.md)",
        ),
        _ => LeftOut("is a plugin of Verdaccio, which does not run here; remove it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_key_counts() {
        let message = |path: &str| find(path).map(|foreign| foreign.message);
        assert_eq!(message("web.rateLimit.max"), Some(RATE));
        assert_eq!(message("web.whatever"), Some(LOOK));
        assert_eq!(message("security.api.jwt.verify"), Some(NO_JWT));
        assert_eq!(message("webs"), None);
        assert!(find("log.type").unwrap().is_fine("stdout"));
        assert!(!find("log.type").unwrap().is_fine("file"));
    }

    #[test]
    fn plugins_that_protect_something_are_refused() {
        assert!(
            matches!(plugin("auth", "verdaccio-ldap"), Plugin::Refused(text) if text.contains("directory"))
        );
        assert!(matches!(plugin("filters", "x"), Plugin::Refused(_)));
        assert!(matches!(plugin("store", "memory"), Plugin::Refused(_)));
        assert!(matches!(plugin("middlewares", "x"), Plugin::LeftOut(_)));
    }
}
