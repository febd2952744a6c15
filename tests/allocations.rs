//! What the requests that installs are made of allocate, so that it cannot creep.
//!
//! A program of its own: the allocator that counts is the whole program's.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test ends where something is not as it should be, and has no server to harm"
)]

use axum::{Router, body::Body, routing::get};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    Request, Response, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, ETAG, HOST, IF_NONE_MATCH},
};
use http_body_util::BodyExt as _;
use rustaccio::{
    app::build_router,
    config::{Config, Env, Sources},
    runtime::build_state,
};
use serde_json::{Map, Value, json};
use sha2::Digest as _;
use tower::ServiceExt as _;

/// What each request may allocate at most: blocks, and bytes of all of them together.
///
/// Each bound is what was measured and a twentieth more. Who makes a request cheaper lowers its
/// bound: `cargo nextest run --test allocations --no-capture` prints this table as it would be now.
/// Who needs a higher one says in the commit what it buys.
const BOUNDS: [(&str, u64, u64); 8] = [
    ("full packument", 44, 10_525),
    ("full packument, gzip", 44, 10_529),
    ("abbreviated packument, gzip", 44, 10_529),
    ("abbreviated packument, gzip, with a token", 54, 11_772),
    ("abbreviated packument, 304", 41, 10_491),
    ("hosted abbreviated packument, gzip", 44, 10_528),
    ("tarball", 49, 10_629),
    ("search", 1170, 183_122),
];

/// Each request is measured this often, and the cheapest counts: others than the request allocate
/// now and then.
const TIMES: usize = 30;
const VERSIONS: usize = 100;
const ABBREVIATED: &str = "application/vnd.npm.install-v1+json";

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

#[tokio::test]
async fn hot_requests_allocate_little() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = upstream().await;
    let data = folder.path().join("data");
    let env: Env = [
        ("RUSTACCIO_DATA_DIR", data.to_str().unwrap()),
        ("RUSTACCIO_UPSTREAM", &upstream),
    ]
    .into_iter()
    .collect();
    let config = Config::load(&Sources {
        env,
        ..Sources::default()
    });
    let registry = Hot(build_router(build_state(&config, None).await.unwrap()));
    let token = registry.sign_up().await;
    for number in 0..30 {
        registry.publish(&token, &format!("shelf-{number}")).await;
    }
    let etag = registry.etag("/library").await;

    let profiler = dhat::Profiler::builder().testing().build();
    let mut measured = Vec::new();
    for (what, _, _) in BOUNDS {
        measured.push((what, registry.cheapest(what, &token, &etag).await));
    }
    drop(profiler);

    println!("const BOUNDS: [(&str, u64, u64); {}] = [", BOUNDS.len());
    for (what, (blocks, bytes)) in &measured {
        let (blocks, bytes) = (with_slack(*blocks), with_slack(*bytes));
        println!("    ({what:?}, {blocks}, {}),", grouped(bytes));
    }
    println!("];");
    let over = |((what, (blocks, bytes)), (_, most_blocks, most_bytes))| {
        let is_over = blocks > most_blocks || bytes > most_bytes;
        is_over.then(|| {
            format!(
                "{what}: {blocks} allocations of {bytes} bytes, bound {most_blocks} and {most_bytes}"
            )
        })
    };
    let over: Vec<String> = measured.into_iter().zip(BOUNDS).filter_map(over).collect();
    assert!(
        over.is_empty(),
        "{}\nThe bounds are BOUNDS in {}; all of them as they would be now are printed above.",
        over.join("\n"),
        file!()
    );
}

fn with_slack(number: u64) -> u64 {
    number + number / 20 + 1
}

/// A number as Rust reads it: `12_345`.
fn grouped(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{}_{:03}", grouped(number / 1000), number % 1000),
    }
}

/// A registry that is asked without a connection.
struct Hot(Router);

