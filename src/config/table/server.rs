//! Settings of the server and its runtime.

use super::{
    Kind::{Choice, Number, Path, Seconds, Size, Switch, Text, Wish},
    Setting,
};
use crate::config::{LANGUAGES, LogFormat, units};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_BIND",
        "127.0.0.1:4873",
        Text(|target, text| {
            let addresses = units::words(text).map(units::listen_address);
            let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
            if addresses.is_empty() {
                return Err("names no address; leave it unset for the default".to_owned());
            }
            target.config.server.listen = addresses;
            Ok(())
        }),
        "Where to listen: `host:port`, `[::1]:port`, `unix:/path`, or several with commas. `PORT` \
         alone listens on that port of all addresses and overrules this. With a certificate these \
         speak TLS, unless `http://` stands before them.",
    )
    .also(&["listen"]),
    Setting::new(
        "RUSTACCIO_TLS_CERT",
        "",
        Path(|target, path| target.config.server.tls.certificate = Some(path)),
        "A PEM file with the certificate and those between it and the root. Read again on SIGHUP.",
    )
    .also(&["https_cert"]),
    Setting::new(
        "RUSTACCIO_TLS_KEY",
        "",
        Path(|target, path| target.config.server.tls.key = Some(path)),
        "A PEM file with the certificate's private key.",
    )
    .also(&["https_key"]),
    Setting::new(
        "RUSTACCIO_PUBLIC_URL",
        "",
        Text(|target, text| {
            let url = text.parse().map_err(|error| format!("{error}"))?;
            target.config.server.public_url = Some(url);
            Ok(())
        }),
        "The address that clients use, such as `https://npm.example.com`. Without it, the address \
         that each request was sent to.",
    ),
    Setting::new(
        "RUSTACCIO_FORWARDED_PROTO_HEADER",
        "x-forwarded-proto",
        Text(|target, text| {
            let name = text.parse().map_err(|_| "must be the name of a header".to_owned())?;
            target.config.server.forwarded_proto = name;
            Ok(())
        }),
        "The header in which trusted proxies say `https` or `http`.",
    ),
    Setting::new(
        "RUSTACCIO_URL_PREFIX",
        "/",
        Text(|target, text| {
            target.config.url_prefix = units::url_prefix(text)?;
            Ok(())
        }),
        "The path below which the registry is served.",
    ),
    Setting::new(
        "RUSTACCIO_TRUST_PROXY",
        "false",
        Text(|target, text| {
            target.config.server.trust_proxy = units::trust_proxy(text)?;
            Ok(())
        }),
        "Whose `X-Forwarded-*` headers count, and whose words about the tenant: `false`, `true`, or \
         the proxies' networks. With `true` the client is the last entry of `X-Forwarded-For`; \
         behind several proxies, name their networks. The proxy has to set or delete \
         `X-Rustaccio-Org-Id`, `X-Org-Id`, `X-Rustaccio-Project-Id` and `X-Project-Id`, or clients \
         choose whose limits they use up.",
    )
    .also(&["server_trust_proxy"]),
    Setting::new(
        "RUSTACCIO_MAX_BODY_SIZE",
        "50mb",
        Size(|target, bytes| target.config.server.max_body_size = bytes),
        "The largest request body. A tarball takes a third more than its size.",
    ),
    Setting::new(
        "RUSTACCIO_REQUEST_TIMEOUT_SECS",
        "30",
        Seconds(1..=300, |target, span| {
            target.config.server.request_timeout = span;
        }),
        "How long a request may make no progress. A body that moves is never cut.",
    ),
    Setting::new(
        "RUSTACCIO_KEEP_ALIVE_TIMEOUT",
        "75",
        Seconds(1..=86_400, |target, span| {
            target.config.server.keep_alive_timeout = span;
        }),
        "How long an idle connection is kept. Clients expect a minute at least.",
    )
    .also(&["server_keep_alive_timeout"]),
    Setting::new(
        "RUSTACCIO_TOKIO_WORKER_THREADS",
        "",
        Number(1..=128, |target, count| {
            target.config.server.worker_threads = usize::try_from(count).ok();
        }),
        "Threads that run requests. Without it, as many as there are processors, at most 8.",
    ),
    Setting::new(
        "RUSTACCIO_TOKIO_MAX_BLOCKING_THREADS",
        "64",
        Number(8..=512, |target, count| {
            target.config.server.max_blocking_threads = usize::try_from(count).unwrap_or(64);
        }),
        "Threads for disk, hashing and compression.",
    ),
    Setting::new(
        "RUSTACCIO_TOKIO_THREAD_STACK_SIZE",
        "1048576",
        Number(262_144..=16_777_216, |target, bytes| {
            target.config.server.thread_stack_size = usize::try_from(bytes).unwrap_or(1 << 20);
        }),
        "Stack of each thread in bytes.",
    ),
    Setting::new(
        "RUSTACCIO_STARTUP_CONNECTIVITY_CHECK",
        "false",
        Switch(|target, on| target.config.server.startup_connectivity_check = on),
        "Whether to try the addresses of the uplinks, the bucket, Postgres and Redis at start, and log \
         which answer.",
    ),
    Setting::new(
        "RUSTACCIO_LOG_LEVEL",
        "info",
        Text(|target, text| {
            // Verdaccio has two levels between ours.
            let level = match text.to_ascii_lowercase().as_str() {
                "fatal" | "error" => "error",
                "warn" => "warn",
                "info" | "http" => "info",
                "debug" => "debug",
                "trace" => "trace",
                _ => return Err("must be `error`, `warn`, `info`, `debug` or `trace`".to_owned()),
            };
            level.clone_into(&mut target.config.log.level);
            Ok(())
        }),
        "How much is logged: `error`, `warn`, `info`, `debug` or `trace`. `RUST_LOG` overrules it.",
    )
    .also(&["logs_level"]),
    Setting::new(
        "RUSTACCIO_LOG_FORMAT",
        "pretty",
        Choice(
            &["pretty", "pretty-timestamped", "compact", "json"],
            |target, word| {
                target.config.log.format = match word {
                    "json" => LogFormat::Json,
                    "compact" => LogFormat::Compact,
                    _ => LogFormat::Pretty,
                };
            },
        ),
        "How log lines look: `pretty`, `compact` or `json`.",
    )
    .also(&["logs_format"]),
    Setting::new(
        "RUSTACCIO_VERBOSE_DEP_LOGS",
        "false",
        Switch(|target, on| target.config.log.verbose_dependencies = on),
        "Whether the libraries inside may log as much as rustaccio itself.",
    ),
    Setting::new(
        "RUSTACCIO_WEB_ENABLE",
        "true",
        Switch(|target, on| target.config.web.enable = on),
        "Whether there are pages for browsers.",
    )
    .also(&["web_enabled"]),
    Setting::new(
        "RUSTACCIO_WEB_TITLE",
        "Rustaccio",
        Text(|target, text| {
            text.clone_into(&mut target.config.web.title);
            Ok(())
        }),
        "The title of those pages.",
    ),
    Setting::new(
        "RUSTACCIO_WEB_LANGUAGE",
        "en",
        Wish(|target, text| {
            let tag = text.split(['-', '_']).next().unwrap_or_default();
            let tag = tag.to_ascii_lowercase();
            let known = LANGUAGES.into_iter().find(|known| *known == tag);
            target.config.web.language = known.unwrap_or(LANGUAGES[0]);
            let all = LANGUAGES.join("`, `");
            known.map(drop).ok_or_else(|| {
                format!("is none that pages have, which are `{all}`; `{}` is used", LANGUAGES[0])
            })
        }),
        "The language of pages for browsers that ask for none of theirs: `en`, `de`, `es`, `fr`, `zh` or \
         `ja`.",
    )
    .also(&["i18n_web"]),
    Setting::new(
        "RUSTACCIO_WEB_SIGN_IN",
        "true",
        Switch(|target, on| target.config.web.sign_in = on),
        "Whether people sign in on those pages, to see what only they may and to look after their tokens. \
         npm and the others do in any case.",
    )
    .also(&["web_login"]),
    Setting::new(
        "RUSTACCIO_WEB_LOGIN",
        "false",
        Switch(|target, on| target.config.web.web_login = on),
        "Whether `npm login` may go through the browser. Without it, npm asks in the terminal.",
    )
    .in_files("flags_web_login"),
    Setting::new(
        "RUSTACCIO_AUDIT_ENABLED",
        "true",
        Switch(|target, on| target.config.audit = on),
        "Whether `npm audit` is forwarded to the uplinks. Names that only exist here never are.",
    )
    .also(&["middlewares_audit_enabled"]),
];
