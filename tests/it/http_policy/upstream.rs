//! What a company's own service hides of upstream's packages.

use axum::response::IntoResponse as _;
use reqwest::Method;
use serde_json::{Value, json};

use super::names_of;
use crate::{
    audit::{BULK, FULL, QUICK},
    support::{Answer, Asked, Package, Registry, Reply, Service, Upstream, User, registry::Start},
};

/// What is secret is for whoever is signed in.
fn secrets_for_users(asked: &Asked) -> Reply {
    let question = asked.json();
    let is_somebody = question["username"].is_string();
    let about = |name: &Value| is_somebody || !name.as_str().unwrap().contains("secret");
    Reply::Json(
        200,
        match question["packages"].as_array() {
            Some(names) => {
                let decisions: Vec<bool> = names.iter().map(about).collect();
                json!({ "decisions": decisions })
            }
            None => json!({ "allowed": about(&question["package"]) }),
        },
    )
}

/// An upstream that has the packages `lib-open` and `lib-secret`, and audits.
async fn upstream() -> Upstream {
    let upstream = Upstream::start().await;
    let mut found = Vec::new();
    for name in ["lib-secret", "lib-open"] {
        let package = Package::new(name, "1.0.0");
        upstream.has(&[&package]);
        let mut document = upstream.document(&[&package]);
        document["versions"]["1.0.0"]["dist"]["attestations"] = json!({
            "url": format!("{}{}", upstream.url, attestations_of(name)),
            "provenance": { "predicateType": "https://slsa.dev/provenance/v1" },
        });
        upstream.answers(&format!("/{name}"), &document);
        found.push(json!({ "package": { "name": name, "version": "1.0.0" } }));
        let attestations = json!({ "attestations": [{ "of": name }] });
        upstream.answers(&attestations_of(name), &attestations);
    }
    let found = json!({ "objects": found, "total": 2, "time": "" });
    let report = json!({ "actions": [], "advisories": {}, "muted": [], "metadata": {} });
    let mut answers = vec![("/-/v1/search", found), (BULK, json!({}))];
    answers.extend([QUICK, FULL].map(|path| (path, report.clone())));
    for (path, answer) in answers {
        let answer = answer.to_string();
        upstream.plays(path, move |_| {
            let answer = answer.clone();
            async move { ([("content-type", "application/json")], answer).into_response() }
        });
    }
    upstream
}

fn attestations_of(name: &str) -> String {
    format!("/-/npm/v1/attestations/{name}@1.0.0")
}

async fn get(registry: &Registry, user: Option<&User>, path: &str) -> Answer {
    match user {
        Some(user) => registry.get_as(user, path).await,
        None => registry.get(path).await,
    }
}

async fn hides(more: &[(&'static str, &str)]) {
    let (service, upstream) = (Service::start(secrets_for_users).await, upstream().await);
    let mut variables = vec![
        ("RUSTACCIO_POLICY_BACKEND", "http".to_owned()),
        ("RUSTACCIO_POLICY_HTTP_BASE_URL", service.url.clone()),
        ("RUSTACCIO_UPSTREAM", upstream.url.clone()),
    ];
    variables.extend(
        more.iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    let registry = Registry::with(Start {
        variables,
        ..Start::default()
    })
    .await;
    let alice = registry.user("alice").await;
    let node = json!({ "version": "1.0.0" });
    let bulk = json!({ "lib-open": ["1.0.0"], "lib-secret": ["1.0.0"] });
    let tree = json!({
        "requires": { "lib-open": "1", "lib-secret": "1" },
        "dependencies": { "lib-open": node, "lib-secret": node },
    });
    // Nobody is signed in at first, so that nothing is known.
    for (user, expected, count) in [(None, 401, 1), (Some(&alice), 200, 2)] {
        let found = get(&registry, user, "/-/v1/search?text=lib").await;
        let found = found.assert(200).json();
        let mut names = names_of(&found);
        names.sort_unstable();
        assert_eq!(names, ["lib-open", "lib-secret"][..count]);
        assert_eq!(found["total"], count);

        let post = async |path, body| {
            let answer = registry.send_json(user, Method::POST, path, body);
            answer.await.assert(200);
        };
        post(BULK, &bulk).await;
        let sent = upstream.sent(BULK).pop().unwrap();
        let names: Vec<&String> = sent.as_object().unwrap().keys().collect();
        assert_eq!(names, ["lib-open", "lib-secret"][..count]);
        for path in [QUICK, FULL] {
            post(path, &tree).await;
            let sent = upstream.sent(path).pop().unwrap().to_string();
            assert!(sent.contains("lib-open"), "{sent}");
            assert_eq!(sent.contains("secret"), user.is_some(), "{sent}");
        }

        let secret = Package::new("lib-secret", "1.0.0");
        for path in [
            "/lib-secret".to_owned(),
            "/lib-secret/1.0.0".to_owned(),
            "/-/package/lib-secret/dist-tags".to_owned(),
            format!("/lib-secret/-/{}", secret.file()),
            attestations_of("lib-secret"),
        ] {
            get(&registry, user, &path).await.assert(expected);
        }
        let asked: Vec<String> = upstream.seen().into_iter().map(|(path, _)| path).collect();
        let is_asked = asked.iter().any(|path| path.contains("secret"));
        assert_eq!(is_asked, user.is_some(), "{asked:?}");
    }
}

#[tokio::test]
async fn upstream_hears_nothing_of_what_the_service_hides() {
    hides(&[]).await;
}

#[tokio::test]
async fn upstream_hears_nothing_of_what_is_hidden_with_many_others() {
    hides(&[("RUSTACCIO_POLICY_HTTP_BATCH_ENDPOINT", "/many")]).await;
}
