//! The managed profile: it starts from its preset and addresses alone, and with no guardrail broken.

use super::{load, preset, problems_of, run};

const PRESET: &str = ".env.managed.example";
const PROFILE: &str = "RUSTACCIO_RUNTIME_PROFILE";

/// The preset with changes; one without a value is taken out.
fn changed(changes: &[(&str, Option<&str>)]) -> Vec<(String, String)> {
    let mut variables = preset(PRESET);
    for (name, value) in changes {
        variables.retain(|(known, _)| known != name);
        variables.extend(value.map(|value| ((*name).to_owned(), value.to_owned())));
    }
    variables
}

/// Each guardrail: what breaks it, the variable that is named, and what is said of it.
type Guardrail = (
    &'static [(&'static str, Option<&'static str>)],
    &'static str,
    &'static str,
);

const GUARDRAILS: &[Guardrail] = &[
    (
        &[("RUSTACCIO_RATE_LIMIT_BACKEND", Some("memory"))],
        "RUSTACCIO_RATE_LIMIT_BACKEND",
        "RUSTACCIO_RUNTIME_PROFILE=managed requires RUSTACCIO_RATE_LIMIT_BACKEND=redis",
    ),
    (
        &[("RUSTACCIO_RATE_LIMIT_BACKEND", None)],
        "RUSTACCIO_RATE_LIMIT_BACKEND",
        "requires RUSTACCIO_RATE_LIMIT_BACKEND=redis",
    ),
    (
        &[("RUSTACCIO_QUOTA_BACKEND", Some("memory"))],
        "RUSTACCIO_QUOTA_BACKEND",
        "requires RUSTACCIO_QUOTA_BACKEND=postgres",
    ),
    (
        &[("RUSTACCIO_STATE_COORDINATION_BACKEND", Some("none"))],
        "RUSTACCIO_STATE_COORDINATION_BACKEND",
        "requires RUSTACCIO_STATE_COORDINATION_BACKEND=redis or s3",
    ),
    (
        &[("RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED", Some("true"))],
        "RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED",
        "requires RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED=false",
    ),
    (
        &[("RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED", None)],
        "RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED",
        "requires RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED=false",
    ),
    (
        &[("RUSTACCIO_ADMIN_USERS", None)],
        "RUSTACCIO_ADMIN_USERS",
        "requires RUSTACCIO_ADMIN_USERS or RUSTACCIO_ADMIN_GROUPS to name somebody",
    ),
    (
        &[("RUSTACCIO_ADMIN_USERS", Some(" , "))],
        "RUSTACCIO_ADMIN_USERS",
        "requires RUSTACCIO_ADMIN_USERS or RUSTACCIO_ADMIN_GROUPS to name somebody",
    ),
    (
        &[("RUSTACCIO_AUTH_EXTERNAL_MODE", Some("false"))],
        "RUSTACCIO_AUTH_EXTERNAL_MODE",
        "requires auth.plugin.externalMode=true",
    ),
    (
        &[("RUSTACCIO_AUTH_BACKEND", Some("local"))],
        "RUSTACCIO_AUTH_BACKEND",
        "requires RUSTACCIO_AUTH_BACKEND=http",
    ),
    (
        &[("RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT", Some(" "))],
        "RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT",
        "requires RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT to be set",
    ),
];

#[test]
fn each_guardrail_that_is_broken_stops_the_start_and_is_named() {
    for (changes, variable, said) in GUARDRAILS {
        let variables = changed(changes);
        let pairs: Vec<_> = variables.iter().map(|(n, v)| (&**n, &**v)).collect();
        let output = run(&[], &pairs);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{changes:?}: {text}");
        let names_it = |line: &str| line.contains(variable) && line.contains(said);
        assert!(text.lines().any(names_it), "{changes:?}: {text}");
    }
    // Groups do as well as users, and leases in a bucket as well as in Redis.
    let fine = changed(&[
        ("RUSTACCIO_ADMIN_USERS", None),
        ("RUSTACCIO_ADMIN_GROUPS", Some("ops")),
        ("RUSTACCIO_STATE_COORDINATION_BACKEND", Some("s3")),
    ]);
    let text = problems_of(&fine);
    assert!(!text.contains("requires"), "{text}");
}

