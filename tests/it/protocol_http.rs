//! What holds for answers at every address: methods, validators, how long they may be kept, and JSON
//! wherever nothing is.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use http::header;
use reqwest::Method;
use rustaccio::config::{Config, Sources};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    protocol_reads::registry,
    reading::{ABBREVIATED, get_with},
    support::{Answer, Package, Registry},
};

#[tokio::test]
pub(crate) async fn documents_for_two_addresses_do_not_mix() {
    let (registry, _upstream, _) = registry().await;
    let get = async |host: &str, etag: &str| {
        let request = registry.request(Method::GET, "/@up/lib");
        let request = request
            .header(header::HOST, host)
            .header("if-none-match", etag);
        registry.send(request).await
    };
    let one = get("one.example", "\"\"").await.assert(200);
    let two = get("two.example:8080", one.header("etag").unwrap()).await;
    let two = two.assert(200);
    for (answer, host) in [(&one, "one.example"), (&two, "two.example:8080")] {
        let tarball = &answer.json()["versions"]["1.0.0"]["dist"]["tarball"];
        assert_eq!(*tarball, format!("http://{host}/@up/lib/-/lib-1.0.0.tgz"));
    }
    get("one.example", one.header("etag").unwrap())
        .await
        .assert(304);
}

#[tokio::test]
pub(crate) async fn tarballs_have_no_coding_and_an_exact_length() {
    let (registry, upstream, alice) = registry().await;
    let ours = Package::heavy("@acme/heavy", "1.0.0", 300_000);
    registry.publish(&alice, &ours).await.assert(201);
    let theirs = Package::heavy("heavy", "1.0.0", 300_000);
    upstream.has(&[&theirs]);
    for package in [&ours, &theirs, &theirs] {
        let path = format!("/{}/-/{}", package.name, package.file());
        let headers = [("accept-encoding", "gzip, deflate, br, zstd")];
        let answer = get_with(&registry, &path, &headers).await.assert(200);
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(
            answer.header("content-type"),
            Some("application/octet-stream")
        );
        assert_eq!(answer.body, package.tarball);
        let length = package.tarball.len().to_string();
        assert_eq!(answer.header("content-length"), Some(&*length));
    }
}

#[tokio::test]
pub(crate) async fn every_representation_has_its_own_validators() {
    let (registry, _upstream, _) = registry().await;
    for path in ["/@acme/app", "/@up/lib"] {
        let mut tags = BTreeSet::new();
        for accept in ["application/json", ABBREVIATED] {
            for coding in ["identity", "gzip", "br", "zstd"] {
                let wanted = [("accept", accept), ("accept-encoding", coding)];
                let first = get_with(&registry, path, &wanted).await.assert(200);
                let etag = first.header("etag").unwrap();
                assert!(tags.insert(etag.to_owned()), "{path} {accept} {coding}");
                let known = [wanted[0], wanted[1], ("if-none-match", etag)];
                let again = get_with(&registry, path, &known).await.assert(304);
                for name in ["etag", "cache-control", "vary", "last-modified"] {
                    assert!(again.header(name).is_some(), "{name}");
                    assert_eq!(again.header(name), first.header(name), "{name}");
                }
            }
        }
        let first = registry.get(path).await;
        let (etag, modified) = (first.header("etag").unwrap(), first.header("last-modified"));
        let modified = modified.unwrap();
        let weak = format!("W/{etag}");
        let old = "Thu, 01 Jan 1970 00:00:00 GMT";
        for (tag, date, status) in [
            (etag, old, 304),
            (&*weak, old, 304),
            ("\"other\"", modified, 200),
            ("*", old, 304),
        ] {
            let known = [("if-none-match", tag), ("if-modified-since", date)];
            get_with(&registry, path, &known).await.assert(status);
        }
        get_with(&registry, path, &[("if-modified-since", modified)])
            .await
            .assert(304);
        get_with(&registry, path, &[("if-modified-since", old)])
            .await
            .assert(200);
    }
    let version = registry.get("/@acme/app/1.0.0").await.assert(200);
    let known = [("if-none-match", version.header("etag").unwrap())];
    get_with(&registry, "/@acme/app/1.0.0", &known)
        .await
        .assert(304);
    get_with(&registry, "/@acme/app/1.1.0", &known)
        .await
        .assert(200);
}

