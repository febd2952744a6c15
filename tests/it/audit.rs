//! `npm audit`: what goes upstream, what comes back, and what happens when nobody answers.

#[cfg(feature = "test-clients")]
mod clients;
mod limits;

use std::io::Write as _;

use axum::response::IntoResponse as _;
use flate2::{Compression, write::GzEncoder};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Package, Registry, Upstream, User, registry::Start};

pub(crate) const BULK: &str = "/-/npm/v1/security/advisories/bulk";
pub(crate) const QUICK: &str = "/-/npm/v1/security/audits/quick";
pub(crate) const FULL: &str = "/-/npm/v1/security/audits";

/// An uplink for `@other/*`, and one for everything else.
const TWO: &str = "packages:
  '@other/*': {access: $all, proxy: second}
  '@both/*': {access: $all, proxy: first second}
  '@acme/*': {access: $authenticated, publish: $authenticated}
  '**': {access: $all, publish: $authenticated, proxy: first}
";

async fn with_two(first: &Upstream, second: &Upstream) -> Registry {
    let (first, second) = (&first.url, &second.url);
    let uplinks = format!("uplinks:\n  first:\n    url: {first}\n  second:\n    url: {second}\n");
    Registry::with_file(&(uplinks + TWO)).await
}

async fn proxy(upstream: &Upstream) -> Registry {
    Registry::with_file(&format!(
        "uplinks:\n  default:\n    url: {}\n",
        upstream.url
    ))
    .await
}

fn says(upstream: &Upstream, path: &str, answer: &Value) {
    let answer = answer.to_string();
    upstream.plays(path, move |_| {
        let answer = answer.clone();
        async move { ([("content-type", "application/json")], answer).into_response() }
    });
}

pub(crate) fn advisory(id: u64) -> Value {
    json!({
        "id": id,
        "url": "https://advisories.example/1",
        "title": "it leaks",
        "severity": "high",
        "vulnerable_versions": "<2.0.0",
        "cwe": [],
        "cvss": { "score": 7.5, "vectorString": null },
    })
}

/// A report of the older form about one package, at these places in the tree.
fn report(id: u64, module: &str, paths: &[&str]) -> Value {
    let resolves: Vec<Value> = paths
        .iter()
        .map(|path| json!({ "id": id, "path": path, "dev": false, "optional": false, "bundled": false }))
        .collect();
    json!({
        "actions": [{ "action": "review", "module": module, "resolves": resolves }],
        "advisories": { id.to_string(): {
            "id": id,
            "module_name": module,
            "title": "it leaks",
            "severity": "high",
            "findings": [{ "version": "1.0.0", "paths": paths }],
        } },
        "muted": [],
        "metadata": {
            "vulnerabilities": { "info": 0, "low": 0, "moderate": 0, "high": 1, "critical": 0 },
            "dependencies": 3, "devDependencies": 0, "optionalDependencies": 0, "totalDependencies": 3,
        },
    })
}

async fn post(registry: &Registry, path: &str, body: &Value) -> Answer {
    registry.send_json(None, Method::POST, path, body).await
}

async fn with_secret(registry: &Registry) -> User {
    let alice = registry.user("alice").await;
    let secret = Package::new("@acme/secret", "1.0.0");
    registry.publish(&alice, &secret).await.assert(201);
    alice
}

#[tokio::test]
async fn bodies_may_be_compressed() {
    let upstream = Upstream::start().await;
    let answer = json!({ "leaky": [advisory(1)], "unasked": [advisory(2)] });
    says(&upstream, BULK, &answer);
    let registry = proxy(&upstream).await;
    let question = json!({ "leaky": ["1.0.0", "file:../x"], "fine": ["2.0.0"], "odd": ["https://x"], "none": 7 });
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(question.to_string().as_bytes()).unwrap();
    let request = registry
        .request(Method::POST, BULK)
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(gzip.finish().unwrap());
    let found = registry.send(request).await.assert(200);
    assert_eq!(found.header("content-type"), Some("application/json"));
    // Nobody has a say about names that were not asked about.
    assert_eq!(found.json(), json!({ "leaky": [advisory(1)] }));
    let plain = post(&registry, BULK, &question).await.assert(200);
    assert_eq!(plain.json(), found.json());
    let passed = json!({ "leaky": ["1.0.0"], "fine": ["2.0.0"] });
    assert_eq!(upstream.sent(BULK), [passed.clone(), passed]);
    for wrong in ["[]", "{", "7", ""] {
        for path in [BULK, QUICK, FULL] {
            let request = registry.request(Method::POST, path).body(wrong);
            registry.send(request).await.assert(400).error();
        }
    }
}

