//! Runtime profiles: which settings go together. The rest of a start need not know of them.
//!
//! Only a profile that somebody asked for is checked: whoever asks for none may combine what works.

use std::collections::BTreeMap;

use super::{Config, Given, settings};

/// What kind of registry this is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    /// One node on a local disk.
    Local,
    /// Nodes on a bucket.
    S3,
    /// Nodes on a bucket with shared limits, and accounts from outside.
    Managed,
}

/// A setting, and what is wrong with it.
pub(super) type Violation = (&'static str, String);

/// The settings as far as profiles are about them.
pub(super) struct Combination<'a> {
    pub(super) config: &'a Config,
    pub(super) given: &'a BTreeMap<&'static str, Given>,
}

const PROFILE: &str = "RUSTACCIO_RUNTIME_PROFILE";
const MANAGED_MODE: &str = "RUSTACCIO_MANAGED_MODE";
const TARBALLS: &str = "RUSTACCIO_TARBALL_BACKEND";
const RATE_LIMIT: &str = "RUSTACCIO_RATE_LIMIT_BACKEND";
const QUOTA: &str = "RUSTACCIO_QUOTA_BACKEND";
const COORDINATION: &str = "RUSTACCIO_STATE_COORDINATION_BACKEND";
/// The words for tarballs on disk.
const ON_DISK: [&str; 3] = ["local", "file", "fs"];

impl Combination<'_> {
    /// All that does not go together; nothing where no profile was asked for.
    pub(super) fn violations(&self) -> Vec<Violation> {
        let is_managed = is_on(&self.text(MANAGED_MODE, "false"));
        let Some(profile) = self.profile() else {
            return Vec::new();
        };
        let mut violations = match profile {
            Profile::Local => self.requires(
                "local",
                &[
                    (TARBALLS, &["local"]),
                    (RATE_LIMIT, &["none", "memory"]),
                    (QUOTA, &["none", "memory"]),
                    (COORDINATION, &["none"]),
                ],
            ),
            Profile::S3 => self.requires(
                "s3",
                &[
                    (TARBALLS, &["s3"]),
                    (RATE_LIMIT, &["none", "memory"]),
                    (QUOTA, &["none", "memory"]),
                    (COORDINATION, &["none", "s3"]),
                ],
            ),
            Profile::Managed => self.requires(
                "managed",
                &[
                    (RATE_LIMIT, &["redis"]),
                    (QUOTA, &["postgres"]),
                    (COORDINATION, &["redis", "s3"]),
                ],
            ),
        };
        if profile == Profile::Managed {
            violations.extend(self.guardrails());
        } else if is_managed {
            let name = if profile == Profile::Local {
                "local"
            } else {
                "s3"
            };
            violations.push((
                MANAGED_MODE,
                format!("{PROFILE}={name} requires {MANAGED_MODE}=false"),
            ));
        }
        violations
    }

    /// Whether nodes are run for strangers.
    pub(super) fn is_managed(&self) -> bool {
        self.profile() == Some(Profile::Managed)
    }

    /// The profile that was asked for.
    fn profile(&self) -> Option<Profile> {
        match self.text(PROFILE, "").as_str() {
            "local" => Some(Profile::Local),
            "s3" => Some(Profile::S3),
            "managed" => Some(Profile::Managed),
            _ => is_on(&self.text(MANAGED_MODE, "false")).then_some(Profile::Managed),
        }
    }

    /// What nodes need that strangers use.
    fn guardrails(&self) -> Vec<Violation> {
        let admin = &self.config.admin;
        let mut violations = Vec::new();
        let mut require = |is_met: bool, variable: &'static str, wanted: &str| {
            if !is_met {
                violations.push((variable, format!("{PROFILE}=managed requires {wanted}")));
            }
        };
        require(
            admin.allow_any_authenticated == Some(false),
            "RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED",
            "RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED=false",
        );
        require(
            !admin.users.is_empty() || !admin.groups.is_empty(),
            "RUSTACCIO_ADMIN_USERS",
            "RUSTACCIO_ADMIN_USERS or RUSTACCIO_ADMIN_GROUPS to name somebody",
        );
        require(
            is_on(&self.text("RUSTACCIO_AUTH_EXTERNAL_MODE", "false")),
            "RUSTACCIO_AUTH_EXTERNAL_MODE",
            "auth.plugin.externalMode=true (RUSTACCIO_AUTH_EXTERNAL_MODE=true)",
        );
        require(
            self.text("RUSTACCIO_AUTH_BACKEND", "local") == "http",
            "RUSTACCIO_AUTH_BACKEND",
            "RUSTACCIO_AUTH_BACKEND=http",
        );
        require(
            !self
                .text("RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT", "")
                .is_empty(),
            "RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT",
            "RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT to be set",
        );
        violations
    }

    fn requires(&self, profile: &str, wanted: &[(&'static str, &[&str])]) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (variable, words) in wanted {
            let text = self.text(variable, default_of(variable));
            if !words.contains(&text.as_str()) {
                let words = words.join(" or ");
                violations.push((
                    *variable,
                    format!("{PROFILE}={profile} requires {variable}={words}"),
                ));
            }
        }
        violations
    }

    /// What was given for `variable`, in lower case.
    fn text(&self, variable: &str, default: &str) -> String {
        let given = self.given.get(variable).map(|given| given.text.trim());
        let text = given.unwrap_or(default).to_ascii_lowercase();
        if variable == TARBALLS && ON_DISK.contains(&text.as_str()) {
            return "local".to_owned();
        }
        text
    }
}

/// What `variable` is without anybody's doing.
pub(super) fn default_of(variable: &str) -> &'static str {
    let setting = settings().find(|setting| setting.variable == variable);
    setting.map_or("", |setting| setting.default)
}

fn is_on(text: &str) -> bool {
    super::units::switch(text).unwrap_or(false)
}
