//! The world in which clients run: registries as they are met in the wild, and what is in them.

use std::{fs, path::Path, sync::Arc};

use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::support::{
    Answer, Package, Registry, Upstream, User,
    client::Client,
    registry::Start,
    tls::{Authority, Secure, proxy_before},
};

/// The password of everybody.
pub(super) const PASSWORD: &str = "password";

/// Registries with the same upstream, as they are met in the wild.
pub(super) struct World {
    pub(super) upstream: Upstream,
    /// At the root of its host, with login through the browser.
    pub(super) plain: Registry,
    /// Below a path, without login through the browser.
    pub(super) below_prefix: Registry,
    /// Behind a proxy that ends TLS.
    pub(super) behind_tls: Registry,
    pub(super) tls: Secure,
    pub(super) authority: Authority,
    pub(super) alice: User,
}

impl World {
    pub(super) async fn start() -> Self {
        let upstream = Upstream::start().await;
        stock(&upstream);
        let start = async |variables: &[(&'static str, &str)]| {
            let variables = variables.iter();
            let file = format!("uplinks:\n  default:\n    url: {}\n", upstream.url);
            Registry::with(Start {
                variables: variables
                    .map(|(name, value)| (*name, (*value).to_owned()))
                    .collect(),
                file: &file,
                ..Start::default()
            })
            .await
        };
        let plain = start(&[("RUSTACCIO_WEB_LOGIN", "true")]).await;
        let below_prefix = start(&[("RUSTACCIO_URL_PREFIX", "/npm/private")]).await;
        let behind_tls = start(&[("RUSTACCIO_TRUST_PROXY", "127.0.0.1")]).await;
        let authority = Authority::new();
        Self {
            alice: plain.user("alice").await,
            tls: proxy_before(&behind_tls.url, &authority).await,
            upstream,
            plain,
            below_prefix,
            behind_tls,
            authority,
        }
    }
}

/// What upstream has: `left`, which needs `@up/right`; and `leaky`, of which there is an advisory.
fn stock(upstream: &Upstream) {
    let code = |text: &str| format!("module.exports = '{text}'\n").into_bytes();
    let right = Package::with(
        "@up/right",
        "1.2.0",
        &json!({}),
        &[("index.js", &code("right"))],
    );
    let left = Package::with(
        "left",
        "1.0.0",
        &json!({ "dependencies": { "@up/right": "^1.0.0" } }),
        &[("index.js", &code("left"))],
    );
    let leaky = Package::new("leaky", "1.0.0");
    for package in [&right, &left, &leaky] {
        upstream.has(&[package]);
    }
    let advisory = json!({
        "id": 1,
        "url": "https://advisories.example/1",
        "title": "it leaks",
        "severity": "high",
        "vulnerable_versions": "<2.0.0",
        "cwe": [],
        "cvss": { "score": 7.5, "vectorString": null },
    });
    upstream.plays("/-/npm/v1/security/advisories/bulk", move |_| {
        let answer = json!({ "leaky": [advisory] }).to_string();
        async move { ([("content-type", "application/json")], answer).into_response() }
    });
    for path in [
        "/-/npm/v1/security/audits",
        "/-/npm/v1/security/audits/quick",
    ] {
        let answer = older_report().to_string();
        upstream.plays(path, move |_| {
            let answer = answer.clone();
            async move { ([("content-type", "application/json")], answer).into_response() }
        });
    }
}

/// The advisory as clients of before 2021 want it.
fn older_report() -> Value {
    json!({
        "actions": [{
            "action": "install",
            "module": "leaky",
            "target": "2.0.0",
            "isMajor": true,
            "resolves": [{ "id": 1, "path": "leaky", "dev": false, "optional": false, "bundled": false }],
        }],
        "advisories": {
            "1": {
                "id": 1,
                "module_name": "leaky",
                "title": "it leaks",
                "severity": "high",
                "url": "https://advisories.example/1",
                "vulnerable_versions": "<2.0.0",
                "patched_versions": ">=2.0.0",
                "recommendation": "update",
                "overview": "it leaks",
                "references": "",
                "cwe": "CWE-1",
                "cves": [],
                "access": "public",
                "created": "2020-01-01T00:00:00.000Z",
                "updated": "2020-01-01T00:00:00.000Z",
                "deleted": null,
                "found_by": { "name": "somebody" },
                "reported_by": { "name": "somebody" },
                "findings": [{ "version": "1.0.0", "paths": ["leaky"], "dev": false, "optional": false, "bundled": false }],
                "metadata": null,
            }
        },
        "muted": [],
        "metadata": {
            "vulnerabilities": { "info": 0, "low": 0, "moderate": 0, "high": 1, "critical": 0 },
            "dependencies": 1,
            "devDependencies": 0,
            "optionalDependencies": 0,
            "totalDependencies": 1,
        },
    })
}

/// A client in the world. Commands run one after the other, each with a home of its own.
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) world: Arc<World>,
    handle: Handle,
}