#[tokio::test]
async fn nobody_to_ask_means_nothing_found() {
    let (alone, upstream) = (Registry::alone().await, Upstream::start().await);
    let without_audits = proxy(&upstream).await;
    let tree =
        json!({ "requires": { "a": "1.0.0" }, "dependencies": { "a": { "version": "1.0.0" } } });
    for registry in [&alone, &without_audits] {
        let bulk = post(registry, BULK, &json!({ "a": ["1.0.0"] })).await;
        assert_eq!(bulk.assert(200).json(), json!({}));
        for path in [QUICK, FULL] {
            let report = post(registry, path, &tree).await.assert(200).json();
            assert_eq!(report["auditReportVersion"], 2);
            assert_eq!(report["metadata"]["vulnerabilities"]["critical"], 0);
            assert_eq!(report["metadata"]["totalDependencies"], 0);
            for (part, empty) in [
                ("advisories", json!({})),
                ("vulnerabilities", json!({})),
                ("actions", json!([])),
                ("muted", json!([])),
            ] {
                assert_eq!(report[part], empty, "{part}");
            }
            assert_eq!(report["runId"].is_string(), path == FULL);
        }
    }
    let off = Registry::start(&[("RUSTACCIO_AUDIT_ENABLED", "false")]).await;
    for path in [BULK, QUICK, FULL] {
        post(&off, path, &json!({})).await.assert(404).error();
    }
}

/// What npm 6 sends, with names of packages that only exist here wherever it puts names.
fn npm_6_tree() -> Value {
    json!({
        "name": "@acme/secret-app",
        "version": "3.1.4",
        "install": ["@acme/secret@1.0.0", "leaky@1.0.0"],
        "remove": ["@acme/secret@0.9.0"],
        "metadata": { "npm_version": "6.14.18", "node_version": "v14", "platform": "linux", "node_env": "secret-env" },
        "requires": { "@acme/secret": "^1.0.0", "leaky": "^1.0.0", "renamed": "npm:@acme/secret@1" },
        "dependencies": {
            "@acme/secret": {
                "version": "1.0.0",
                "resolved": "https://npm.acme.example/secret.tgz",
                "integrity": "sha512-secret",
                "requires": { "leaky": "^1.0.0" },
                "dependencies": { "leaky": { "version": "1.5.0", "integrity": "sha512-leaky" } },
            },
            "renamed": { "version": "npm:@acme/secret@1.0.0" },
            "leaky": { "version": "1.0.0", "requires": { "@acme/secret": "^1.0.0" } },
        },
    })
}

