//! What services are asked is what the contracts say: the documents against real questions.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use crate::support::{Package, Registry, Reply, Service, User};

fn document(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/contracts");
    fs::read_to_string(file.join(name)).unwrap()
}

/// The rows of the table below a heading, as cells without their ticks.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, section) = document.split_once(&format!("## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    rows.skip(2)
        .map(|row| {
            let cells = row.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().replace('`', "")).collect()
        })
        .collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn accounts_are_asked_about_as_documented() {
    let rows = table(&document("auth-request-v1.md"), "Questions");
    assert_eq!(rows.len(), 7);
    let service = Service::start(|asked| match asked.json()["token"].as_str() {
        Some("outside") => Reply::Json(200, json!({ "username": "bob" })),
        Some(_) => Reply::Json(401, json!({})),
        None if asked.json()["password"] == "new user's" => Reply::Json(401, json!({})),
        None => Reply::Json(200, json!({})),
    })
    .await;
    // Each question goes to an endpoint that is named after its setting.
    let variables: Vec<(&str, String)> = rows
        .iter()
        .map(|row| (row[1].as_str(), format!("/{}", row[1])))
        .collect();
    let mut variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, path)| (*name, path.as_str()))
        .collect();
    variables.push(("RUSTACCIO_AUTH_BACKEND", "http"));
    variables.push(("RUSTACCIO_AUTH_HTTP_BASE_URL", &service.url));
    let registry = Registry::start(&variables).await;
    let alice = registry.user("alice").await;
    registry.sign_in("carol", "new user's").await;
    let change = json!({ "password": { "old": "password", "new": "another" } });
    let path = "/-/npm/v1/user";
    registry
        .send_json(Some(&alice), reqwest::Method::POST, path, &change)
        .await
        .assert(200);
    let bob = User {
        token: "outside".to_owned(),
    };
    let package = Package::new("app", "1.0.0");
    registry.publish(&bob, &package).await.assert(201);
    registry.get_as(&bob, "/app").await.assert(200);
    registry.delete(&bob, "/app/-rev/1").await;
    for row in rows {
        let bodies = service.bodies(&format!("/{}", row[1]));
        let documented: BTreeSet<String> = row[2].split(", ").map(str::to_owned).collect();
        assert!(!bodies.is_empty(), "{row:?} was not asked");
        for body in bodies {
            assert_eq!(keys(&body), documented, "{row:?}");
        }
    }
    let is_json = |header: Option<&str>| header == Some("application/json");
    for asked in service.asked() {
        assert_eq!(asked.method, "POST");
        assert!(is_json(asked.header("content-type")));
        assert!(asked.header("x-request-id").is_some(), "{asked:?}");
    }
}

#[tokio::test]
async fn decisions_are_asked_for_as_documented() {
    let text = document("policy-decision-v1.md");
    let rows = table(&text, "The question");
    let documented: BTreeSet<String> = rows.iter().map(|row| row[0].clone()).collect();
    let service = Service::start(|asked| match asked.json()["packages"].as_array() {
        Some(packages) => Reply::Json(
            200,
            json!({ "decisions": vec![Value::Null; packages.len()] }),
        ),
        None => Reply::Json(200, json!({})),
    })
    .await;
    let registry = Registry::start(&[
        ("RUSTACCIO_POLICY_BACKEND", "http"),
        ("RUSTACCIO_POLICY_HTTP_BASE_URL", &service.url),
        ("RUSTACCIO_POLICY_HTTP_BATCH_ENDPOINT", "/batch"),
    ])
    .await;
    let alice = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    registry.get("/app").await.assert(200);
    registry.delete(&alice, "/app/-rev/1").await;
    registry
        .publish(&alice, &Package::new("other", "1.0.0"))
        .await;
    registry.get("/-/all").await.assert(200);
    let singles = service.bodies("/authorize");
    let mut actions = BTreeSet::new();
    for body in &singles {
        assert_eq!(keys(body), documented);
        actions.insert(body["action"].as_str().unwrap().to_owned());
    }
    let words = rows.iter().find(|row| row[0] == "action").unwrap();
    for action in ["access", "publish", "unpublish"] {
        assert!(
            actions.contains(action) && words[1].contains(action),
            "{action}"
        );
    }
    assert_eq!(actions.len(), 3);
    let mut of_many = documented.clone();
    of_many.remove("package");
    of_many.insert("packages".to_owned());
    let many = service.bodies("/batch");
    assert_eq!(many.len(), 1);
    assert_eq!(keys(&many[0]), of_many);
    let default = text.contains("RUSTACCIO_POLICY_HTTP_DECISION_ENDPOINT");
    assert!(default && !singles.is_empty());
}
