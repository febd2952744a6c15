//! Behind nginx, Caddy and Traefik, which end TLS and have the registry below a path: what arrives,
//! what comes back, and whole journeys of package managers.

mod bare;
mod clients;
mod server;

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use bare::Bare;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Version, header};
use reqwest::Method;
use server::{Kind, Proxy};

use crate::support::{
    Package, Registry, Upstream, forward_proxy::Door, publish_body, registry::Start,
    registry::with_json,
};

/// None of this takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(240);

/// A registry with the settings that the files ask for.
async fn registry(upstream: &Upstream) -> Registry {
    let file = format!("uplinks:\n  default:\n    url: {}\n", upstream.url);
    Registry::with(Start {
        variables: vec![
            ("RUSTACCIO_URL_PREFIX", "/npm".to_owned()),
            ("RUSTACCIO_TRUST_PROXY", "127.0.0.1".to_owned()),
        ],
        file: &file,
        ..Start::default()
    })
    .await
}

fn address_of(url: &str) -> SocketAddr {
    let (_, rest) = url.split_once("//").unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// What clients say themselves about who and where they are, and for whom.
const LIES: [(&str, &str); 9] = [
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-host", "elsewhere.example"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-port", "47365"),
    ("x-forwarded-prefix", "/elsewhere"),
    ("x-rustaccio-org-id", "others"),
    ("x-org-id", "others"),
    ("x-rustaccio-project-id", "others"),
    ("x-project-id", "others"),
];

async fn requests_arrive_as_they_were_sent(kind: Kind) {
    let bare = Bare::start().await;
    let proxy = Proxy::before(bare.address, kind).await;
    let host = proxy.origin().strip_prefix("https://").unwrap();
    let older = proxy.client().http1_only().build().unwrap();
    let newer = proxy.client().build().unwrap();
    for (client, version) in [(older, Version::HTTP_11), (newer, Version::HTTP_2)] {
        for path in [
            "/npm/@up%2fright",
            "/npm/@up%2Fright",
            "/npm/@up/right/-/right-1.2.0.tgz",
            "/npm/-/package/@up%2fright/dist-tags/a%20b",
            "/npm/-/v1/search?text=a%2Fb&size=20",
        ] {
            let mut request = client
                .get(format!("{}{path}", proxy.origin()))
                .bearer_auth("rca_token")
                .header("npm-otp", "123456");
            for (name, value) in LIES {
                request = request.header(name, value);
            }
            let (answer, arrived) = tokio::join!(request.send(), async {
                let arrived = bare.next().await;
                let kept = (arrived.head.clone(), arrived.line().to_owned());
                assert_eq!(arrived.header("authorization"), ["Bearer rca_token"]);
                assert_eq!(arrived.header("npm-otp"), ["123456"]);
                assert_eq!(arrived.header("x-forwarded-host"), [host]);
                assert_eq!(arrived.header("x-forwarded-proto"), ["https"]);
                assert_eq!(arrived.header("x-forwarded-for"), ["127.0.0.1"]);
                arrived.answer().await;
                kept
            });
            assert_eq!(answer.unwrap().version(), version);
            let (head, line) = arrived;
            // Traefik writes the digits of an escape large, which is the same.
            let wanted = format!("GET {path} HTTP/1.1");
            match kind {
                Kind::Traefik => assert_eq!(line.to_lowercase(), wanted.to_lowercase()),
                _ => assert_eq!(line, wanted),
            }
            for lie in ["elsewhere", "others", "203.0.113.9", "47365"] {
                assert!(!head.contains(lie), "{kind:?} passes on {lie}: {head}");
            }
        }
    }
}

async fn bodies_pass_as_they_come(kind: Kind) {
    const PART: usize = 1 << 20;
    let bare = Bare::start().await;
    let proxy = Proxy::before(bare.address, kind).await;
    let client = proxy.client().http1_only().build().unwrap();
    // A publish: the second part is sent when the first has arrived.
    let (parts, body) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = futures_util::stream::unfold(body, async |mut body| {
        let part = body.recv().await?;
        Some((Ok::<_, std::io::Error>(part), body))
    });
    let publish = client
        .put(format!("{}/large", proxy.url))
        .header(header::CONTENT_LENGTH, 2 * PART)
        .body(reqwest::Body::wrap_stream(body))
        .send();
    let far_end = async {
        parts.send(Bytes::from(vec![b'x'; PART])).await.unwrap();
        let mut arrived = bare.next().await;
        arrived.wait_for_body(PART).await;
        parts.send(Bytes::from(vec![b'x'; PART])).await.unwrap();
        arrived.wait_for_body(2 * PART).await;
        arrived.answer().await;
    };
    // A proxy that keeps the first part back waits for the second, and it for the far end.
    let journey = async { tokio::join!(publish, far_end) };
    let (answer, ()) = tokio::time::timeout(Duration::from_secs(30), journey)
        .await
        .expect("the first part does not arrive before the second is sent");
    assert_eq!(answer.unwrap().status(), 200);
    // A download: the second part is sent when the first has been read.
    let (mut arrived, answer) = tokio::join!(
        async {
            let mut arrived = bare.next().await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 2 * PART);
            arrived.send(head.as_bytes()).await;
            arrived.send(&vec![b'x'; PART]).await;
            arrived
        },
        client.get(format!("{}/large", proxy.url)).send()
    );
    let mut stream = answer.unwrap().bytes_stream();
    let mut read = 0;
    let mut is_second = false;
    while let Some(part) = stream.next().await {
        read += part.unwrap().len();
        // A proxy may keep what fills none of its buffers.
        if read > PART / 2 && !is_second {
            is_second = true;
            arrived.send(&vec![b'x'; PART]).await;
        }
    }
    assert_eq!(read, 2 * PART);
}

