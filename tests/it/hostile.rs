//! Input that is meant to hurt: 4xx, no panic, nothing opened or written outside.

mod tarballs;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    Package, Registry, Upstream, User,
    process::Process,
    publish_body,
    registry::{client, with_json},
};

/// Sends a request line as it is: clients would clean it.
async fn raw(registry: &Registry, method: &str, target: &str, user: &User, body: &str) -> u16 {
    let address = registry.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}",
        user.token
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

/// All files below `folder`, but for what every registry has.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path);
        }
    }
    found
}

const CLIMBING: [&str; 14] = [
    "..",
    "%2e%2e",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fstate.json",
    "..%5c..%5cx",
    "%2fetc%2fpasswd",
    "C:%5cx",
    "a%00b",
    "a%0d%0ax-evil:%201",
    "%ff%fe",
    "%c0%ae%c0%ae",
    "%zz",
    "@..%2f..",
    "@a%2f..%2fb",
];

#[tokio::test]
async fn no_parameter_leads_outside() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    registry
        .publish(&alice, &Package::new("app", "1.0.0"))
        .await
        .assert(201);
    let before = files(registry.folder());
    let body = publish_body(&Package::new("app", "9.0.0"), "latest").to_string();
    for bad in CLIMBING {
        let targets = [
            ("GET", format!("/{bad}")),
            ("PUT", format!("/{bad}")),
            ("GET", format!("/app/{bad}")),
            ("GET", format!("/app/-/{bad}")),
            ("GET", format!("/app/-/{bad}.tgz")),
            ("DELETE", format!("/{bad}/-rev/1")),
            ("DELETE", format!("/app/-/{bad}/-rev/1")),
            ("PUT", format!("/-/package/app/dist-tags/{bad}")),
            ("PUT", format!("/-/package/{bad}/dist-tags/x")),
            ("PUT", format!("/-/user/org.couchdb.user:{bad}")),
            ("DELETE", format!("/-/npm/v1/tokens/token/{bad}")),
        ];
        for (method, target) in targets {
            let body = if method == "PUT" { &body } else { "" };
            let status = raw(&registry, method, &target, &alice, body).await;
            assert!((200..500).contains(&status), "{method} {target}: {status}");
            assert!(
                status >= 400 || method == "DELETE",
                "{method} {target}: {status}"
            );
        }
    }
    assert_eq!(files(registry.folder()), before);
    registry.get("/app").await.assert(200);
}

#[tokio::test]
async fn no_parameter_leads_upstream_astray() {
    let upstream = Upstream::start().await;
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let alice = registry.user("alice").await;
    upstream.has(&[&Package::new("lib", "1.0.0")]);
    for bad in CLIMBING {
        for target in [
            format!("/{bad}"),
            format!("/{bad}/latest"),
            format!("/{bad}/-/x-1.0.0.tgz"),
            format!("/lib/{bad}"),
            format!("/lib/-/{bad}"),
            format!("/lib/-/{bad}.tgz"),
            format!("/@scope%2f{bad}"),
            format!("/-/npm/v1/attestations/{bad}@1.0.0"),
            format!("/-/npm/v1/attestations/lib@{bad}"),
            format!("/-/package/{bad}/dist-tags"),
        ] {
            let status = raw(&registry, "GET", &target, &alice, "").await;
            assert!((400..500).contains(&status), "{target}: {status}");
        }
    }
    registry.get("/lib").await.assert(200);
    for (path, _) in upstream.seen() {
        let is_clean = path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/%@._-".contains(&byte));
        let decoded = percent_encoding::percent_decode_str(&path).decode_utf8_lossy();
        assert!(is_clean && !decoded.contains(".."), "{path}");
        assert!(!decoded.contains(['\\', '\0', '\r', '\n']), "{path}");
        // The only slash in a name is that of its scope.
        let name = path.trim_start_matches('/').split("/-/").next().unwrap();
        assert!(name.starts_with('-') || !name.contains('/'), "{path}");
    }
}