impl Scene {
    pub(super) fn new(name: &'static str, world: Arc<World>) -> Self {
        Self {
            name,
            world,
            handle: Handle::current(),
        }
    }

    /// A fresh client, without settings.
    pub(super) fn client(&self) -> Client {
        Client::new(self.name)
    }

    pub(super) fn major(&self) -> u32 {
        self.client().major()
    }

    /// Waits for something that is asked of a registry directly.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }

    /// What the plain registry says.
    pub(super) fn get(&self, path: &str) -> Answer {
        self.wait(self.world.plain.get(path))
    }

    /// Publishes versions of a package there as alice.
    pub(super) fn publish(&self, name: &str, versions: &[&str]) {
        let World { plain, alice, .. } = &*self.world;
        for version in versions {
            let fields = json!({ "description": "found by a test", "keywords": ["findable"] });
            let package = Package::with(name, version, &fields, &[]);
            self.wait(plain.publish(alice, &package)).assert(201);
        }
    }

    /// Its packument there.
    pub(super) fn packument(&self, name: &str) -> Value {
        let path = format!("/{}", name.replace('/', "%2f"));
        self.get(&path).assert(200).json()
    }

    /// Whether a token is worth something there.
    pub(super) fn is_signed_in(&self, token: &str) -> bool {
        let user = User {
            token: token.to_owned(),
        };
        let who = self.wait(self.world.plain.get_as(&user, "/-/whoami"));
        who.status == 200
    }

    /// Answers the page that `text` names with alice's password, as her browser would.
    pub(super) fn sign_in_at_page(&self, text: &str) {
        let marker = "/-/web/login?next=";
        let from = text.find(marker).unwrap() + marker.len();
        let next = text[from..].split_whitespace().next().unwrap();
        let page = format!("{marker}{next}");
        let shown = self.get(&page).assert(200);
        let shown = String::from_utf8(shown.body).unwrap();
        assert!(shown.contains("<form"), "{shown}");
        let form = self
            .world
            .plain
            .request(reqwest::Method::POST, next)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("username=alice&password={PASSWORD}"));
        self.wait(self.world.plain.send(form)).assert(200);
    }
}

/// A project that needs these packages.
pub(super) fn project(name: &str, needs: &[&str]) -> Value {
    let needs: serde_json::Map<String, Value> = needs
        .iter()
        .map(|name| ((*name).to_owned(), json!("^1.0.0")))
        .collect();
    json!({ "name": name, "version": "1.0.0", "dependencies": needs })
}

/// A package to publish.
pub(super) fn package(name: &str, version: &str) -> Value {
    json!({ "name": name, "version": version, "description": "made by a test", "license": "MIT" })
}

/// What node finds as `left` in `folder`, and as what that needs.
#[track_caller]
pub(super) fn assert_left_is_installed(client: &Client, folder: &Path) {
    const CODE: &str = "const { createRequire } = require('module'); \
        const here = createRequire(require('path').resolve('index.js')); \
        const left = createRequire(here.resolve('left')); \
        console.log(here('left'), left('@up/right'))";
    let output = client
        .command(&client.find("node"), folder)
        .args(["-e", CODE])
        .output()
        .unwrap();
    let found = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(found, "left right\n", "{errors}");
}

/// The text of a file.
#[track_caller]
pub(super) fn read(folder: &Path, file: &str) -> String {
    let path = folder.join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
