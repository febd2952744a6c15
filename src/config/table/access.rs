//! Settings of accounts, rules, administrators and publishing.

use super::{
    Kind::{Choice, Number, Path, Seconds, Switch, Text, Unused},
    Setting, Target,
};
use crate::config::{HtpasswdConfig, Registration, units};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_REGISTRATION",
        "open",
        Choice(&["open", "closed"], |target, word| {
            target.config.auth.registration = match word {
                "closed" => Registration::Closed,
                _ => Registration::Open,
            };
        }),
        "Whether visitors may make accounts: `open` or `closed`.",
    ),
    Setting::new(
        "RUSTACCIO_MAX_USERS",
        "",
        Text(|target, text| {
            match text.parse::<i64>() {
                Ok(-1) => target.config.auth.registration = Registration::Closed,
                Ok(count) => {
                    let count = usize::try_from(count);
                    target.config.auth.max_users =
                        Some(count.map_err(|_| "must be -1 or more".to_owned())?);
                }
                Err(_)
                    if text
                        .trim_start_matches('+')
                        .eq_ignore_ascii_case("infinity") => {}
                Err(_) => return Err("must be a whole number; -1 closes registration".to_owned()),
            }
            Ok(())
        }),
        "The largest number of accounts; -1 closes registration.",
    )
    .also(&["auth_max_users", "auth_htpasswd_max_users"]),
    Setting::new(
        "RUSTACCIO_AUTH_HTPASSWD_FILE",
        "",
        Path(|target, path| htpasswd(target).file = path),
        "A file of users and hashes of their passwords, as Apache and Verdaccio have it, which is the truth \
         about both; new ones are added to it. Without it, users are among the other accounts. In a \
         folder of Verdaccio's, the one that Verdaccio would use.",
    ),
    Setting::new(
        "RUSTACCIO_AUTH_HTPASSWD_ROUNDS",
        "10",
        Number(4..=16, |target, rounds| {
            htpasswd(target).rounds = u32::try_from(rounds).unwrap_or(10);
        }),
        "The cost of bcrypt for new passwords in that file; each step more takes twice as long.",
    ),
    Setting::new(
        "RUSTACCIO_PASSWORD_MIN",
        "3",
        Number(1..=1024, |target, count| {
            target.config.auth.password_min = usize::try_from(count).unwrap_or(3);
        }),
        "The smallest length of a new password in characters.",
    ),
    Setting::new(
        "RUSTACCIO_PASSWORD_PATTERN",
        "",
        Text(|target, text| {
            target.config.auth.password_pattern = Some(units::pattern(text)?);
            Ok(())
        }),
        "What a new password has to match besides: a regular expression, as in Verdaccio with slashes \
         around it or without.",
    )
    .also(&["server_password_validation_regex"]),
    Setting::new(
        "RUSTACCIO_AUTH_TOKEN_TTL_SECS",
        "2592000",
        Seconds(0..=u64::MAX, |target, span| {
            target.config.auth.token_ttl = (!span.is_zero()).then_some(span);
        }),
        "How long a login lasts; 0 for ever. Tokens of `npm token create` have their own expiry.",
    )
    .also(&["security_api_jwt_sign_expires_in"]),
    Setting::new(
        "RUSTACCIO_LOGIN_SESSION_TTL_SECONDS",
        "120",
        Seconds(1..=86_400, |target, span| {
            target.config.auth.login_session_ttl = span;
        }),
        "How long a login in the browser may take.",
    ),
    Setting::new(
        "RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED",
        "",
        Switch(|target, on| target.config.admin.allow_any_authenticated = Some(on)),
        "Whether every signed-in user is an administrator. Without it, only while registration is \
         closed.",
    ),
    Setting::new(
        "RUSTACCIO_ADMIN_USERS",
        "",
        Text(|target, text| {
            target.config.admin.users = units::words(text).map(str::to_owned).collect();
            Ok(())
        }),
        "Users that are administrators, with commas or spaces between.",
    ),
    Setting::new(
        "RUSTACCIO_ADMIN_GROUPS",
        "",
        Text(|target, text| {
            target.config.admin.groups = units::words(text).map(str::to_owned).collect();
            Ok(())
        }),
        "Groups whose members are administrators, with commas or spaces between.",
    ),
    Setting::new(
        "RUSTACCIO_PUBLISH_CHECK_OWNERS",
        "false",
        Switch(|target, on| target.config.publish.check_owners = on),
        "Whether only a package's owners may change it.",
    ),
    Setting::new(
        "RUSTACCIO_PUBLISH_ALLOW_OFFLINE",
        "false",
        Switch(|target, on| target.config.publish.allow_offline = on),
        "Whether a new name may be published while its uplink cannot be asked if it has that name.",
    ),
    Setting::new(
        "RUSTACCIO_PUBLISH_IMMUTABLE",
        "false",
        Switch(|target, on| target.config.publish.immutable = on),
        "Whether a version that was unpublished may never be published again.",
    ),
    Setting::new(
        "RUSTACCIO_STRICT_REVISION_CHECK",
        "",
        Switch(|target, on| target.config.publish.strict_revision_check = on),
        "Whether every change must be based on the current revision of the package. Without it, only in \
         the profile `managed`.",
    ),
    Setting::new(
        "RUSTACCIO_SIGNING",
        "on",
        Switch(|target, on| target.config.publish.signing = on),
        "Whether published versions are signed, so that `npm audit signatures` can check them; see `docs/signatures.md`.",
    ),
    Setting::new(
        "RUSTACCIO_SECRET_KEY",
        "",
        Text(|target, text| {
            if text.len() < 32 {
                return Err("must be 32 characters or more that nobody can guess".to_owned());
            }
            target.config.storage.secret_key = Some(text.to_owned().into());
            Ok(())
        }),
        "What seeds of second factors and the signing key are encrypted with. Without it, the key in \
         `secret.key` in the data folder.",
    )
    .secret(),
    Setting::new(
        "RUSTACCIO_NPM_TOKEN",
        "",
        Unused,
        "Of clients: where what `/-/npm/v1/bootstrap` answers makes them look for their token. It means \
         nothing to the registry.",
    )
    .secret(),
];

fn htpasswd(target: &mut Target) -> &mut HtpasswdConfig {
    target.config.auth.htpasswd.get_or_insert_default()
}