impl Hot {
    /// The request that `BOUNDS` calls `what`, and the status of its answer.
    fn request(what: &str, token: &str, etag: &str) -> (Request<Body>, StatusCode) {
        let path = match what {
            "tarball" => "/library/-/library-1.0.0.tgz",
            "search" => "/-/v1/search?text=shelf&size=20",
            what if what.starts_with("hosted") => "/shelf-1",
            _ => "/library",
        };
        let has = |word: &str| what.contains(word);
        let mut request = Request::get(path).header(HOST, "host.example");
        if has("abbreviated") {
            request = request.header(ACCEPT, ABBREVIATED);
        }
        if has("gzip") || has("304") {
            request = request.header(ACCEPT_ENCODING, "gzip");
        }
        if has("token") {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut status = StatusCode::OK;
        if has("304") {
            request = request.header(IF_NONE_MATCH, etag);
            status = StatusCode::NOT_MODIFIED;
        }
        (request.body(Body::empty()).unwrap(), status)
    }

    /// Blocks and bytes of the request that `BOUNDS` calls `what`.
    async fn cheapest(&self, what: &str, token: &str, etag: &str) -> (u64, u64) {
        let mut least = (u64::MAX, u64::MAX);
        // The first ones fill the caches.
        for time in 0..TIMES + 3 {
            let (request, status) = Self::request(what, token, etag);
            let is_gzip = what.contains("gzip");
            let router = self.0.clone();
            let before = dhat::HeapStats::get();
            let answer = router.oneshot(request).await.unwrap();
            let is_right = answer.status() == status
                && answer.headers().contains_key(CONTENT_ENCODING) == is_gzip;
            let length = read(answer).await;
            let after = dhat::HeapStats::get();
            assert!(is_right && (length > 0) == status.is_success(), "{what}");
            if time >= 3 {
                least.0 = least.0.min(after.total_blocks - before.total_blocks);
                least.1 = least.1.min(after.total_bytes - before.total_bytes);
            }
        }
        least
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let answer = self.0.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// The token of a new user.
    async fn sign_up(&self) -> String {
        let user =
            json!({ "name": "user", "password": "a long password", "email": "user@example.org" });
        let request = Request::put("/-/user/org.couchdb.user:user")
            .header(HOST, "host.example")
            .header("content-type", "application/json")
            .body(Body::from(user.to_string()))
            .unwrap();
        let (status, answer) = self.send(request).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }

    async fn publish(&self, token: &str, name: &str) {
        let tarball = tarball(name);
        let body = json!({
            "_id": name,
            "name": name,
            "dist-tags": { "latest": "1.0.0" },
            "versions": { "1.0.0": version(name, "1.0.0", &tarball, "http://host.example") },
            "_attachments": { format!("{name}-1.0.0.tgz"): {
                "content_type": "application/octet-stream",
                "data": STANDARD.encode(&tarball),
                "length": tarball.len(),
            } },
        });
        let request = Request::put(format!("/{name}"))
            .header(HOST, "host.example")
            .header("content-type", "application/json")
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Body::from(body.to_string()))
            .unwrap();
        let (status, answer) = self.send(request).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    }

    /// The entity tag of the abbreviated packument at `path`, compressed.
    async fn etag(&self, path: &str) -> String {
        let request = Request::get(path)
            .header(HOST, "host.example")
            .header(ACCEPT, ABBREVIATED)
            .header(ACCEPT_ENCODING, "gzip");
        let request = request.body(Body::empty()).unwrap();
        let answer = self.0.clone().oneshot(request).await.unwrap();
        answer.headers()[ETAG].to_str().unwrap().to_owned()
    }
}

/// Reads a body as a connection does, and keeps none of it.
async fn read(answer: Response<Body>) -> usize {
    let (mut body, mut length) = (answer.into_body(), 0);
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    length
}

/// The address of a registry that has one package.
async fn upstream() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let tarball = Bytes::from(tarball("library"));
    let versions: Map<String, Value> = (0..VERSIONS)
        .map(|number| format!("1.0.{number}"))
        .map(|text| (text.clone(), version("library", &text, &tarball, &url)))
        .collect();
    let document = json!({
        "name": "library",
        "dist-tags": { "latest": "1.0.0" },
        "versions": versions,
        "time": { "modified": "2025-01-01T00:00:00.000Z" },
    });
    let router = Router::new()
        .route("/library", get(async move || axum::Json(document.clone())))
        .route(
            "/library/-/library-1.0.0.tgz",
            get(async move || tarball.clone()),
        );
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// The manifest of a version.
fn version(name: &str, version: &str, tarball: &[u8], url: &str) -> Value {
    json!({
        "name": name,
        "version": version,
        "description": "a library",
        "keywords": ["library"],
        "dependencies": { "other": "^1.0.0" },
        "dist": {
            "shasum": hex::encode(sha1::Sha1::digest(tarball)),
            "integrity": format!("sha512-{}", STANDARD.encode(sha2::Sha512::digest(tarball))),
            "tarball": format!("{url}/{name}/-/{name}-{version}.tgz"),
        },
    })
}

/// A tarball of about 10 kB.
fn tarball(name: &str) -> Vec<u8> {
    let manifest = json!({ "name": name, "version": "1.0.0" }).to_string();
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(10_000)
    .collect();
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, bytes) in [("package.json", manifest.as_bytes()), ("noise.bin", &noise)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len().try_into().unwrap());
        header.set_mode(0o644);
        archive
            .append_data(&mut header, format!("package/{path}"), bytes)
            .unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}
