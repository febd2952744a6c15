//! Settings that show in what a registry does, and in nothing else that is tested.

use std::{collections::BTreeSet, path::Path, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    Package, Registry, Upstream, User,
    process::Process,
    registry::client,
    service::{Reply, Service},
};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn passwords_are_as_long_as_they_must_be() {
    for (least, expected) in [("8", 201), ("9", 400)] {
        let registry = Registry::start(&[("RUSTACCIO_PASSWORD_MIN", least)]).await;
        registry.sign_in("alice", "12345678").await.assert(expected);
    }
}

#[tokio::test]
async fn the_service_of_accounts_is_asked_where_it_listens() {
    let service = Service::start(|asked| match &*asked.path {
        "/v2/add" | "/v2/password" => Reply::Json(200, json!({})),
        _ => Reply::Json(401, json!({})),
    })
    .await;
    let registry = Registry::start(&[
        ("RUSTACCIO_AUTH_BACKEND", "http"),
        ("RUSTACCIO_AUTH_HTTP_BASE_URL", &service.url),
        ("RUSTACCIO_AUTH_HTTP_ADDUSER_ENDPOINT", "/v2/add"),
        (
            "RUSTACCIO_AUTH_HTTP_CHANGE_PASSWORD_ENDPOINT",
            "v2/password",
        ),
    ])
    .await;
    let made = registry.sign_in("alice", "password").await.assert(201);
    assert_eq!(service.count("/v2/add"), 1);
    let alice = User {
        token: made.json()["token"].as_str().unwrap().to_owned(),
    };
    let passwords = json!({ "password": { "old": "password", "new": "drowssap" } });
    let path = "/-/npm/v1/user";
    let changed = registry.send_json(Some(&alice), Method::POST, path, &passwords);
    changed.await.assert(200);
    assert_eq!(service.count("/v2/password"), 1);
}

#[tokio::test]
async fn versions_are_signed_unless_that_is_off() {
    for (signing, has_keys) in [("on", true), ("off", false)] {
        let registry = Registry::start(&[("RUSTACCIO_SIGNING", signing)]).await;
        let alice = registry.user("alice").await;
        let package = Package::new("app", "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
        let document = registry.get("/app").await.assert(200).json();
        let signatures = &document["versions"]["1.0.0"]["dist"]["signatures"];
        assert_eq!(signatures.is_array(), has_keys, "{document}");
    }
}

#[tokio::test]
async fn what_upstream_lacks_is_remembered_as_long_as_it_shall() {
    let upstream = Upstream::start().await;
    for (seconds, asked) in [("3600", 1), ("0", 3)] {
        let registry = Registry::start(&[
            ("RUSTACCIO_UPSTREAM", &upstream.url),
            ("RUSTACCIO_PACKAGE_NEGATIVE_CACHE_TTL_SECS", seconds),
        ])
        .await;
        let before = upstream.asked("/missing");
        for _ in 0..3 {
            registry.get("/missing").await.assert(404);
        }
        assert_eq!(upstream.asked("/missing") - before, asked, "{seconds}");
    }
}

#[tokio::test]
async fn pages_can_be_left_out_and_have_a_title() {
    for (enable, login, expected) in [
        ("true", "true", 200),
        ("false", "true", 404),
        ("true", "false", 404),
    ] {
        let registry = Registry::start(&[
            ("RUSTACCIO_WEB_ENABLE", enable),
            ("RUSTACCIO_WEB_LOGIN", login),
            ("RUSTACCIO_WEB_TITLE", "Our Packages"),
        ])
        .await;
        let begun = registry
            .send_json(None, Method::POST, "/-/v1/login", &json!({}))
            .await
            .assert(expected);
        if expected == 200 {
            let url = begun.json()["loginUrl"].as_str().unwrap().to_owned();
            let page = client().get(url).send().await.unwrap();
            assert!(page.text().await.unwrap().contains("Our Packages"));
        }
    }
}

#[tokio::test]
async fn data_lie_where_they_shall() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("of packages");
    let shown = data.display().to_string();
    let registry = Registry::start(&[("RUSTACCIO_DATA_DIR", &shown)]).await;
    let alice = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let tarball = data.join("tarballs/app/app-1.0.0.tgz");
    assert_eq!(std::fs::read(tarball).unwrap(), package.tarball);
    assert!(!registry.data().exists());
}

/// Asks over a connection that stays, and reads as much as comes.
async fn ask(stream: &mut TcpStream) -> String {
    let request = b"GET /-/ping HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = vec![0; 4096];
    let count = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await;
    String::from_utf8_lossy(&answer[..count.unwrap().unwrap()]).into_owned()
}

#[tokio::test]
async fn idle_connections_are_kept_as_long_as_they_shall() {
    let start = async |seconds| {
        let registry = Registry::start(&[("RUSTACCIO_KEEP_ALIVE_TIMEOUT", seconds)]).await;
        let address = registry.url.trim_start_matches("http://");
        let stream = TcpStream::connect(address).await.unwrap();
        (registry, stream)
    };
    let (_short, mut ends) = start("1").await;
    let (_long, mut stays) = start("3600").await;
    for stream in [&mut ends, &mut stays] {
        assert!(ask(stream).await.starts_with("HTTP/1.1 200"));
    }
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, ends.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it is kept");
    assert!(ask(&mut stays).await.starts_with("HTTP/1.1 200"));
}