#[test]
fn all_that_is_broken_is_told_at_once() {
    for asked in [(PROFILE, "managed"), ("RUSTACCIO_MANAGED_MODE", "yes")] {
        let said = load(&[asked]).describe_problems();
        for (_, _, wanted) in GUARDRAILS {
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
    }
    let preset = problems_of(&preset(PRESET));
    assert!(!preset.contains("requires"), "{preset}");
}

#[test]
fn managed_registries_compare_revisions_unless_they_are_told_not_to() {
    let strict = |pairs: &[(&str, &str)]| load(pairs).publish.strict_revision_check;
    let not = ("RUSTACCIO_STRICT_REVISION_CHECK", "false");
    for asked in [(PROFILE, "managed"), ("RUSTACCIO_MANAGED_MODE", "true")] {
        assert!(strict(&[asked]));
        assert!(!strict(&[asked, not]));
    }
    for asked in [(PROFILE, "local"), ("RUSTACCIO_MANAGED_MODE", "false")] {
        assert!(!strict(&[asked]));
    }
}

#[cfg(all(
    feature = "test-services",
    feature = "s3",
    feature = "postgres",
    feature = "redis"
))]
mod whole {
    use serde_json::{Value, json};

    use super::*;
    use crate::support::{
        Package,
        bucket::{s3_at, s3_endpoint},
        postgres,
        process::Process,
        publish_body, redis,
        registry::client,
        service::{Asked, Reply, Service},
    };

    /// Who has which token, as the company knows it.
    fn company(asked: &Asked) -> Reply {
        let body = asked.json();
        let user = match body["token"].as_str() {
            Some("token-of-alice") => json!({ "username": "alice" }),
            Some("token-of-admin") => json!({ "username": "admin", "groups": ["ops"] }),
            _ => return Reply::Json(401, json!({ "error": "unknown" })),
        };
        Reply::Json(200, user)
    }

    async fn ask(request: reqwest::RequestBuilder) -> (u16, Value) {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Two nodes are one registry: what is published at one is read at the other.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_managed_registry_starts_from_its_preset_and_addresses_alone() {
        let accounts = Service::start(company).await;
        let database = postgres::schema().await;
        let mut addresses = s3_at(&s3_endpoint());
        addresses.extend([
            ("RUSTACCIO_BIND", "127.0.0.1:0".to_owned()),
            ("RUSTACCIO_METADATA_POSTGRES_URL", database.clone()),
            ("RUSTACCIO_QUOTA_POSTGRES_URL", database),
            ("RUSTACCIO_RATE_LIMIT_REDIS_URL", redis::url()),
            ("RUSTACCIO_STATE_COORDINATION_REDIS_URL", redis::url()),
            ("RUSTACCIO_AUTH_HTTP_BASE_URL", accounts.url.clone()),
            ("RUSTACCIO_METRICS_BACKEND", "prometheus".to_owned()),
        ]);
        let changes: Vec<_> = addresses.iter().map(|(n, v)| (*n, Some(&**v))).collect();
        let variables = changed(&changes);
        let start = move || {
            let folder = tempfile::tempdir().unwrap();
            let pairs: Vec<_> = variables.iter().map(|(n, v)| (&**n, &**v)).collect();
            (Process::start(folder.path(), &pairs), folder)
        };
        let nodes = tokio::task::spawn_blocking(move || (start(), start()));
        let ((one, _one_folder), (other, _other_folder)) = nodes.await.unwrap();
        let client = client();
        for node in [&one, &other] {
            let ready = client.get(format!("{}/-/health/ready", node.url));
            assert_eq!(ask(ready).await.0, 200);
        }
        let package = Package::new("@acme/app", "1.0.0");
        let put = |token: &str| {
            let body = publish_body(&package, "latest").to_string();
            let request = client.put(format!("{}/@acme%2fapp", one.url)).body(body);
            request.bearer_auth(token)
        };
        assert_eq!(ask(put("made up")).await.0, 401);
        let (status, body) = ask(put("token-of-alice")).await;
        assert_eq!(status, 201, "{body}");
        let read = client.get(format!("{}/@acme%2fapp", other.url)).send();
        let read = read.await.unwrap();
        assert_eq!(read.status(), 200);
        let metrics = client.get(format!("{}/-/metrics", other.url));
        let metrics = metrics.bearer_auth("token-of-admin").send();
        let metrics = metrics.await.unwrap().text().await.unwrap();
        let limited =
            "rustaccio_rate_limit_decisions_total{action=\"access\",outcome=\"allowed\"} 1";
        assert!(metrics.contains(limited), "{metrics}");
        // Accounts are elsewhere, and only those administer who are named.
        let login = client.put(format!("{}/-/user/org.couchdb.user:bob", one.url));
        let login = login.body(json!({ "name": "bob", "password": "password" }).to_string());
        assert_eq!(ask(login).await.0, 404);
        for (token, expected) in [("token-of-alice", 403), ("token-of-admin", 200)] {
            let health = client.get(format!("{}/-/admin/storage-health", other.url));
            assert_eq!(ask(health.bearer_auth(token)).await.0, expected, "{token}");
        }
        for node in [one, other] {
            let ended = tokio::task::spawn_blocking(move || node.stop());
            ended.await.unwrap();
        }
    }
}
