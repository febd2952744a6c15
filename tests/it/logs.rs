//! What is logged, how it looks, and what requests are called in it and elsewhere.

use serde_json::{Value, json};

use crate::support::{Package, Registry, Upstream, process::Process, registry::client};

/// The log of a program that was asked for a package that nobody has.
async fn log(variables: &[(&str, &str)]) -> String {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut all = vec![("RUSTACCIO_UPSTREAM", &*upstream.url)];
    all.extend(variables);
    let process = Process::start(folder.path(), &all);
    let request = client()
        .get(format!("{}/nobody", process.url))
        .header("x-request-id", "r-1");
    assert_eq!(request.send().await.unwrap().status(), 404);
    upstream.fails("/failing", 500);
    let failing = client().get(format!("{}/failing", process.url));
    assert_eq!(failing.send().await.unwrap().status(), 502);
    tokio::task::spawn_blocking(|| process.stop())
        .await
        .unwrap()
}

const FORMAT: &str = "RUSTACCIO_LOG_FORMAT";
const LEVEL: &str = "RUSTACCIO_LOG_LEVEL";

#[tokio::test]
async fn a_line_is_for_people_or_for_machines() {
    let debug = (LEVEL, "debug");
    let json = log(&[(FORMAT, "json"), debug]).await;
    let lines: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let answered = lines.iter().find(|line| line["message"] == "answered");
    let answered = answered.unwrap_or_else(|| panic!("{json}"));
    assert_eq!(answered["status"], 404);
    assert_eq!(answered["span"]["request.id"], "r-1", "{answered}");
    assert_eq!(answered["span"]["path"], "/nobody", "{answered}");

    let (pretty, compact) = (
        log(&[debug]).await,
        log(&[(FORMAT, "compact"), debug]).await,
    );
    for text in [&pretty, &compact] {
        let line = text.lines().find(|line| line.contains("answered"));
        let line = line.unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains("r-1") && line.contains("404"), "{line}");
    }
    // The compact form has the name of the module, and of spans their names alone before the message.
    let is_pretty = |text: &str| text.contains("request{method=GET");
    assert!(
        is_pretty(&pretty) && !is_pretty(&compact),
        "{pretty}{compact}"
    );
}

#[tokio::test]
async fn a_level_says_how_much() {
    for (level, tells_of_failures, tells_of_requests) in [
        ("error", false, false),
        ("warn", true, false),
        ("info", true, false),
        ("debug", true, true),
    ] {
        let log = log(&[(LEVEL, level)]).await;
        assert_eq!(
            log.contains("upstream failed"),
            tells_of_failures,
            "{level}: {log}"
        );
        assert_eq!(
            log.contains("answered"),
            tells_of_requests,
            "{level}: {log}"
        );
    }
    // The directives that all programs of Rust take overrule it.
    let overruled = log(&[(LEVEL, "debug"), ("RUST_LOG", "error")]).await;
    assert!(!overruled.contains("upstream failed"), "{overruled}");
}

#[tokio::test]
async fn libraries_are_heard_where_they_are_asked() {
    let all = ("RUST_LOG", "debug");
    let quiet = log(&[all]).await;
    assert!(quiet.contains("answered"), "{quiet}");
    let of_library =
        |log: &str| log.contains("starting new connection") || log.contains("connecting to");
    assert!(!of_library(&quiet), "{quiet}");
    let loud = log(&[all, ("RUSTACCIO_VERBOSE_DEP_LOGS", "true")]).await;
    assert!(of_library(&loud), "{loud}");
}

/// The ids of requests to these paths.
fn ids(upstream: &Upstream, path: &str) -> Vec<String> {
    let seen = upstream
        .seen()
        .into_iter()
        .filter(|(asked, _)| asked == path);
    seen.map(|(_, headers)| headers["x-request-id"].to_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn uplinks_hear_what_a_request_is_called() {
    let upstream = Upstream::start().await;
    let package = Package::new("far", "1.0.0");
    upstream.has(&[&package]);
    let audit = "/-/npm/v1/security/advisories/bulk";
    upstream.answers(audit, &json!({}));
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let tarball = format!("/far/-/{}", package.file());
    for (path, id) in [("/far", "r-1"), (&tarball, "r-2")] {
        let request = registry.request(reqwest::Method::GET, path);
        registry
            .send(request.header("x-request-id", id))
            .await
            .assert(200);
    }
    let body = json!({ "far": ["1.0.0"] }).to_string();
    let request = registry.request(reqwest::Method::POST, audit).body(body);
    let request = request.header("content-type", "application/json");
    let answer = registry.send(request).await.assert(200);
    assert_eq!(ids(&upstream, "/far"), ["r-1"]);
    assert_eq!(ids(&upstream, &tarball), ["r-2"]);
    // One that has none is given one, which its client hears too.
    let given = answer.header("x-request-id").unwrap();
    assert_eq!(ids(&upstream, audit), [given]);
}