#[tokio::test]
async fn names_of_javascript_are_names() {
    let registry = Registry::alone().await;
    for name in ["constructor", "tostring", "hasownproperty"] {
        let user = registry.user(name).await;
        let package = Package::new(name, "1.0.0");
        registry
            .publish_as(&user, &package, "__proto__")
            .await
            .assert(201);
        let document = registry.get(&format!("/{name}")).await.assert(200).json();
        assert_eq!(document["dist-tags"]["__proto__"], "1.0.0");
        registry
            .get(&format!("/{name}/__proto__"))
            .await
            .assert(200);
        registry
            .get(&format!("/{name}/constructor"))
            .await
            .assert(404);
        let star = json!({ "_id": name, "users": { name: true, "__proto__": true } });
        registry
            .put(&user, &format!("/{name}"), &star)
            .await
            .assert(201);
        let found = registry
            .get(&format!("/-/v1/search?text={name}"))
            .await
            .json();
        assert_eq!(found["total"], 1);
    }
    // Not publishable, and an ordinary name to ask for.
    registry.get("/__proto__").await.assert(400);
    registry.user("__proto__").await;
}

#[tokio::test]
async fn names_that_are_too_long_or_odd() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    for name in [
        "a".repeat(215),
        format!("@{}/b", "a".repeat(214)),
        "é".to_owned(),
        "a b".to_owned(),
        "-".to_owned(),
        ".hidden".to_owned(),
        "_under".to_owned(),
    ] {
        let package = Package::new(&name, "1.0.0");
        let path = format!(
            "/{}",
            percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC)
        );
        let answer = registry
            .put(&alice, &path, &publish_body(&package, "latest"))
            .await;
        assert!(answer.status.is_client_error(), "{name}");
    }
    registry
        .publish(&alice, &Package::new(&"a".repeat(214), "1.0.0"))
        .await
        .assert(201);
    let long = "x".repeat(20_000);
    let status = raw(&registry, "GET", &format!("/{long}"), &alice, "").await;
    assert!((400..500).contains(&status), "{status}");
}

#[tokio::test]
async fn bodies_that_are_no_documents() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let deep = format!(
        "{{\"name\":\"app\",\"x\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let many = (0..200_000).map(|number| format!("\"k{number}\":1,"));
    let many = many.collect::<Vec<_>>().concat();
    let wide = format!("{{{many}\"name\":\"app\"}}");
    let twice = r#"{"_attachments":{"a":{"data":"YQ=="}},"_attachments":{}}"#.to_owned();
    let invalid = "{\"name\":\"\u{0}\"}".to_owned();
    let bodies = [
        deep,
        wide,
        twice,
        invalid,
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "\"x\"".to_owned(),
        "{".to_owned(),
        "{\"versions\":{\"1.0.0\":7}}".to_owned(),
        "{\"_attachments\":{\"app-1.0.0.tgz\":{\"data\":7}}}".to_owned(),
    ];
    for body in bodies {
        let request = registry
            .request(Method::PUT, "/app")
            .bearer_auth(&alice.token)
            .body(body.clone());
        let answer = registry.send(request).await;
        let start: String = body.chars().take(60).collect();
        assert!(
            answer.status.is_client_error(),
            "{start}: {}",
            answer.status
        );
        assert!(answer.json()["error"].is_string());
    }
    let broken = [0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d];
    let request = registry
        .request(Method::PUT, "/app")
        .bearer_auth(&alice.token)
        .body(broken.to_vec());
    registry.send(request).await.assert(400);
    for path in ["/-/npm/v1/tokens", "/-/npm/v1/user"] {
        let request = registry
            .request(Method::POST, path)
            .bearer_auth(&alice.token)
            .body("{{{");
        registry.send(request).await.assert(400);
        let huge = format!("\"{}\"", "x".repeat(2_000_000));
        let request = registry
            .request(Method::POST, path)
            .bearer_auth(&alice.token)
            .body(huge);
        registry.send(request).await.assert(413);
    }
}

#[tokio::test]
async fn headers_that_lie() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    registry
        .publish(&alice, &Package::new("app", "1.0.0"))
        .await
        .assert(201);
    let headers = [
        ("authorization", "Bearer"),
        ("authorization", "Basic !!!"),
        ("authorization", "Digest x"),
        ("x-forwarded-for", "127.0.0.1, evil"),
        ("x-forwarded-host", "evil.example"),
        ("range", "bytes=0-18446744073709551616"),
        ("if-none-match", "\"\"\"\",,,W/"),
        ("if-modified-since", "Thu, 99 Foo 99999 99:99:99 GMT"),
        ("accept", "*/*;q=99999999999999999999"),
        ("accept-encoding", "gzip;q=-1, ;;;=,br;q=2"),
        ("content-encoding", "x"),
        ("npm-session", "\t"),
    ];
    for (name, value) in headers {
        for path in ["/app", "/app/-/app-1.0.0.tgz", "/-/ping"] {
            let request = registry.request(Method::GET, path).header(name, value);
            let answer = registry.send(request).await;
            assert!(answer.status.as_u16() < 500, "{name}: {value}");
            assert!(!String::from_utf8_lossy(&answer.body).contains("evil"));
        }
    }
}