/// The addresses of all routes that take `GET`, from the table itself, with something that is
/// there in place of each parameter.
fn get_routes() -> Vec<String> {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/mod.rs");
    let table = fs::read_to_string(table).unwrap();
    let routes = table.lines().filter_map(|line| {
        let (path, methods) = line.trim().strip_prefix(".route(\"")?.split_once('"')?;
        let takes_get = methods.contains(" get(") || methods.contains(" any(");
        takes_get.then(|| {
            path.replace("{package}", "@acme%2fapp")
                .replace("{file}", "app-1.0.0.tgz")
                .replace("{version}", "1.0.0")
                .replace("{tag}", "latest")
                .replace("{organisation}", "acme")
                .replace("{team}", "developers")
                .replace("{text}", "org.couchdb.user:alice")
                .replace("{*rest}", "nothing/here")
        })
    });
    let mut routes: Vec<String> = routes.collect();
    assert!(routes.len() > 30, "{routes:?}");
    let further = [
        "/@up%2flib",
        "/@up%2flib/latest",
        "/@up%2flib/-/lib-1.0.0.tgz",
        "/missing",
        "/@acme%2fapp/9.9.9",
        "/-/ping?write=true",
        "/-/v1/search?text=app",
        "/-/_view/starredByUser?key=%22alice%22",
    ];
    routes.extend(further.map(str::to_owned));
    routes
}

#[tokio::test]
pub(crate) async fn head_is_get_without_a_body_on_every_route() {
    let (registry, _upstream, alice) = registry().await;
    // From the cache: a tarball that is still on its way has no parts yet.
    registry.get("/@up%2flib/-/lib-1.0.0.tgz").await.assert(200);
    for path in get_routes() {
        for user in [None, Some(&alice)] {
            let send = async |method: Method| {
                let mut request = registry.request(method, &path);
                if let Some(user) = user {
                    request = request.bearer_auth(&user.token);
                }
                registry.send(request).await
            };
            let (get, head) = (send(Method::GET).await, send(Method::HEAD).await);
            assert_eq!(head.status, get.status, "{path}");
            assert!(head.body.is_empty(), "{path}");
            let headers = |answer: &Answer| {
                let mut headers = answer.headers.clone();
                for changing in ["date", "x-request-id"] {
                    headers.remove(changing);
                }
                headers
            };
            assert_eq!(headers(&head), headers(&get), "{path}");
        }
    }
}

#[tokio::test]
pub(crate) async fn every_answer_says_how_long_it_may_be_kept() {
    let (registry, _upstream, alice) = registry().await;
    for path in get_routes() {
        for user in [None, Some(&alice)] {
            let mut request = registry.request(Method::GET, &path);
            if let Some(user) = user {
                request = request.bearer_auth(&user.token);
            }
            let answer = registry.send(request).await;
            let status = answer.status.as_u16();
            let kept = answer.header("cache-control").unwrap_or_default();
            let is_theirs = path.contains("@up") && user.is_none();
            let expected: &[&str] = match (is_theirs, path.contains(".tgz") && status == 200) {
                (true, true) => &["public, max-age=31557600, immutable"],
                (true, false) => &["public, max-age=60"],
                (false, true) => &["private, max-age=31557600, immutable"],
                // The same for everybody: which keys there are is no secret.
                (false, false) if path == "/-/npm/v1/keys" => &["public, max-age=300"],
                (false, false) if path.starts_with("/-/web") => &["private, no-cache", "no-store"],
                (false, false) => &["private, no-cache", "no-cache, no-store"],
            };
            assert!(expected.contains(&kept), "{path}: `{kept}`");
        }
    }
    // Whoever signs in meanwhile must not see what everybody saw.
    let refused = registry
        .request(Method::GET, "/-/whoami")
        .bearer_auth("rubbish");
    let refused = registry.send(refused).await.assert(401);
    assert_eq!(refused.header("cache-control"), Some("private, no-cache"));
    let range = [("range", "bytes=99999999-")];
    let beyond = get_with(&registry, "/@acme/app/-/app-1.0.0.tgz", &range).await;
    assert!(beyond.assert(416).header("cache-control").is_some());
}

#[tokio::test]
pub(crate) async fn no_accept_header_is_unacceptable() {
    let (registry, _upstream, alice) = registry().await;
    let accepts = [
        "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*",
        ABBREVIATED,
        "text/html",
        "image/*;q=0.1",
        "application/octet-stream",
        "*/*;q=0",
        "",
        ";;q=,,",
    ];
    for (path, content_type) in [
        ("/-/whoami", "application/json"),
        ("/-/npm/v1/keys", "application/json"),
        ("/-/v1/search?text=app", "application/json"),
        ("/-/package/@acme%2fapp/dist-tags", "application/json"),
        ("/@acme/app/latest", "application/json"),
        ("/@acme/app/-/app-1.0.0.tgz", "application/octet-stream"),
        ("/-/ping", "application/json"),
        ("/", "application/json"),
    ] {
        for accept in accepts {
            // Browsers say this first, and get a page.
            let content_type = match (path, accept) {
                ("/", "text/html") => "text/html; charset=utf-8",
                _ => content_type,
            };
            let request = registry
                .request(Method::GET, path)
                .bearer_auth(&alice.token);
            let answer = registry
                .send(request.header("accept", accept))
                .await
                .assert(200);
            assert_eq!(
                answer.header("content-type"),
                Some(content_type),
                "{path} {accept}"
            );
        }
    }
}

