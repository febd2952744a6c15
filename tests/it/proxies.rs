//! Behind a company's proxy: what goes through it, what does not, and where it must not lead.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Package, Registry, Upstream,
    forward_proxy::ForwardProxy,
    process::Process,
    registry::{client, with_json},
    tls::{Authority, proxy_before},
};

/// A name that only the proxy can find.
const ELSEWHERE: &str = "http://registry.invalid";

/// `package`'s packument with its tarball at `address`.
fn document(upstream: &Upstream, package: &Package, address: &str) -> Value {
    let mut document = upstream.document(&[package]);
    document["versions"][&package.version]["dist"]["tarball"] = json!(address);
    document
}

fn has(upstream: &Upstream, package: &Package, address: &str) {
    let document = document(upstream, package, address);
    upstream.answers(&format!("/{}", package.name), &document);
    upstream.has_tarball(package, package.tarball.clone());
}

/// A registry in a process of its own, which has `variables` in its environment.
struct Behind {
    _folder: TempDir,
    process: Process,
}

impl Behind {
    fn start(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start(&folder.path().join("data"), variables);
        Self {
            _folder: folder,
            process,
        }
    }

    async fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let url = format!("{}{path}", self.process.url);
        let answer = client().get(url).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.bytes().await.unwrap().to_vec())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_names_a_proxy() {
    let upstream = Upstream::start().await;
    let proxy = ForwardProxy::before(&upstream.url).await;
    let (lib, far, near, lost) = (
        Package::new("lib", "1.0.0"),
        Package::new("far", "1.0.0"),
        Package::new("near", "1.0.0"),
        Package::new("lost", "1.0.0"),
    );
    let of = |host: &str, name: &str| format!("{host}/{name}/-/{name}-1.0.0.tgz");
    has(&upstream, &lib, &of(ELSEWHERE, "lib"));
    // An origin that nobody configured: public, private, and of a name that has no address here.
    has(&upstream, &far, &of("http://8.8.8.8", "far"));
    has(&upstream, &near, &of("http://10.0.0.1", "near"));
    has(&upstream, &lost, &of("http://files.invalid", "lost"));
    let with_credentials = proxy.url.replace("http://", "http://me:secret@");
    let registry = Behind::start(&[
        ("HTTP_PROXY", &with_credentials),
        ("RUSTACCIO_UPSTREAM", ELSEWHERE),
    ]);
    assert_eq!(registry.get("/lib").await.0, 200);
    let tarball = registry.get("/lib/-/lib-1.0.0.tgz").await;
    assert_eq!(tarball, (200, lib.tarball.clone()));
    let tarball = registry.get("/far/-/far-1.0.0.tgz").await;
    assert_eq!(tarball, (200, far.tarball.clone()));
    for refused in ["near", "lost"] {
        let path = format!("/{refused}/-/{refused}-1.0.0.tgz");
        assert_eq!(registry.get(&path).await.0, 502, "{refused}");
    }
    let asked = proxy.asked();
    let lines: Vec<&str> = asked
        .iter()
        .filter_map(|head| head.lines().next())
        .collect();
    for line in [
        "GET http://registry.invalid/lib HTTP/1.1",
        "GET http://registry.invalid/lib/-/lib-1.0.0.tgz HTTP/1.1",
        "GET http://8.8.8.8/far/-/far-1.0.0.tgz HTTP/1.1",
    ] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
    assert!(!lines.iter().any(|line| line.contains("10.0.0.1")));
    assert!(!lines.iter().any(|line| line.contains("files.invalid")));
    for head in asked {
        let head = head.to_lowercase();
        assert!(
            head.contains("proxy-authorization: basic bwu6c2vjcmv0"),
            "{head}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_names_what_is_asked_directly() {
    let upstream = Upstream::start().await;
    let proxy = ForwardProxy::before(&upstream.url).await;
    upstream.has(&[&Package::new("lib", "1.0.0")]);
    let variables = [
        ("HTTP_PROXY", proxy.url.as_str()),
        ("RUSTACCIO_UPSTREAM", &upstream.url),
    ];
    let registry = Behind::start(&variables);
    assert_eq!(registry.get("/lib").await.0, 200);
    let before = proxy.asked().len();
    assert!(before > 0);
    let [proxied, upstream_of] = variables;
    let registry = Behind::start(&[proxied, upstream_of, ("NO_PROXY", "10.0.0.0/8, 127.0.0.1")]);
    assert_eq!(registry.get("/lib").await.0, 200);
    assert_eq!(proxy.asked().len(), before, "asked although it is excepted");
}

#[tokio::test]
async fn an_uplink_has_a_proxy_of_its_own() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let proxy = ForwardProxy::before(&upstream.url).await;
    let (lib, far) = (Package::new("lib", "1.0.0"), Package::new("far", "1.0.0"));
    has(&upstream, &lib, &format!("{ELSEWHERE}/lib/-/lib-1.0.0.tgz"));
    has(&upstream, &far, "http://8.8.8.8/far/-/far-1.0.0.tgz");
    other.has(&[&Package::new("direct", "1.0.0")]);
    let file = format!(
        "uplinks:\n  one:\n    url: {ELSEWHERE}\n    http_proxy: {}\n  two:\n    url: {}\n    \
         http_proxy: {}\n    no_proxy: 127.0.0.1\npackages:\n  direct:\n    access: $all\n    \
         proxy: two\n  '**':\n    access: $all\n    proxy: one\n",
        proxy.url, other.url, proxy.url
    );
    let registry = Registry::with_file(&file).await;
    for package in [&lib, &far] {
        let bytes = registry.tarball(package).await.assert(200).body;
        assert_eq!(bytes, package.tarball);
    }
    let asked = proxy.asked().len();
    assert_eq!(asked, 4);
    registry.get("/direct").await.assert(200);
    assert_eq!(proxy.asked().len(), asked);
    // Other questions go the same way.
    upstream.plays("/-/npm/v1/security/advisories/bulk", |_| async {
        axum::response::IntoResponse::into_response("{}")
    });
    let request = registry.request(reqwest::Method::POST, "/-/npm/v1/security/advisories/bulk");
    let request = with_json(request, &json!({ "lib": ["1.0.0"] }));
    registry.send(request).await.assert(200);
    assert_eq!(proxy.asked().len(), asked + 1);
}

#[tokio::test]
async fn uplinks_without_a_proxy_have_the_files() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let proxy = ForwardProxy::before(&upstream.url).await;
    upstream.has(&[&Package::new("lib", "1.0.0")]);
    other.has(&[&Package::new("direct", "1.0.0")]);
    let file = format!(
        "http_proxy: {}\nno_proxy: 127.0.0.1\nuplinks:\n  one:\n    url: {ELSEWHERE}\n  two:\n    \
         url: {}\npackages:\n  direct:\n    access: $all\n    proxy: two\n  '**':\n    \
         access: $all\n    proxy: one\n",
        proxy.url, other.url
    );
    let registry = Registry::with_file(&file).await;
    registry.get("/lib").await.assert(200);
    let asked = proxy.asked().len();
    assert!(asked > 0);
    registry.get("/direct").await.assert(200);
    assert_eq!(proxy.asked().len(), asked);
}

#[tokio::test]
async fn tls_goes_through_a_tunnel() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let secure = proxy_before(&upstream.url, &authority).await;
    let proxy = ForwardProxy::before(&secure.url.replace("https", "http")).await;
    let lib = Package::new("lib", "1.0.0");
    has(
        &upstream,
        &lib,
        &format!("{}/lib/-/lib-1.0.0.tgz", secure.url),
    );
    let (url, roots) = (&secure.url, authority.file());
    let uplink = format!(
        "uplinks:\n  default:\n    url: {url}\n    ca: {}\n",
        roots.display()
    );
    let way = format!("https_proxy: {}\n", proxy.url);
    let mut before = 0;
    // The uplink's own, and the file's.
    for file in [format!("{uplink}    {way}"), format!("{way}{uplink}")] {
        let registry = Registry::with_file(&file).await;
        assert_eq!(registry.tarball(&lib).await.assert(200).body, lib.tarball);
        let asked = proxy.asked();
        let tunnel = format!("CONNECT localhost:{} ", secure.address.port());
        assert!(asked.len() > before);
        before = asked.len();
        assert!(
            asked.iter().all(|head| head.starts_with(&tunnel)),
            "{asked:?}"
        );
    }
}
