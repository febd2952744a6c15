//! Rate limits and quotas: who is counted together, what is said to those who ask too often, and
//! what they may still do.

#[cfg(all(feature = "test-services", feature = "redis", feature = "postgres"))]
mod shared;

use std::{sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder};
use rustaccio::{lifecycle::ManualClock, models::Timestamp};
use serde_json::json;

use crate::support::{Answer, Package, Registry, registry::Start};

const RATE: &str = "RUSTACCIO_RATE_LIMIT_BACKEND";
const PER_WINDOW: &str = "RUSTACCIO_RATE_LIMIT_REQUESTS_PER_WINDOW";
const WINDOW: &str = "RUSTACCIO_RATE_LIMIT_WINDOW_SECS";
const QUOTA: &str = "RUSTACCIO_QUOTA_BACKEND";
const TRUST: &str = "RUSTACCIO_TRUST_PROXY";

/// Half past ten in the evening.
fn clock() -> Arc<ManualClock> {
    ManualClock::at(Timestamp::parse_rfc3339("2026-02-27T22:30:00Z").unwrap())
}

/// A request from an address, as a trusted proxy says.
fn from(registry: &Registry, address: &str, path: &str) -> RequestBuilder {
    let request = registry.request(Method::GET, path);
    request.header("x-forwarded-for", address)
}

