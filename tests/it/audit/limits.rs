//! How much may be audited at once.

use axum::body::Body;
use http::Request;
use rustaccio::{
    app::build_router,
    config::{Config, Env, Sources},
    runtime::build_state,
};
use tower::ServiceExt as _;

use super::*;

#[tokio::test]
async fn the_tree_of_a_large_project_is_taken() {
    let upstream = Upstream::start().await;
    says(&upstream, QUICK, &report(1, "leaky", &["leaky"]));
    let registry = proxy(&upstream).await;
    let integrity = format!("sha512-{}", "x".repeat(86));
    let dependencies: serde_json::Map<String, Value> = (0..30_000)
        .map(|number| {
            let node = json!({ "version": "1.0.0", "integrity": integrity, "requires": { "leaky": "^1.0.0" } });
            (format!("package-{number}"), node)
        })
        .collect();
    let tree = json!({ "dependencies": dependencies });
    assert!(tree.to_string().len() > 4 << 20);
    post(&registry, QUICK, &tree).await.assert(200);
    let sent = upstream.sent(QUICK).remove(0);
    assert_eq!(sent["dependencies"].as_object().unwrap().len(), 30_000);
    let huge = json!({ "dependencies": {}, "x": "x".repeat(17 << 20) });
    post(&registry, QUICK, &huge).await.assert(413).error();
}

/// An object with this many members, named by their number.
fn many(count: usize, value: &str) -> String {
    let members: Vec<String> = (0..count)
        .map(|number| format!("\"a{number}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

#[tokio::test]
async fn more_than_projects_have_is_refused() {
    let upstream = Upstream::start().await;
    let registry = proxy(&upstream).await;
    let members = |of: &str| format!(r#"{{"dependencies":{of}}}"#);
    // Few names, each in many places.
    let copies = many(1001, &members(&many(100, "{}")));
    let ranges = format!(r#"{{"requires":{}}}"#, many(300_001, "1"));
    let versions = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(300_000));
    for (path, body) in [
        (QUICK, members(&many(50_001, "{}"))),
        (FULL, format!(r#"{{"requires":{}}}"#, many(50_001, "1"))),
        (FULL, members(&copies)),
        (QUICK, ranges),
        (BULK, many(50_001, r#"["1.0.0"]"#)),
        (BULK, many(100_001, "[]")),
        (BULK, versions),
    ] {
        let request = registry.request(Method::POST, path).body(body);
        let message = registry.send(request).await.assert(413).error();
        assert!(message.contains("more than 50000 names"), "{message}");
    }
    // Values that nobody wants take nothing, however many there are.
    let wide = "1,".repeat(2_000_000);
    let body = format!(r#"{{"version":[{wide}1],"requires":[{wide}1],"x":[{wide}1]}}"#);
    let request = registry.request(Method::POST, QUICK).body(body);
    registry.send(request).await.assert(200);
    for path in [BULK, QUICK, FULL] {
        assert_eq!(upstream.asked(path), 0);
    }
}

#[tokio::test]
async fn deep_trees_and_long_texts_do_no_harm() {
    let upstream = Upstream::start().await;
    for path in [BULK, FULL] {
        says(&upstream, path, &json!({}));
    }
    let registry = proxy(&upstream).await;
    // What is read must not be deep; what is passed over may.
    let deep = [
        (QUICK, r#"{"dependencies":{"a":"#, "}}", 400),
        (FULL, r#"{"dependencies":{"a":"#, "}}", 400),
        (BULK, "[", "]", 400),
        (BULK, r#"{"a":"#, "}", 200),
        (QUICK, r#"{"x":"#, "}", 200),
        (QUICK, r#"{"requires":"#, "}", 200),
        (FULL, r#"{"version":"#, "}", 200),
    ];
    for (path, open, close, expected) in deep {
        let body = format!("{}{{}}{}", open.repeat(100_000), close.repeat(100_000));
        let request = registry.request(Method::POST, path).body(body);
        registry.send(request).await.assert(expected);
        assert_eq!(upstream.asked(path), 0);
    }
    let (longest, too_long) = ("n".repeat(214), "n".repeat(215));
    let version = format!("1.0.0-{}", "1".repeat(300));
    let bulk = json!({ &longest: ["1.0.0", version], &too_long: ["1.0.0"], "a": [version] });
    post(&registry, BULK, &bulk).await.assert(200);
    assert_eq!(upstream.sent(BULK), [json!({ &longest: ["1.0.0"] })]);
    let node = json!({ "version": "1.0.0", "requires": { "a": "1 || ".repeat(1000) } });
    let tree =
        json!({ "dependencies": { &longest: node, &too_long: node, "a": { "version": version } } });
    post(&registry, FULL, &tree).await.assert(200);
    let sent = upstream.sent(FULL).remove(0);
    assert_eq!(
        sent["dependencies"][&longest]["requires"],
        json!({ "a": "*" })
    );
    assert!(!sent.to_string().contains(&too_long), "{sent}");
    assert!(!sent.to_string().contains("1111"), "{sent}");
}

#[tokio::test]
async fn others_get_their_turn_while_names_are_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let env: Env = [
        ("RUSTACCIO_DATA_DIR", data.to_str().unwrap()),
        ("RUSTACCIO_UPSTREAM", "none"),
    ]
    .into_iter()
    .collect();
    let config = Config::load(&Sources {
        env,
        ..Sources::default()
    });
    let router = build_router(build_state(&config, None).await.unwrap());
    let request = Request::post(BULK).header("host", "host.example");
    let request = request
        .body(Body::from(many(3200, r#"["1.0.0"]"#)))
        .unwrap();
    let mut answer = std::pin::pin!(router.oneshot(request));
    let mut pauses = 0;
    let answer = std::future::poll_fn(|context| {
        let polled = answer.as_mut().poll(context);
        pauses += usize::from(polled.is_pending());
        polled
    });
    assert_eq!(answer.await.unwrap().status(), 200);
    assert!(pauses >= 100, "{pauses}");
}
