//! Verdaccio's `notify`: requests in words of the operator for each publish and removal.

use std::{sync::Arc, time::Duration};

use rustaccio::{
    config::{AuditLogConfig, Config, Env, Sources},
    events::{Event, Events, EventsOptions},
    lifecycle::{Lifecycle, SystemClock},
    models::Caller,
    telemetry::Metrics,
};
use serde_json::json;

use crate::support::{Asked, Package, Registry, Reply, Service};

const RULES: &str = "\npackages:\n  '**':\n    access: $all\n    publish: $authenticated\n";

/// The examples of Verdaccio's documentation.
fn examples(url: &str) -> String {
    format!(
        r#"
notify:
  'example-google-chat':
    method: POST
    headers: [{{ 'Content-Type': 'application/json' }}]
    endpoint: {url}/v1/spaces/AAAAB_TcJYs/messages?key=myKey&token=myToken
    content: '{{"text":"New package published: `{{{{ name }}}}{{{{#each versions}}}} v{{{{version}}}}{{{{/each}}}}`"}}'
  'example-hipchat':
    method: POST
    headers: [{{ 'Content-Type': 'application/json' }}]
    endpoint: {url}/v2/room/3729485/notification?auth_token=mySecretToken
    content: '{{"color":"green","message":"New package published: * {{{{ name }}}}*","notify":true,"message_format":"text"}}'
  'example-stride':
    method: POST
    headers: [{{ 'Content-Type': 'application/json' }}, {{ 'authorization': 'Bearer secretToken' }}]
    endpoint: {url}/site/cloudId/conversation/conversationId/message
    content: '{{"body": {{"version": 1,"type": "doc","content": [{{"type": "paragraph","content": [{{"type": "text","text": "New package published: * {{{{ name }}}}* Publisher name: * {{{{ publisher.name }}}}"}}]}}]}}}}'
"#
    )
}

async fn told(service: &Service, file: &str, packages: &[Package]) -> Vec<Asked> {
    let registry = Registry::with_file(&format!("{file}{RULES}")).await;
    let ada = registry.user("ada").await;
    for package in packages {
        registry.publish(&ada, package).await.assert(201);
    }
    registry.stop().await;
    service.asked()
}

#[tokio::test]
async fn the_documented_examples_work() {
    let service = Service::replying(Reply::Json(200, json!({}))).await;
    let packages = [
        Package::new("@acme/tools", "1.0.0"),
        Package::new("@acme/tools", "1.1.0"),
    ];
    let asked = told(&service, &examples(&service.url), &packages).await;
    let to = |start: &str| -> Vec<&Asked> {
        let asked = asked.iter();
        asked
            .filter(|asked| asked.path.starts_with(start))
            .collect()
    };
    let chat = to("/v1/spaces/AAAAB_TcJYs/messages?key=myKey&token=myToken");
    let texts: Vec<_> = chat
        .iter()
        .map(|asked| asked.json()["text"].clone())
        .collect();
    let expected = ["1.0.0", "1.1.0"];
    let expected =
        expected.map(|version| json!(format!("New package published: `@acme/tools v{version}`")));
    assert_eq!(texts, expected);
    let room = to("/v2/room/3729485/notification?auth_token=mySecretToken");
    let message = "New package published: * @acme/tools*";
    assert_eq!(room[0].json()["message"], message);
    let stride = to("/site/cloudId/conversation/conversationId/message");
    assert_eq!(
        stride[0].header("authorization"),
        Some("Bearer secretToken")
    );
    assert_eq!(stride[0].header("content-type"), Some("application/json"));
    let text = &stride[0].json()["body"]["content"][0]["content"][0]["text"];
    assert_eq!(
        text,
        "New package published: * @acme/tools* Publisher name: * ada"
    );
    assert_eq!(asked.len(), 6);
}

#[tokio::test]
async fn one_hook_alone_is_told_of_the_packages_of_its_pattern() {
    let service = Service::replying(Reply::Json(200, json!({}))).await;
    let file = format!(
        "notifications:\n  method: PUT\n  endpoint: {}/hook/\n  packagePattern: ^@ACME/\n  \
         packagePatternFlags: i\n  headers: '{{\"x-from\": \"npm\"}}'\n  \
         content: '{{{{publishType}}}} {{{{publishedPackage}}}} {{{{lookup dist-tags \"latest\"}}}} {{{{description}}}}'\n",
        service.url
    );
    let fields = json!({ "description": "to build with" });
    let packages = [
        Package::with("@acme/tools", "1.0.0", &fields, &[]),
        Package::new("other", "1.0.0"),
    ];
    let asked = told(&service, &file, &packages).await;
    assert_eq!(asked.len(), 1);
    assert_eq!((&*asked[0].method, &*asked[0].path), ("PUT", "/hook/"));
    assert_eq!(asked[0].header("x-from"), Some("npm"));
    assert!(asked[0].header("x-request-id").is_some());
    let text = String::from_utf8(asked[0].body.clone()).unwrap();
    assert_eq!(text, "publish @acme/tools@1.0.0 1.0.0 to build with");
}

