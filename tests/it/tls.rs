//! The registry's own TLS: both versions of HTTP on one port, renewal without a restart, and what
//! it says of files that it cannot use.

use std::fs;

use http::Version;
use reqwest::{Certificate, Client, ClientBuilder, Method, tls::TlsInfo};
use serde_json::Value;

use crate::support::{
    Package, process::Process, publish_body, registry::with_json, tls::Authority,
};

fn client(authority: &Authority) -> ClientBuilder {
    let pem = authority.pem();
    Client::builder()
        .no_proxy()
        .tls_info(true)
        .tls_certs_only(Certificate::from_pem_bundle(pem.as_bytes()).unwrap())
}

fn files(authority: &Authority) -> [(&'static str, String); 2] {
    let settings = authority.settings();
    let file = |path: Option<std::path::PathBuf>| path.unwrap().display().to_string();
    [
        ("RUSTACCIO_TLS_CERT", file(settings.certificate)),
        ("RUSTACCIO_TLS_KEY", file(settings.key)),
    ]
}

fn start(data: &std::path::Path, variables: &[(&str, String)]) -> Process {
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    Process::start(data, &variables)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_of_http_are_spoken_on_one_port() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let [(_, cert), (_, key)] = files(&authority);
    let file = folder.path().join("config.yml");
    fs::write(&file, format!("https:\n  key: {key}\n  cert: {cert}\n")).unwrap();
    // By the environment, and by a file.
    let in_file = [("RUSTACCIO_CONFIG", file.display().to_string())];
    for (number, variables) in [&files(&authority)[..], &in_file].into_iter().enumerate() {
        let process = start(&folder.path().join(number.to_string()), variables);
        let url = &process.url;
        assert!(url.starts_with("https://"), "{url}");
        let user = serde_json::json!({ "name": "alice", "password": "password" });
        let newer = client(&authority).build().unwrap();
        let path = format!("{url}/-/user/org.couchdb.user:alice");
        let answer = with_json(newer.request(Method::PUT, path), &user).send();
        let answer = answer.await.unwrap().bytes().await.unwrap();
        let token: Value = serde_json::from_slice(&answer).unwrap();
        let package = Package::new("@acme/tool", "1.0.0");
        let body = publish_body(&package, "latest");
        let publish = with_json(
            newer.request(Method::PUT, format!("{url}/@acme%2ftool")),
            &body,
        )
        .bearer_auth(token["token"].as_str().unwrap());
        assert_eq!(publish.send().await.unwrap().status(), 201);
        let older = client(&authority).http1_only().build().unwrap();
        for (client, version) in [(&newer, Version::HTTP_2), (&older, Version::HTTP_11)] {
            for path in ["@acme%2ftool", "@acme%2Ftool", "@acme/tool"] {
                let answer = client.get(format!("{url}/{path}")).send().await.unwrap();
                assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
                let document: Value =
                    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
                let address = &document["versions"]["1.0.0"]["dist"]["tarball"];
                assert_eq!(*address, format!("{url}/@acme/tool/-/tool-1.0.0.tgz"));
                let tarball = client.get(address.as_str().unwrap()).send().await.unwrap();
                assert_eq!(tarball.bytes().await.unwrap(), package.tarball);
            }
        }
        // Whoever speaks plainly gets nothing, and disturbs nobody.
        let plain = url.replace("https", "http");
        assert!(older.get(format!("{plain}/-/ping")).send().await.is_err());
        let ping = newer.get(format!("{url}/-/ping")).send().await.unwrap();
        assert_eq!(ping.status(), 200);
    }
}

/// The certificate that a new connection gets.
async fn served(authority: &Authority, url: &str) -> Vec<u8> {
    let client = client(authority).build().unwrap();
    let answer = client.get(format!("{url}/-/ping")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let info: &TlsInfo = answer.extensions().get().unwrap();
    info.peer_certificate().unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_without_a_restart() {
    let authority = Authority::new();
    let first = authority.renew();
    let folder = tempfile::tempdir().unwrap();
    let process = start(folder.path(), &files(&authority));
    assert_eq!(served(&authority, &process.url).await, first);
    let second = authority.renew();
    assert_eq!(served(&authority, &process.url).await, first, "not yet");
    process.signal("HUP");
    process.wait_for_log("the certificate was read again", 1);
    assert_eq!(served(&authority, &process.url).await, second);
    let [(_, cert), (_, key)] = files(&authority);
    let (good_cert, good_key) = (fs::read(&cert).unwrap(), fs::read(&key).unwrap());
    let other = Authority::new();
    let [_, (_, foreign)] = files(&other);
    let broken: [(&str, Vec<u8>); 3] = [
        (&cert, b"no certificate".to_vec()),
        (&key, Vec::new()),
        (&key, fs::read(foreign).unwrap()),
    ];
    for (number, (file, bytes)) in broken.into_iter().enumerate() {
        fs::write(file, bytes).unwrap();
        process.signal("HUP");
        process.wait_for_log("the certificate stays as it was", number + 1);
        process.wait_for_log(file, 1);
        assert_eq!(served(&authority, &process.url).await, second);
        fs::write(&cert, &good_cert).unwrap();
        fs::write(&key, &good_key).unwrap();
    }
    let third = authority.renew();
    process.signal("HUP");
    process.wait_for_log("the certificate was read again", 2);
    assert_eq!(served(&authority, &process.url).await, third);
    process.stop();
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let [(_, cert), (_, key)] = files(&authority);
    let [_, (_, foreign)] = files(&other);
    let text = folder.path().join("text.pem").display().to_string();
    fs::write(&text, "this is no certificate").unwrap();
    let missing = folder.path().join("missing.pem").display().to_string();
    let (in_cert, in_key) = ("RUSTACCIO_TLS_CERT", "RUSTACCIO_TLS_KEY");
    // The files; the setting that is named, the value, and what is wrong with it.
    let cases = [
        (&missing, &key, in_cert, &missing, "No such file"),
        (&cert, &missing, in_key, &missing, "No such file"),
        (&text, &key, in_cert, &text, "-----BEGIN CERTIFICATE-----"),
        (&cert, &text, in_key, &text, "-----BEGIN PRIVATE KEY-----"),
        (&cert, &foreign, in_key, &foreign, cert.as_str()),
    ];
    for (cert, key, setting, value, reason) in cases {
        let variables = [(in_cert, cert.as_str()), (in_key, key.as_str())];
        let output = Process::command(&folder.path().join("data"), &variables)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in [setting, value, reason] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    // What is missing altogether is told with all other problems.
    let output = Process::command(&folder.path().join("data"), &[(in_cert, &cert)])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(in_key) && text.contains(&cert), "{text}");
}

#[cfg(feature = "test-clients")]
mod clients {
    use std::sync::{Arc, Mutex};

    use axum::{extract::Request, middleware::Next};
    use rustaccio::{
        app::build_router,
        config::{Config, Env, Sources},
        runtime::build_state,
    };
    use serde_json::json;

    use super::*;
    use crate::support::{
        Upstream,
        client::Client as PackageManager,
        tls::{Secure, serve_over_tls},
    };

    /// Requests by version of HTTP and path.
    type Seen = Arc<Mutex<Vec<(Version, String)>>>;

    async fn registry(upstream: &Upstream, authority: &Authority, data: &str) -> (Secure, Seen) {
        let variables = [
            ("RUSTACCIO_DATA_DIR", data.to_owned()),
            ("RUSTACCIO_UPSTREAM", upstream.url.clone()),
        ];
        let env = variables.map(|(name, value)| (name.to_owned(), value));
        let config = Config::load(&Sources {
            env: env.into_iter().collect::<Env>(),
            ..Sources::default()
        });
        let state = build_state(&config, None).await.unwrap();
        let seen = Seen::default();
        let noted = Arc::clone(&seen);
        let note = axum::middleware::from_fn(move |request: Request, next: Next| {
            let path = request.uri().path().to_owned();
            noted.lock().unwrap().push((request.version(), path));
            next.run(request)
        });
        let router = build_router(state).layer(note);
        (serve_over_tls(router, authority).await, seen)
    }

    /// How a client installs over TLS, and which version of HTTP it speaks.
    async fn installs(name: &'static str, arguments: &'static [&'static str], version: Version) {
        let upstream = Upstream::start().await;
        let right = Package::new("@up/right", "1.0.0");
        let fields = json!({ "dependencies": { "@up/right": "^1.0.0" } });
        let left = Package::with("left", "1.0.0", &fields, &[("index.js", b"")]);
        upstream.has(&[&right]);
        upstream.has(&[&left]);
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").display().to_string();
        let (secure, seen) = registry(&upstream, &authority, &data).await;
        let (url, root) = (secure.url.clone(), authority.file());
        let work = move || {
            let mut client = PackageManager::new(name);
            let root = root.display().to_string();
            for variable in ["DENO_CERT", "NODE_EXTRA_CA_CERTS"] {
                client.set(variable, &root);
            }
            client.configure(".npmrc", &format!("registry={url}/\naudit=false\n"));
            let manifest = json!({ "name": "project", "version": "1.0.0", "dependencies": { "left": "^1.0.0" } });
            let project = client.project("project", &manifest);
            fs::write(project.join(".npmrc"), format!("registry={url}/\n")).unwrap();
            client.ok_in(&project, arguments);
            assert!(project.join("node_modules/left").exists());
        };
        tokio::task::spawn_blocking(work).await.unwrap();
        let seen = seen.lock().unwrap();
        assert!(
            seen.iter().all(|(spoken, _)| *spoken == version),
            "{seen:?}"
        );
        let scoped = seen
            .iter()
            .any(|(_, path)| path.eq_ignore_ascii_case("/@up%2fright"));
        assert!(scoped, "{seen:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn deno_installs_over_http_2() {
        Box::pin(installs("deno-2", &["install"], Version::HTTP_2)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_installs_over_http_1() {
        Box::pin(installs("npm-12", &["install"], Version::HTTP_11)).await;
    }
}