async fn reports_arrive_while_they_grow(kind: Kind) {
    let bare = Bare::start().await;
    let proxy = Proxy::before(bare.address, kind).await;
    let client = proxy.client().http1_only().build().unwrap();
    let (mut arrived, answer) = tokio::join!(
        async {
            let mut arrived = bare.next().await;
            // As the registry says it.
            let head =
                b"HTTP/1.1 200 OK\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n";
            arrived.send(head).await;
            arrived.send(b"1\r\n{\r\n").await;
            arrived
        },
        client
            .get(format!("{}/-/admin/storage-health", proxy.url))
            .send()
    );
    let mut report = answer.unwrap().bytes_stream();
    // The second byte is sent when the first has been read.
    assert_eq!(report.next().await.unwrap().unwrap(), "{");
    arrived.send(b"1\r\n}\r\n0\r\n\r\n").await;
    assert_eq!(report.next().await.unwrap().unwrap(), "}");
}

async fn answers_are_the_registrys_own(kind: Kind) {
    let upstream = Upstream::start().await;
    let left = Package::new("left", "1.0.0");
    upstream.has(&[&left]);
    let registry = registry(&upstream).await;
    let door = Door::new().await;
    let at = address_of(&door.url);
    let connections = door.lead_to(registry.url.strip_suffix("/npm").unwrap());
    let proxy = Proxy::before(at, kind).await;
    let client = proxy.client().http1_only().build().unwrap();
    let alice = registry.user("alice").await;
    // Larger than what nginx takes by default.
    let heavy = Package::heavy("@acme/heavy", "1.0.0", 4 << 20);
    let publish = client
        .request(Method::PUT, format!("{}/@acme%2fheavy", proxy.url))
        .bearer_auth(&alice.token);
    let publish = with_json(publish, &publish_body(&heavy, "latest"));
    assert_eq!(publish.send().await.unwrap().status(), 201);
    let read = async |path: &str, headers: &[(&str, &str)]| {
        let mut request = client.get(format!("{}{path}", proxy.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    };
    let document = read("/@acme%2fheavy", &[]).await;
    let document: serde_json::Value =
        serde_json::from_slice(&document.bytes().await.unwrap()).unwrap();
    let tarball = &document["versions"]["1.0.0"]["dist"]["tarball"];
    let file = "/@acme/heavy/-/heavy-1.0.0.tgz";
    assert_eq!(*tarball, format!("{}{file}", proxy.url));
    let bytes = read(file, &[]).await.bytes().await.unwrap();
    assert!(bytes == heavy.tarball, "other bytes");
    let part = read(file, &[("range", "bytes=10-19")]).await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), heavy.tarball[10..20]);
    for coding in ["gzip", "br", "zstd", "identity"] {
        let asked = [("accept-encoding", coding)];
        let through = read("/left", &asked).await;
        let straight = registry.request(Method::GET, "/left");
        let straight = registry
            .send(straight.header("accept-encoding", coding))
            .await;
        for name in [
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::CACHE_CONTROL,
            header::VARY,
        ] {
            let (one, other) = (through.headers().get(&name), straight.headers.get(&name));
            assert_eq!(one, other, "{name} of {coding}");
        }
        let tag = through.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert!(
            tag.starts_with('"'),
            "{kind:?} made {tag} of the entity tag"
        );
        let again = read("/left", &[asked[0], ("if-none-match", &tag)]).await;
        assert_eq!(again.status(), 304);
    }
    // What nobody wants compressed is what it is called. Traefik asks for it compressed all the same,
    // and takes that apart.
    if kind != Kind::Traefik {
        let plain = read("/left", &[]).await;
        let identity = read("/left", &[("accept-encoding", "identity")]).await;
        let [plain, identity] =
            [plain, identity].map(|answer| answer.headers()[header::ETAG].clone());
        assert_eq!(plain, identity);
    }
    let missing = read("/nobody-has-this", &[]).await;
    assert_eq!(missing.status(), 404);
    let straight = registry.get("/nobody-has-this").await.assert(404);
    assert_eq!(missing.bytes().await.unwrap(), straight.body);
    // It asks on few connections, which thus last.
    let connections = connections.load(Ordering::SeqCst);
    assert!(connections <= 5, "{connections} connections");
}

async fn npm_12(kind: Kind) {
    clients::journey("npm-12", kind).await;
}

async fn pnpm_12(kind: Kind) {
    clients::journey("pnpm-12", kind).await;
}

async fn yarn_1(kind: Kind) {
    clients::journey("yarn-1", kind).await;
}

async fn yarn_4(kind: Kind) {
    clients::journey("yarn-4", kind).await;
}

async fn bun_1(kind: Kind) {
    clients::journey("bun-1", kind).await;
}

macro_rules! behind {
    ($server:ident $($others:ident)*: $($test:ident),* $(,)?) => {
        mod $server {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let kind = super::Kind::named(stringify!($server));
                    let work = tokio::time::timeout(super::PATIENCE, super::$test(kind));
                    Box::pin(work).await.expect("something is kept back");
                }
            )*
        }
        behind! { $($others)*: $($test),* }
    };
    (: $($test:ident),*) => {};
}

behind! {
    nginx caddy traefik:
    requests_arrive_as_they_were_sent,
    bodies_pass_as_they_come,
    reports_arrive_while_they_grow,
    answers_are_the_registrys_own,
    npm_12,
    pnpm_12,
    yarn_1,
    yarn_4,
    bun_1,
}