#[tokio::test]
async fn a_get_has_its_content_in_the_address_and_removals_are_told_too() {
    let service = Service::replying(Reply::Json(200, json!({}))).await;
    let file = format!(
        "notify:\n  - method: GET\n    endpoint: {}/hook?key=1\n    \
         content: 'what={{{{publishType}}}}&name={{{{name}}}}'\n{RULES}",
        service.url
    );
    let registry = Registry::with_file(&file).await;
    let ada = registry.user("ada").await;
    let package = Package::new("@acme/tools", "1.0.0");
    registry.publish(&ada, &package).await.assert(201);
    registry
        .delete(&ada, "/@acme%2ftools/-rev/1")
        .await
        .assert(201);
    registry.stop().await;
    let asked = service.asked();
    let paths: Vec<&str> = asked.iter().map(|asked| asked.path.as_str()).collect();
    let expected = [
        "/hook?key=1&what=publish&name=%40acme%2Ftools",
        "/hook?key=1&what=unpublish&name=%40acme%2Ftools",
    ];
    assert_eq!(paths, expected);
}

#[tokio::test]
async fn a_hook_that_never_answers_costs_a_publish_nothing() {
    let service = Service::replying(Reply::Never).await;
    let file = format!(
        "event_http_timeout_ms: 600000\nnotify:\n  endpoint: {}/hook\n  content: x\n{RULES}",
        service.url
    );
    let registry = Registry::with_file(&file).await;
    let ada = registry.user("ada").await;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        let package = Package::new("tools", version);
        registry.publish(&ada, &package).await.assert(201);
        service.wait_for(|asked| !asked.is_empty()).await;
    }
    // The first is not answered yet.
    assert_eq!(service.asked().len(), 1);
}

#[tokio::test]
async fn what_waits_for_a_hook_is_bounded_in_bytes() {
    let service = Service::replying(Reply::Never).await;
    let file = format!(
        "notify:\n  endpoint: {}/hook\n  content: x\n{RULES}",
        service.url
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yml");
    std::fs::write(&path, file).unwrap();
    let config = Config::load(&Sources {
        env: Env::default(),
        file: Some(path),
        ..Sources::default()
    });
    let (metrics, lifecycle) = (Metrics::counting(), Lifecycle::new());
    let trail = AuditLogConfig::default();
    let opened = Events::open(EventsOptions {
        events: &config.events,
        audit_log: &trail,
        clock: Arc::new(SystemClock),
        metrics: metrics.clone(),
        lifecycle: lifecycle.clone(),
    });
    let events = opened.await.unwrap();
    let name = "tools".parse().unwrap();
    let event = Event::Published {
        version: "1.0.0".to_owned(),
        tags: Vec::new(),
        new_package: true,
        integrity: String::new(),
        manifest: vec![b' '; 30 << 20].into(),
    };
    for _ in 0..5 {
        events.tell(&Caller::default(), Some(&name), &event);
    }
    let dropped = |count: usize| {
        let line = format!("rustaccio_notifications_total{{outcome=\"dropped\"}} {count}");
        metrics.to_text().lines().any(|found| found == line)
    };
    assert!(dropped(3), "{}", metrics.to_text());
    lifecycle.drain(Duration::from_secs(3)).await;
    // Those that were under way end a moment after their time.
    let all_are_counted = async {
        while !dropped(5) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let counted = tokio::time::timeout(Duration::from_secs(60), all_are_counted).await;
    assert!(counted.is_ok(), "{}", metrics.to_text());
}

#[tokio::test]
async fn what_is_wrong_with_a_hook_stops_the_start_by_its_key() {
    let folder = tempfile::tempdir().unwrap();
    for (hook, key) in [
        ("content: '{{#each versions}}'", "notify.chat.content"),
        (
            "content: x\n    packagePattern: '('",
            "notify.chat.packagePattern",
        ),
        (
            "content: x\n    packagePattern: x\n    packagePatternFlags: q",
            "notify.chat.packagePatternFlags",
        ),
        ("content: x\n    method: DELETE", "notify.chat.method"),
        ("content: x\n    headers: 7", "notify.chat.headers"),
        ("method: POST", "notify.chat.content"),
    ] {
        let path = folder.path().join("config.yml");
        let text = format!("notify:\n  chat:\n    endpoint: http://x.example/secret\n    {hook}\n");
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&Sources {
            env: Env::default(),
            file: Some(path),
            ..Sources::default()
        });
        let problems = config.describe_problems();
        assert!(problems.starts_with(key), "{problems}");
        assert!(!problems.contains("secret"), "{problems}");
    }
}