/// The log of a process that was asked for something.
async fn log_of(variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut all = vec![("RUSTACCIO_UPSTREAM", "http://127.0.0.1:9/")];
    all.extend_from_slice(variables);
    let process = Process::start(folder.path(), &all);
    let answer = client().get(format!("{}/app", process.url)).send().await;
    assert!(answer.unwrap().status().is_server_error());
    process.stop()
}

#[tokio::test]
async fn as_much_is_logged_as_it_shall_be() {
    const LEVEL: &str = "RUSTACCIO_LOG_LEVEL";
    for (level, answered, failed) in [
        ("debug", true, true),
        ("info", false, true),
        ("error", false, true),
    ] {
        let log = log_of(&[(LEVEL, level)]).await;
        assert_eq!(log.contains("answered"), answered, "{level}: {log}");
        assert_eq!(log.contains("request failed"), failed, "{level}: {log}");
        assert_eq!(log.contains("INFO"), level != "error", "{level}: {log}");
    }
}

#[tokio::test]
async fn lines_look_as_they_shall() {
    for (format, is_json) in [("json", true), ("pretty", false), ("compact", false)] {
        let log = log_of(&[("RUSTACCIO_LOG_FORMAT", format)]).await;
        let mut lines = log.lines().map(serde_json::from_str::<Value>);
        assert!(log.lines().count() > 1, "{log}");
        let are_json = lines.all(|line| line.is_ok_and(|line| line["level"].is_string()));
        assert_eq!(are_json, is_json, "{format}: {log}");
    }
}

#[tokio::test]
async fn libraries_speak_where_they_may() {
    for (verbose, speak) in [("true", true), ("false", false)] {
        let log = log_of(&[
            ("RUST_LOG", "debug"),
            ("RUSTACCIO_LOG_FORMAT", "json"),
            ("RUSTACCIO_VERBOSE_DEP_LOGS", verbose),
        ])
        .await;
        assert_eq!(log.contains(r#""target":"hyper_util"#), speak, "{log}");
    }
}

/// How many threads of a process run requests or what blocks.
fn threads(id: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("tokio-rt")).count()
}

/// The sizes of a process's mappings in bytes.
fn mappings(id: u32) -> BTreeSet<usize> {
    let text = std::fs::read_to_string(format!("/proc/{id}/maps")).unwrap();
    let ranges = text.lines().filter_map(|line| {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some(number(to)? - number(from)?)
    });
    ranges.collect()
}

#[test]
fn threads_are_as_many_and_as_large_as_they_shall() {
    // Nothing else has this size.
    const STACK: usize = 5_242_880 + 81_920;
    let folder = tempfile::tempdir().unwrap();
    let few_blocking = ("RUSTACCIO_TOKIO_MAX_BLOCKING_THREADS", "8");
    let start = |workers, stack: &str| {
        let variables = [
            few_blocking,
            ("RUSTACCIO_TOKIO_WORKER_THREADS", workers),
            ("RUSTACCIO_TOKIO_THREAD_STACK_SIZE", stack),
        ];
        Process::start(&folder.path().join(workers), &variables)
    };
    let few = start("1", "1048576");
    let many = start("40", &STACK.to_string());
    assert!(threads(few.id()) <= 9, "{}", threads(few.id()));
    assert!(threads(many.id()) >= 40, "{}", threads(many.id()));
    // With or without what guards it.
    let is_stack = |size: &usize| (STACK..=STACK + 65_536).contains(size);
    assert!(mappings(many.id()).iter().any(is_stack));
    assert!(!mappings(few.id()).iter().any(is_stack));
}

/// A start says what can be reached, family by family, and goes on whatever that is.
#[tokio::test]
async fn a_start_tries_what_it_needs_where_that_is_wanted() {
    let upstream = Upstream::start().await;
    let log = async |check: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yml");
        let text = format!(
            "uplinks:\n  near: {{url: '{}'}}\n  gone: {{url: 'http://127.0.0.1:9/'}}\n  \
             six: {{url: 'http://[::1]:9/'}}\n  nowhere: {{url: 'http://nowhere.invalid/'}}\n\
             packages:\n  '**': {{access: $all, publish: $all, proxy: near}}\n",
            upstream.url
        );
        std::fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        let variables = [
            ("RUSTACCIO_STARTUP_CONNECTIVITY_CHECK", check),
            ("RUSTACCIO_CONFIG", &file),
            ("RUSTACCIO_UPSTREAM", ""),
            ("RUSTACCIO_LOG_FORMAT", "json"),
        ];
        let process = Process::start(Path::new(&folder.path().join("data")), &variables);
        if check == "true" {
            for name in ["near", "gone", "six", "nowhere"] {
                process.wait_for_log(&format!("\"uplink {name}\""), 1);
            }
            process.wait_for_log("\"IPv6\"", 3);
        }
        let ping = client().get(format!("{}/-/ping", process.url)).send().await;
        assert_eq!(ping.unwrap().status(), 200);
        process.stop()
    };
    let said = log("true").await;
    let line = |what: &str, family: &str, message: &str| {
        let parts = [what, family, message].map(|part| format!("\"{part}\""));
        let mut lines = said.lines();
        let is_said = lines.any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(is_said, "{parts:?}: {said}");
    };
    line("uplink near", "IPv4", "can be reached");
    line("uplink near", "IPv6", "has no address of this family");
    line("uplink gone", "IPv4", "cannot be reached");
    line("uplink six", "IPv6", "cannot be reached");
    line("uplink six", "IPv4", "has no address of this family");
    line("uplink nowhere", "what", "has no address");
    let said = log("false").await;
    assert!(!said.contains("be reached"), "{said}");
}