#[tokio::test]
async fn an_address_cannot_be_made_up() {
    let with_trust = async |trust: &str| {
        let registry = Registry::start(&[("RUSTACCIO_TRUST_PROXY", trust)]).await;
        let alice = registry.user("alice").await;
        let limited = json!({ "password": "password", "cidr_whitelist": ["10.1.0.0/16"] });
        let made = registry.send_json(Some(&alice), Method::POST, "/-/npm/v1/tokens", &limited);
        let token = made.await.assert(200).json()["token"]
            .as_str()
            .unwrap()
            .to_owned();
        (registry, User { token })
    };
    let status = async |registry: &Registry, user: &User, forwarded: &str| {
        let request = registry
            .request(Method::GET, "/-/whoami")
            .bearer_auth(&user.token);
        let answer = registry
            .send(request.header("x-forwarded-for", forwarded))
            .await;
        answer.status.as_u16()
    };
    // The proxy appends whom it saw; what stands before that is the client's own.
    for (trust, forwarded, expected) in [
        ("true", "10.1.0.5", 200),
        ("true", "203.0.113.9, 10.1.0.5", 200),
        ("true", "10.1.0.5, 203.0.113.9", 401),
        ("true", "10.1.0.5, rubbish", 401),
        ("127.0.0.0/8", "10.1.0.5, 203.0.113.9", 401),
        ("127.0.0.0/8", "203.0.113.9, 10.1.0.5", 200),
        (
            "127.0.0.0/8,192.168.0.0/16",
            "203.0.113.9, 10.1.0.5, 192.168.0.1",
            200,
        ),
        ("false", "10.1.0.5", 401),
    ] {
        let (registry, user) = with_trust(trust).await;
        let found = status(&registry, &user, forwarded).await;
        assert_eq!(found, expected, "{trust}: {forwarded}");
    }
    // Failed logins count for the address that the proxy saw, whatever the client says.
    let registry = Registry::start(&[("RUSTACCIO_TRUST_PROXY", "true")]).await;
    registry.user("alice").await;
    let mut last = 0;
    for number in 0..8 {
        let body = json!({ "name": "alice", "password": "wrong" }).to_string();
        let request = registry
            .request(Method::PUT, "/-/user/org.couchdb.user:alice")
            .header(
                "x-forwarded-for",
                format!("198.51.100.{number}, 203.0.113.9"),
            )
            .header("content-type", "application/json")
            .body(body);
        last = registry.send(request).await.status.as_u16();
    }
    assert_eq!(last, 429);
}

/// Whoever is behind the proxy is not the proxy, whatever stands before or in the proxy's entry.
#[tokio::test]
async fn nobody_has_the_address_of_the_proxy() {
    let registry = Registry::start(&[("RUSTACCIO_TRUST_PROXY", "127.0.0.0/8")]).await;
    let alice = registry.user("alice").await;
    let token = async |network: &str| {
        let limited = json!({ "password": "password", "cidr_whitelist": [network] });
        let made = registry.send_json(Some(&alice), Method::POST, "/-/npm/v1/tokens", &limited);
        let made = made.await.assert(200).json();
        made["token"].as_str().unwrap().to_owned()
    };
    let inside = token("127.0.0.0/8").await;
    let (office, office6) = (token("10.1.0.0/16").await, token("2001:db8::/32").await);
    let cases: [(&str, &[u8], u16); 12] = [
        (&inside, b"127.0.0.2", 200),
        (&inside, b"\xff, 203.0.113.9", 401),
        (&inside, b"\xc3\xa9", 401),
        (&inside, b"203.0.113.9:5000", 401),
        (&inside, b"[2001:db8::1]", 401),
        (&inside, b"unknown", 401),
        (&inside, b"", 401),
        (&office, b"\xff, 10.1.0.5", 200),
        (&office, b"10.1.0.5:5000", 200),
        (&office, b"10.1.0.5, \xff, 127.0.0.2", 401),
        (&office6, b"[2001:db8::1]", 200),
        (&office6, b"[2001:db8::1]:5000, 127.0.0.2", 200),
    ];
    for (token, forwarded, expected) in cases {
        let request = registry.request(Method::GET, "/-/whoami");
        let request = request.bearer_auth(token);
        let request = request.header("x-forwarded-for", forwarded);
        let found = registry.send(request).await.status.as_u16();
        let forwarded = String::from_utf8_lossy(forwarded);
        assert_eq!(found, expected, "{forwarded}");
    }
}