async fn statuses(registry: &Registry, path: &str, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(registry.get(path).await.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn so_many_requests_in_a_window_and_no_more() {
    let clock = clock();
    let settings = [(RATE, "memory"), (PER_WINDOW, "3"), (WINDOW, "90")];
    let registry = Registry::at(&clock, &settings).await;
    // Who has more than half of it left is not told.
    let first = registry.get("/app").await.assert(404);
    assert_eq!(first.header("ratelimit-policy"), None);
    assert_eq!(first.header("ratelimit"), None);
    let policy = Some("\"window\";q=3;w=90");
    let second = registry.get("/app").await.assert(404);
    assert_eq!(second.header("ratelimit-policy"), policy);
    assert_eq!(second.header("ratelimit"), Some("\"window\";r=1;t=90"));
    clock.advance(Duration::from_millis(30_500));
    assert_eq!(statuses(&registry, "/app", 1).await, [404]);
    for _ in 0..2 {
        let refused = registry.get("/other").await.assert(429);
        let body = json!({ "error": "rate limit exceeded", "code": "RATE_LIMITED" });
        assert_eq!(refused.json(), body);
        assert_eq!(refused.header("content-type"), Some("application/json"));
        assert_eq!(refused.header("retry-after"), Some("60"));
        assert_eq!(refused.header("ratelimit-policy"), policy);
        assert_eq!(refused.header("ratelimit"), Some("\"window\";r=0;t=60"));
        assert!(refused.header("x-request-id").is_some());
    }
    // Refused ones make it no longer.
    clock.advance(Duration::from_millis(59_500));
    assert_eq!(
        statuses(&registry, "/app", 4).await,
        [404, 404, 404, 429],
        "the next window"
    );
}

#[tokio::test]
async fn a_window_is_as_long_as_it_shall() {
    for (seconds, expected) in [("10", 404), ("11", 429)] {
        let clock = clock();
        let settings = [(RATE, "memory"), (PER_WINDOW, "1"), (WINDOW, seconds)];
        let registry = Registry::at(&clock, &settings).await;
        registry.get("/app").await.assert(404);
        clock.advance(Duration::from_secs(10));
        registry.get("/app").await.assert(expected);
    }
}

#[tokio::test]
async fn without_a_backend_or_a_number_nothing_is_limited() {
    let zero = [(RATE, "memory"), (PER_WINDOW, "0"), (QUOTA, "memory")];
    let none = [(RATE, "none"), (PER_WINDOW, "1"), (QUOTA, "none")];
    let unused = [("RUSTACCIO_QUOTA_REQUESTS_PER_DAY", "1")];
    for settings in [&zero[..], &none, &unused] {
        let registry = Registry::start(settings).await;
        assert_eq!(statuses(&registry, "/app", 3).await, [404, 404, 404]);
        let answer = registry.get("/app").await;
        assert_eq!(answer.header("ratelimit"), None);
    }
}

#[tokio::test]
async fn kinds_of_requests_are_counted_apart_and_spellings_are_not() {
    let registry = Registry::start(&[(RATE, "memory"), (PER_WINDOW, "4")]).await;
    let spellings = [
        "/@acme/app",
        "/@acme%2fapp",
        "/@acme%2Fapp",
        "/%40acme%2fapp",
    ];
    for path in spellings {
        registry.get(path).await.assert(404);
    }
    for path in spellings {
        registry.get(path).await.assert(429);
    }
    let head = registry.request(Method::HEAD, "/@acme/app");
    assert_eq!(registry.send(head).await.status, 429, "reading is reading");
    registry.get("/-/package/app/dist-tags").await.assert(429);
    let tarballs = [
        "/@acme/app/-/app-1.0.0.tgz",
        "/@acme%2fapp/-/app-1.0.0.tgz",
        "/@acme/app/-/@acme/app-1.0.0.tgz",
        "/@acme%2fapp/-/@acme%2fapp-1.0.0.tgz",
    ];
    for path in tarballs {
        assert_ne!(registry.get(path).await.status, 429, "{path}");
    }
    for path in tarballs {
        registry.get(path).await.assert(429);
    }
    registry.get("/-/v1/search?text=a").await.assert(200);
    registry.get("/-/whoami").await.assert(401);
    registry.put_nothing_anonymously("/app").await.assert(401);
}

#[tokio::test]
async fn nobody_keeps_machines_from_asking_whether_it_is_well() {
    let settings = [
        (RATE, "memory"),
        (PER_WINDOW, "1"),
        (QUOTA, "memory"),
        ("RUSTACCIO_QUOTA_REQUESTS_PER_DAY", "1"),
        ("RUSTACCIO_METRICS_BACKEND", "prometheus"),
        ("RUSTACCIO_METRICS_REQUIRE_ADMIN", "false"),
    ];
    let registry = Registry::start(&settings).await;
    let free = ["/-/ping", "/-/health/live", "/-/health/ready", "/-/metrics"];
    // They use up nothing, either.
    for path in free {
        assert_eq!(
            statuses(&registry, path, 3).await,
            [200, 200, 200],
            "{path}"
        );
    }
    assert_eq!(statuses(&registry, "/app", 2).await, [404, 429]);
    for path in free {
        assert_eq!(
            statuses(&registry, path, 3).await,
            [200, 200, 200],
            "{path}"
        );
    }
}

#[tokio::test]
async fn callers_are_counted_apart_by_what_is_certain_of_them() {
    let settings = [(RATE, "memory"), (PER_WINDOW, "1"), (TRUST, "true")];
    let registry = Registry::start(&settings).await;
    let get = async |request: RequestBuilder| registry.send(request).await.status.as_u16();
    // Users of one address are apart, and one of several addresses.
    let alice = registry.user("alice").await;
    let bob = from(&registry, "192.0.2.7", "/-/ping");
    assert_eq!(get(bob).await, 200);
    let of_alice = |address| from(&registry, address, "/app").bearer_auth(&alice.token);
    assert_eq!(get(of_alice("192.0.2.1")).await, 404);
    assert_eq!(get(of_alice("192.0.2.1")).await, 429);
    assert_eq!(get(of_alice("192.0.2.2")).await, 404);
    assert_eq!(get(from(&registry, "192.0.2.1", "/app")).await, 404);
    assert_eq!(get(from(&registry, "192.0.2.1", "/app")).await, 429);
    // Bad credentials are no other caller.
    let bad = from(&registry, "192.0.2.1", "/app").bearer_auth("rca_made_up");
    assert_eq!(get(bad).await, 429);
    // Whoever has one address of IPv6 has very many.
    assert_eq!(get(from(&registry, "2001:db8:1:2::1", "/app")).await, 404);
    assert_eq!(
        get(from(&registry, "2001:db8:1:2:ffff::2", "/app")).await,
        429
    );
    assert_eq!(get(from(&registry, "2001:db8:1:3::1", "/app")).await, 404);
    // Tenants are apart, as the proxy says.
    let of_tenant = |organisation: &str, project: &str| {
        from(&registry, "192.0.2.1", "/app")
            .header("x-rustaccio-org-id", organisation)
            .header("x-project-id", project)
    };
    assert_eq!(get(of_tenant("acme", "web")).await, 404);
    assert_eq!(get(of_tenant("acme", "web")).await, 429);
    let whole = from(&registry, "192.0.2.1", "/app").header("x-org-id", "acme");
    assert_eq!(get(whole).await, 404);
    assert_eq!(get(of_tenant("acme:p", "web")).await, 404);
}

/// Proxies pass on headers that they do not know: a client's beside theirs must not count.
#[tokio::test]
async fn a_client_behind_a_proxy_chooses_no_tenant() {
    let settings = [(RATE, "memory"), (PER_WINDOW, "1"), (TRUST, "true")];
    let registry = Registry::start(&settings).await;
    let long = "x".repeat(129);
    let refused: [&[(&str, &str)]; 9] = [
        // The proxy sets one name, and the client another.
        &[("x-org-id", "acme"), ("x-rustaccio-org-id", "victim")],
        &[("x-project-id", "web"), ("x-rustaccio-project-id", "own")],
        // The proxy adds.
        &[("x-org-id", "victim"), ("x-org-id", "acme")],
        &[("x-org-id", "victim, acme")],
        // What cannot be used takes nothing away from what can.
        &[("x-rustaccio-org-id", ""), ("x-org-id", "acme")],
        &[("x-org-id", "acme"), ("x-rustaccio-org-id", &long)],
        &[("x-org-id", "acme"), ("x-project-id", "")],
        &[("x-org-id", &long)],
        &[("x-project-id", "a\u{e9}")],
    ];
    for headers in refused {
        let mut request = registry.request(Method::GET, "/app");
        for &(name, value) in headers {
            request = request.header(name, value.as_bytes());
        }
        let answer = registry.send(request).await.assert(400);
        assert!(answer.error().contains("has to set or delete both"));
    }
    // Both names of one tenant are one, and nothing of the above was counted.
    for (headers, status) in [
        ([("x-org-id", "acme"), ("x-rustaccio-org-id", "acme")], 404),
        ([("x-org-id", "acme"), ("x-org-id", " acme ")], 429),
    ] {
        let mut request = registry.request(Method::GET, "/app");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        registry.send(request).await.assert(status);
    }
}

#[tokio::test]
async fn nobody_gets_around_limits_with_headers() {
    let registry = Registry::start(&[(RATE, "memory"), (PER_WINDOW, "1")]).await;
    registry.get("/app").await.assert(404);
    for (name, value) in [
        ("x-forwarded-for", "192.0.2.9"),
        ("x-org-id", "acme"),
        ("x-rustaccio-project-id", "web"),
        ("authorization", "Bearer rca_made_up"),
    ] {
        let request = registry.request(Method::GET, "/app").header(name, value);
        registry.send(request).await.assert(429);
    }
}

#[tokio::test]
async fn the_oldest_window_makes_room() {
    for (keys, expected) in [("100", 404), ("101", 429)] {
        let settings = [
            (RATE, "memory"),
            (PER_WINDOW, "1"),
            ("RUSTACCIO_RATE_LIMIT_MEMORY_MAX_KEYS", keys),
            (TRUST, "true"),
        ];
        let registry = Registry::start(&settings).await;
        for number in 0..=100 {
            let request = from(&registry, &format!("192.0.2.{number}"), "/app");
            registry.send(request).await.assert(404);
        }
        let request = from(&registry, "192.0.2.100", "/app");
        registry.send(request).await.assert(429);
        let request = from(&registry, "192.0.2.0", "/app");
        registry.send(request).await.assert(expected);
    }
}

#[tokio::test]
async fn publishes_have_a_quota() {
    let clock = clock();
    let settings = [
        (QUOTA, "memory"),
        ("RUSTACCIO_QUOTA_PUBLISHES_PER_DAY", "2"),
    ];
    let registry = Registry::at(&clock, &settings).await;
    let (alice, bob) = (registry.user("alice").await, registry.user("bob").await);
    let package = |version| Package::new("app", version);
    let first = registry.publish(&alice, &package("1.0.0")).await;
    let first = first.assert(201);
    assert_eq!(
        first.header("ratelimit-policy"),
        Some("\"day\";q=2;w=86400")
    );
    assert_eq!(first.header("ratelimit"), Some("\"day\";r=1;t=5400"));
    let tag = "/-/package/app/dist-tags/next";
    let tagged = registry.put(&alice, tag, &json!("1.0.0")).await;
    tagged.assert(201);
    // More than fits into the buffers of a connection: it is read before the answer.
    let mut large = package("1.1.0");
    large.tarball = vec![7; 20 << 20];
    for _ in 0..2 {
        let refused = registry.publish(&alice, &large).await.assert(429);
        let body = json!({ "error": "quota exceeded", "code": "QUOTA_EXCEEDED" });
        assert_eq!(refused.json(), body);
        assert_eq!(refused.header("retry-after"), Some("5400"), "midnight");
    }
    registry.delete(&alice, tag).await.assert(429);
    // Reading is another thing, and Bob another one.
    registry.get_as(&alice, "/app").await.assert(200);
    let other = Package::new("other", "1.0.0");
    registry.publish(&bob, &other).await.assert(201);
    clock.advance(Duration::from_secs(5400));
    let next = registry.publish(&alice, &package("1.1.0")).await;
    next.assert(201);
}

#[tokio::test]
async fn downloads_have_a_quota() {
    let settings = [
        (QUOTA, "memory"),
        ("RUSTACCIO_QUOTA_DOWNLOADS_PER_DAY", "1"),
    ];
    let registry = Registry::start(&settings).await;
    let alice = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    registry.tarball(&package).await.assert(200);
    registry.tarball(&package).await.assert(429);
    registry.get("/app").await.assert(200);
}

#[tokio::test]
async fn other_requests_have_a_quota() {
    let settings = [(QUOTA, "memory"), ("RUSTACCIO_QUOTA_REQUESTS_PER_DAY", "2")];
    let registry = Registry::start(&settings).await;
    let package = Package::new("app", "1.0.0");
    registry.get("/app").await.assert(404);
    registry.get("/-/v1/search?text=a").await.assert(200);
    registry.get("/app").await.assert(429);
    registry.get("/-/whoami").await.assert(429);
    registry.tarball(&package).await.assert(404);
    registry.put_nothing_anonymously("/app").await.assert(401);
}

#[tokio::test]
async fn the_oldest_count_makes_room() {
    for (keys, expected) in [("100", 404), ("101", 429)] {
        let settings = [
            (QUOTA, "memory"),
            ("RUSTACCIO_QUOTA_REQUESTS_PER_DAY", "1"),
            ("RUSTACCIO_QUOTA_MEMORY_MAX_KEYS", keys),
            (TRUST, "true"),
        ];
        let registry = Registry::start(&settings).await;
        for number in 0..=100 {
            let request = from(&registry, &format!("192.0.2.{number}"), "/app");
            registry.send(request).await.assert(404);
        }
        let request = from(&registry, "192.0.2.0", "/app");
        registry.send(request).await.assert(expected);
    }
}

#[tokio::test]
async fn counts_are_kept_for_as_many_days_as_they_shall() {
    for (days, expected) in [("1", 404), ("2", 429)] {
        let clock = clock();
        let settings = [
            (QUOTA, "memory"),
            ("RUSTACCIO_QUOTA_REQUESTS_PER_DAY", "1"),
            ("RUSTACCIO_QUOTA_MEMORY_RETENTION_DAYS", days),
        ];
        let registry = Registry::at(&clock, &settings).await;
        assert_eq!(statuses(&registry, "/app", 2).await, [404, 429]);
        clock.advance(Duration::from_secs(86_400));
        assert_eq!(statuses(&registry, "/app", 2).await, [404, 429]);
        // Somebody puts the clock right.
        clock.set(Timestamp::parse_rfc3339("2026-02-27T23:00:00Z").unwrap());
        registry.get("/app").await.assert(expected);
    }
}

#[tokio::test]
async fn both_limits_are_told_together() {
    let settings = [
        (RATE, "memory"),
        (PER_WINDOW, "5"),
        (QUOTA, "memory"),
        ("RUSTACCIO_QUOTA_REQUESTS_PER_DAY", "2"),
    ];
    let registry = Registry::at(&clock(), &settings).await;
    let answer = registry.get("/app").await.assert(404);
    let policy = "\"window\";q=5;w=60, \"day\";q=2;w=86400";
    assert_eq!(answer.header("ratelimit-policy"), Some(policy));
    let left = "\"window\";r=4;t=60, \"day\";r=1;t=5400";
    assert_eq!(answer.header("ratelimit"), Some(left));
}

#[tokio::test]
async fn a_registry_below_a_prefix_limits_the_same() {
    let registry = Registry::with(Start {
        variables: vec![
            (RATE, "memory".to_owned()),
            (PER_WINDOW, "1".to_owned()),
            ("RUSTACCIO_URL_PREFIX", "/npm".to_owned()),
        ],
        ..Start::default()
    })
    .await;
    assert_eq!(statuses(&registry, "/app", 2).await, [404, 429]);
    assert_eq!(statuses(&registry, "/-/ping", 2).await, [200, 200]);
}

impl Registry {
    /// An attempt to change something.
    async fn put_nothing_anonymously(&self, path: &str) -> Answer {
        let body = json!({ "name": "app", "versions": {} });
        self.send_json(None, Method::PUT, path, &body).await
    }
}