#[tokio::test]
async fn nothing_private_goes_upstream() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    for upstream in [&first, &second] {
        says(upstream, BULK, &json!({}));
        for path in [QUICK, FULL] {
            says(upstream, path, &report(1, "leaky", &["leaky"]));
        }
    }
    let registry = with_two(&first, &second).await;
    let alice = with_secret(&registry).await;
    let bulk = json!({
        "@acme/secret": ["1.0.0"], "@acme/secret-draft": ["1.0.0"],
        "leaky": ["1.0.0"], "@other/x": ["1.0.0"], "../secret": ["1.0.0"],
    });
    let tree = npm_6_tree();
    for (path, body) in [(BULK, &bulk), (QUICK, &tree), (FULL, &tree)] {
        let answer = registry.send_json(Some(&alice), Method::POST, path, body);
        answer.await.assert(200);
        post(&registry, path, body).await.assert(200);
    }
    let asked = first.sent(BULK).into_iter().chain(second.sent(BULK));
    let names: Vec<String> = asked
        .flat_map(|body| {
            body.as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(names, ["leaky", "leaky", "@other/x", "@other/x"]);
    for upstream in [&first, &second] {
        let sent = [BULK, QUICK, FULL].map(|path| json!(upstream.sent(path)));
        let all = format!("{sent:?} {:?}", upstream.seen());
        for private in [
            "secret",
            "acme",
            "3.1.4",
            "0.9.0",
            &alice.token,
            "authorization",
        ] {
            assert!(!all.contains(private), "{private}: {all}");
        }
    }
    assert_eq!(second.asked(QUICK) + second.asked(FULL), 0);
}

#[tokio::test]
async fn what_is_below_a_private_package_is_audited() {
    let upstream = Upstream::start().await;
    let registry = with_two(&upstream, &upstream).await;
    with_secret(&registry).await;
    for path in [QUICK, FULL] {
        // The first answer is not needed, but the tree that was sent.
        says(&upstream, path, &json!({}));
        post(&registry, path, &npm_6_tree()).await.assert(200);
        let sent = upstream.sent(path).remove(0);
        let dependencies = sent["dependencies"].as_object().unwrap();
        let hidden = dependencies
            .iter()
            .find(|(_, node)| node["dependencies"]["leaky"]["version"] == "1.5.0");
        let (hidden, node) = hidden.unwrap();
        assert_eq!(node["version"], "0.0.0");
        assert_eq!(sent["requires"][hidden], "0.0.0");
        assert_eq!(sent["dependencies"]["leaky"]["requires"][hidden], "0.0.0");
        let place = format!("{hidden}>leaky");
        says(&upstream, path, &report(1, "leaky", &[&place, "leaky"]));
        let found = post(&registry, path, &npm_6_tree()).await.assert(200);
        let expected = report(1, "leaky", &["@acme/secret>leaky", "leaky"]);
        assert_eq!(found.json(), expected);
    }
}

#[tokio::test]
async fn projects_of_a_workspace_are_no_packages() {
    let upstream = Upstream::start().await;
    says(&upstream, FULL, &report(1, "leaky", &[".>leaky"]));
    let registry = proxy(&upstream).await;
    let project = |dependencies: Value| json!({ "dependencies": dependencies, "dev": false, "requires": {}, "version": "4.0.0" });
    let leaky = json!({ "leaky": { "version": "1.0.0", "dev": true, "integrity": "sha512-x" } });
    let tree = json!({
        "install": [], "remove": [], "metadata": {}, "dev": false,
        "requires": { ".": "4.0.0", "packages__secret": "4.0.0" },
        "dependencies": { ".": project(leaky.clone()), "packages__secret": project(leaky.clone()) },
    });
    let found = post(&registry, FULL, &tree).await.assert(200).json();
    assert_eq!(found, report(1, "leaky", &[".>leaky"]));
    let sent = upstream.sent(FULL).remove(0);
    assert!(!sent.to_string().contains("secret"), "{sent}");
    assert!(!sent.to_string().contains("4.0.0"), "{sent}");
    let projects = sent["dependencies"].as_object().unwrap();
    assert_eq!(projects.len(), 2);
    for project in projects.values() {
        assert_eq!(project["dependencies"], leaky);
    }
}

/// What comes of a question for `leaky`, of which the first of two uplinks is asked, and for
/// `@other/leaky`, of which the second is, if they answer with these statuses.
async fn comes_of(statuses: [u16; 2], expected: u16) {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    for (upstream, name, status) in [
        (&first, "leaky", statuses[0]),
        (&second, "@other/leaky", statuses[1]),
    ] {
        if status == 200 {
            says(upstream, BULK, &json!({ name: [advisory(1)] }));
            says(upstream, FULL, &report(1, name, &[name]));
        } else {
            upstream.fails(BULK, status);
            upstream.fails(FULL, status);
        }
    }
    let registry = with_two(&first, &second).await;
    let bulk = json!({ "@both/x": ["1.0.0"], "@other/leaky": ["1.0.0"], "leaky": ["1.0.0"] });
    let found = post(&registry, BULK, &bulk).await.assert(expected);
    let tree = json!({ "dependencies": {
        "leaky": { "version": "1.0.0" },
        "@both/x": { "version": "1.0.0" },
        "@other/leaky": { "version": "1.0.0" },
    } });
    let report = post(&registry, FULL, &tree).await.assert(expected);
    let answers = statuses.iter().filter(|status| **status == 200).count();
    if expected == 200 {
        let found = found.json().as_object().unwrap().len();
        assert_eq!(found, answers, "{statuses:?}");
        let advisories = report.json()["advisories"].as_object().unwrap().len();
        assert_eq!(advisories, answers, "{statuses:?}");
    }
    // Whatever one answers, nobody else learns of its names.
    let sent = json!([BULK, FULL].map(|path| second.sent(path))).to_string();
    let told = sent.contains("@other/leaky");
    assert!(
        told && !sent.contains("both") && !sent.contains("\"leaky"),
        "{sent}"
    );
}

#[tokio::test]
async fn uplinks_without_audits_are_passed_over() {
    for (statuses, expected) in [
        ([200, 200], 200),
        ([404, 200], 200),
        ([405, 200], 200),
        ([410, 200], 200),
        ([200, 404], 200),
        // So are those who refuse, unless nobody answers.
        ([403, 200], 200),
        ([200, 501], 200),
        ([404, 404], 200),
        ([403, 404], 502),
        ([404, 401], 502),
    ] {
        comes_of(statuses, expected).await;
    }
}

#[tokio::test]
async fn an_uplink_that_fails_fails_the_audit() {
    for (statuses, expected) in [
        ([500, 200], 502),
        ([200, 503], 503),
        ([429, 200], 503),
        ([404, 503], 503),
        ([500, 404], 502),
        ([403, 503], 503),
    ] {
        comes_of(statuses, expected).await;
    }
    let upstream = Upstream::start().await;
    for path in [BULK, FULL] {
        says(&upstream, path, &json!(["a page to sign in"]));
    }
    let registry = proxy(&upstream).await;
    let tree = json!({ "dependencies": { "a": { "version": "1.0.0" } } });
    post(&registry, BULK, &json!({ "a": ["1.0.0"] }))
        .await
        .assert(502);
    post(&registry, FULL, &tree).await.assert(502);
}

#[tokio::test]
async fn names_are_asked_of_the_uplink_that_they_come_from() {
    const FILE: &str = "packages:\n  '**': {access: $all, proxy: corp public}\n";
    let (corp, public) = (Upstream::start().await, Upstream::start().await);
    corp.has(&[&Package::new("secret", "1.0.0")]);
    public.has(&[&Package::new("leaky", "1.0.0")]);
    let uplinks = format!(
        "uplinks:\n  corp:\n    url: {}\n  public:\n    url: {}\n",
        corp.url, public.url
    );
    let file = uplinks + FILE;
    let mut registry = Registry::with_file(&file).await;
    for name in ["secret", "leaky"] {
        registry.get(&format!("/{name}")).await.assert(200);
    }
    registry.get("/gone").await.assert(404);
    let bulk = json!({ "secret": ["1.0.0"], "leaky": ["1.0.0"], "strange": ["1.0.0"] });
    let node = json!({ "version": "1.0.0" });
    let tree = json!({ "dependencies": { "secret": node, "leaky": node, "strange": node } });
    for is_restarted in [false, true] {
        if is_restarted {
            let folder = registry.stop().await;
            let start = Start {
                file: &file,
                folder: Some(folder),
                ..Start::default()
            };
            registry = Registry::with(start).await;
        }
        // It answers, it has no audits, it fails.
        for (status, expected) in [(200, 200), (404, 200), (403, 200), (500, 502)] {
            says(
                &public,
                BULK,
                &json!({ "leaky": [advisory(1)], "secret": [advisory(2)] }),
            );
            says(&public, FULL, &report(1, "leaky", &["leaky"]));
            for path in [BULK, FULL] {
                match status {
                    200 => says(&corp, path, &json!({})),
                    status => corp.fails(path, status),
                }
            }
            let found = post(&registry, BULK, &bulk).await.assert(expected);
            post(&registry, FULL, &tree).await.assert(expected);
            if expected == 200 {
                assert_eq!(found.json(), json!({ "leaky": [advisory(1)] }));
            }
        }
        let asked = public.sent(BULK);
        assert!(
            asked
                .iter()
                .all(|body| *body == json!({ "leaky": ["1.0.0"] })),
            "{asked:?}"
        );
        let asked = json!(public.sent(FULL)).to_string();
        assert!(
            asked.contains("leaky") && !asked.contains("secret"),
            "{asked}"
        );
        assert!(!asked.contains("strange"), "{asked}");
        let asked = corp.sent(BULK);
        let of_corp = json!({ "secret": ["1.0.0"], "strange": ["1.0.0"] });
        assert!(asked.iter().all(|body| *body == of_corp), "{asked:?}");
    }
}

#[tokio::test]
async fn each_uplink_is_asked_about_its_own_names() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    says(&first, FULL, &report(7, "leaky", &["leaky"]));
    says(&second, FULL, &report(7, "@other/leaky", &["@other/leaky"]));
    let registry = with_two(&first, &second).await;
    let tree = json!({ "dependencies": {
        "leaky": { "version": "1.0.0" }, "@other/leaky": { "version": "2.0.0" },
    } });
    let found = post(&registry, FULL, &tree).await.assert(200).json();
    let modules = |report: &Value| -> Vec<String> {
        let advisories = report["advisories"].as_object().unwrap().values();
        advisories
            .map(|one| one["module_name"].to_string())
            .collect()
    };
    assert_eq!(modules(&found), [r#""@other/leaky""#, r#""leaky""#]);
    assert_eq!(found["advisories"]["8"]["id"], 8);
    assert_eq!(found["actions"][1]["resolves"][0]["id"], 8);
    assert_eq!(found["metadata"]["vulnerabilities"]["high"], 2);
    assert_eq!(found["metadata"]["totalDependencies"], 3);
    let names = |upstream: &Upstream| -> Vec<String> {
        let sent = upstream.sent(FULL).remove(0);
        let dependencies = sent["dependencies"].as_object().unwrap().iter();
        dependencies
            .filter(|(_, node)| node["version"] != "0.0.0")
            .map(|(name, _)| name.clone())
            .collect()
    };
    assert_eq!(names(&first), ["leaky"]);
    assert_eq!(names(&second), ["@other/leaky"]);
}