/// What a client may send that nobody else should read, and the log of all of it.
#[tokio::test]
async fn secrets_stay_out_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let variables = [("RUST_LOG", "trace"), ("RUSTACCIO_WEB_LOGIN", "true")];
    let registry = Process::start(&data, &variables);
    let client = client();
    let send = async |method: Method, path: &str, token: Option<&str>, body: Value| {
        let request = client.request(method, format!("{}{path}", registry.url));
        let mut request = with_json(request, &body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let text = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str::<Value>(&text).unwrap_or_default()
    };
    let mut secrets = vec!["a-pass-word-of-alice".to_owned()];
    let sign_in = "/-/user/org.couchdb.user:alice";
    for _ in 0..2 {
        let account = json!({ "name": "alice", "password": secrets[0] });
        let answer = send(Method::PUT, sign_in, None, account).await;
        secrets.push(answer["token"].as_str().unwrap().to_owned());
    }
    let (first, second) = (secrets[1].clone(), secrets[2].clone());
    let wish = json!({ "password": secrets[0] });
    let made = send(Method::POST, "/-/npm/v1/tokens", Some(&first), wish).await;
    let made = made["token"].as_str().unwrap().to_owned();
    let login = send(Method::POST, "/-/v1/login", None, json!({})).await;
    let last_of = |url: &str| {
        let url = login[url].as_str().unwrap();
        url.rsplit('/').next().unwrap().to_owned()
    };
    let (page, session) = (last_of("loginUrl"), last_of("doneUrl"));
    secrets.extend([made.clone(), page.clone(), session.clone()]);
    for (method, path, token) in [
        (
            Method::DELETE,
            format!("/-/npm/v1/tokens/token/{made}"),
            Some(&first),
        ),
        (
            Method::GET,
            format!("/-/web/login?next=/-/v1/login_cli/{page}"),
            None,
        ),
        (Method::GET, format!("/-/v1/done/{session}"), None),
        (Method::POST, format!("/-/v1/login_cli/{page}"), None),
        (Method::GET, format!("/-/v1/done/{session}"), None),
        (
            Method::DELETE,
            format!("/wrong/-/user/token/{first}"),
            Some(&first),
        ),
        (
            Method::DELETE,
            format!("/-/%75ser//token/{first}"),
            Some(&first),
        ),
        (
            Method::DELETE,
            format!("/-/user/token/{second}"),
            Some(&second),
        ),
        (Method::GET, "/-/whoami".to_owned(), Some(&first)),
    ] {
        let body = json!({ "username": "alice", "password": secrets[0] });
        let answer = send(method, &path, token.map(String::as_str), body).await;
        secrets.extend(answer["token"].as_str().map(str::to_owned));
    }
    assert_eq!(secrets.len(), 8, "nobody was signed in: {secrets:?}");
    let request = client.get(format!("{}/-/whoami", registry.url));
    let request = request.basic_auth("alice", Some(&secrets[0]));
    assert_eq!(request.send().await.unwrap().status(), 200);
    secrets.push(STANDARD.encode(format!("alice:{}", secrets[0])));
    let text = registry.stop();
    for shown in [
        "/-/user/token/***",
        "/-/npm/v1/tokens/token/***",
        "/-/v1/done/***",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    for secret in secrets {
        assert!(!text.contains(&secret), "{secret}: {text}");
    }
}

#[tokio::test]
async fn a_body_may_be_slow_and_may_not_stand_still() {
    let registry = Registry::start(&[("RUSTACCIO_REQUEST_TIMEOUT_SECS", "2")]).await;
    let alice = registry.user("alice").await;
    let body = publish_body(&Package::new("app", "1.0.0"), "latest").to_string();
    let address = registry.url.trim_start_matches("http://");
    let begin = async || {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "PUT /app HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            alice.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let end = async |mut stream: TcpStream| {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    let (start, rest) = body.split_at(body.len() / 2);
    let mut still = begin().await;
    still.write_all(start.as_bytes()).await.unwrap();
    let answer = end(still).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("REQUEST_TIMEOUT"), "{answer}");
    // Longer than the limit altogether.
    let mut slow = begin().await;
    slow.write_all(start.as_bytes()).await.unwrap();
    for piece in rest.as_bytes().chunks(rest.len() / 5 + 1) {
        tokio::time::sleep(Duration::from_millis(700)).await;
        slow.write_all(piece).await.unwrap();
    }
    let answer = end(slow).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
}