#[tokio::test]
pub(crate) async fn small_addresses_answer_as_tools_expect() {
    let (registry, _upstream, _) = registry().await;
    for path in ["/-/ping", "/-/ping?write=true"] {
        assert_eq!(registry.get(path).await.assert(200).json(), json!({}));
    }
    let html = [("accept", "text/html,application/xhtml+xml;q=0.9")];
    for headers in [&[("accept", "application/json")][..], &[]] {
        let root = get_with(&registry, "/", headers).await.assert(200);
        assert_eq!(root.header("content-type"), Some("application/json"));
        assert_eq!(root.json()["registry"], format!("{}/", registry.url));
    }
    let head = registry
        .send(registry.request(Method::HEAD, "/"))
        .await
        .assert(200);
    assert!(head.body.is_empty());
    let all = registry.get("/-/all").await.assert(200).json();
    assert!(all["@acme/app"].is_object());
    for path in [
        "/-/_changes",
        "/-/_all_docs",
        "/-/nothing",
        "/-/npm/v1/nothing",
        "/-/",
    ] {
        let answer = get_with(&registry, path, &html).await.assert(404);
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{path}"
        );
        assert_eq!(answer.json()["code"], "STORAGE_NOT_FOUND", "{path}");
    }
    let default = Config::load(&Sources::default()).server.keep_alive_timeout;
    assert!(default.as_secs() >= 65);
}

#[tokio::test]
pub(crate) async fn what_is_not_built_is_not_found_in_json() {
    let prefixed = Registry::start(&[("RUSTACCIO_URL_PREFIX", "/npm")]).await;
    let root = prefixed.url.trim_end_matches("/npm").to_owned();
    let alice = prefixed.user("alice").await;
    let body = json!({ "oidcToken": "x" }).to_string();
    let cases = [
        (Method::POST, "/-/npm/v1/oidc/token/exchange/package/@s%2fn"),
        (Method::GET, "/-/npm/v1/hooks"),
        (Method::POST, "/-/npm/v1/hooks/hook"),
        (Method::GET, "/-/package/@s%2fn/trust"),
        (Method::POST, "/-/package/@s%2fn/trust"),
        (Method::PUT, "/-/pnpr/v0/publish"),
        (Method::GET, "/-/pnpr"),
        (Method::GET, "/-/stage"),
    ];
    for (method, path) in cases {
        for base in [&prefixed.url, &root] {
            let request = prefixed
                .client
                .request(method.clone(), format!("{base}{path}"))
                .bearer_auth(&alice.token)
                .header("content-type", "application/json")
                .body(body.clone());
            let answer = prefixed.send(request).await.assert(404);
            assert_eq!(
                answer.header("content-type"),
                Some("application/json"),
                "{base}{path}"
            );
            assert_eq!(answer.error(), "not found", "{base}{path}");
        }
    }
}

/// The answer to a request as it is written on the wire.
async fn raw(registry: &Registry, request: &str) -> String {
    let address = registry.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
pub(crate) async fn nobody_writes_into_the_notice_of_others() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let (registry, _upstream, _) = registry().await;
    let basic = |user: &str| {
        format!(
            "Basic {}",
            STANDARD.encode(format!("{user}:x\r\nx-evil: 1"))
        )
    };
    let credentials = [
        "Bearer evil\tx-evil: 1".to_owned(),
        "Bearer rca_evil".to_owned(),
        basic("a\r\nx-evil: 1\r\n\r\n"),
        basic("a\nnpm-notice: evil"),
        "Evil evil".to_owned(),
    ];
    for header in credentials {
        let mut request =
            String::from("GET /@acme/app HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        write!(request, "authorization: {header}\r\nuser-agent: evil\r\n").unwrap();
        write!(request, "npm-session: evil\r\nnpm-scope: evil\r\n\r\n").unwrap();
        let answer = raw(&registry, &request).await;
        let (head, _) = answer.split_once("\r\n\r\n").unwrap();
        let notices = head.lines().filter(|line| line.starts_with("npm-notice: "));
        assert_eq!(notices.count(), 1, "{header}: {head}");
        assert!(!head.contains("evil"), "{header}: {head}");
    }
}
