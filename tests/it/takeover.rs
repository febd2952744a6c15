//! From Verdaccio to this registry and back, on one folder, with Verdaccio itself and npm.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Answer, Package, Upstream,
    client::{Client, version},
    publish_body,
    registry::{client, with_json},
};

/// A registry of either kind on the folder, at the same address.
struct Running {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Running {
    /// Starts `command`, and waits until it answers.
    async fn start(mut command: Command, port: u16, log: PathBuf) -> Self {
        let file = fs::File::create(&log).unwrap();
        let child = command
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut running = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
            log,
        };
        let http = client();
        let ping = format!("{}/-/ping", running.url);
        let begins = tokio::time::timeout(Duration::from_secs(120), async {
            while http.get(&ping).send().await.is_err() {
                assert!(
                    running.child.try_wait().unwrap().is_none(),
                    "{}",
                    running.told()
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert!(
            begins.await.is_ok(),
            "it does not answer: {}",
            running.told()
        );
        running
    }

    /// All that it has written.
    fn told(&self) -> String {
        let log = BufReader::new(fs::File::open(&self.log).unwrap());
        let lines: Vec<String> = log.lines().map_while(Result::ok).collect();
        lines.join("\n")
    }

    async fn ask(&self, method: Method, path: &str, token: &str, body: Option<&Value>) -> Answer {
        let request = client().request(method, format!("{}{path}", self.url));
        let request = match token {
            "" => request,
            basic if basic.contains(':') => {
                request.header("authorization", format!("Basic {}", STANDARD.encode(basic)))
            }
            bearer => request.bearer_auth(bearer),
        };
        let request = match body {
            Some(body) => with_json(request, body),
            None => request,
        };
        let response = request.send().await.unwrap();
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap().to_vec(),
        }
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask(Method::GET, path, token, None).await
    }

    /// Makes an account; its token.
    async fn register(&self, name: &str, password: &str) -> String {
        let body = json!({ "name": name, "password": password, "email": "x@example.com" });
        let path = format!("/-/user/org.couchdb.user:{name}");
        let answer = self.ask(Method::PUT, &path, "", Some(&body)).await;
        answer.assert(201).json()["token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    async fn whoami(&self, token: &str) -> Value {
        self.get("/-/whoami", token).await.json()["username"].clone()
    }

    async fn publish(&self, token: &str, package: &Package, tag: &str) {
        let path = format!("/{}", package.name.replace('/', "%2f"));
        let body = publish_body(package, tag);
        self.ask(Method::PUT, &path, token, Some(&body))
            .await
            .assert(201);
    }

    async fn packument(&self, name: &str, token: &str) -> Value {
        let path = format!("/{}", name.replace('/', "%2f"));
        self.get(&path, token).await.assert(200).json()
    }

    /// The version is listed as it was published, and its tarball has the same bytes.
    async fn has(&self, package: &Package, token: &str) {
        let packument = self.packument(&package.name, token).await;
        let dist = &packument["versions"][&package.version]["dist"];
        assert_eq!(dist["integrity"], package.integrity(), "{packument}");
        assert_eq!(dist["shasum"], package.shasum());
        let tarball = dist["tarball"].as_str().unwrap();
        let path = tarball.strip_prefix(&self.url);
        let path = path.unwrap_or_else(|| panic!("{tarball} is elsewhere"));
        let answer = self.get(path, token).await.assert(200);
        assert_eq!(answer.body, package.tarball, "{path}");
    }

    /// Asks it to end, and waits until it has.
    fn stop(mut self) -> String {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status();
        assert!(sent.unwrap().success());
        self.child.wait().unwrap();
        self.told()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder with Verdaccio's file of settings, and what is needed to run both on it.
struct Place {
    folder: TempDir,
    port: u16,
}

impl Place {
    fn new(upstream: &str, security: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "storage: ./storage\nauth:\n  htpasswd:\n    file: ./htpasswd\n{security}\
             uplinks:\n  upstream:\n    url: {upstream}/\n    maxage: 1s\n    max_fails: 1000\n\
             packages:\n  '@team/*':\n    access: $authenticated\n    publish: $authenticated\n    \
             storage: team\n  '**':\n    access: $all\n    publish: $authenticated\n    proxy: upstream\n\
             log: {{ type: stdout, format: pretty, level: http }}\nflags: {{ changePassword: true }}\n"
        );
        fs::write(folder.path().join("config.yaml"), text).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        Self { folder, port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn with_arguments(&self, mut command: Command) -> Command {
        let path = std::env::var_os("PATH").unwrap();
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.folder.path());
        command.arg("-c").arg(self.path("config.yaml"));
        command.args(["-l", &format!("127.0.0.1:{}", self.port)]);
        command
    }

    async fn verdaccio(&self) -> Running {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let (_, runtime) = version("npm-12");
        let node = format!(
            "clients/{}/node_modules/.bin/node",
            runtime.replace('@', "-")
        );
        let program = root.join("verdaccio/node_modules/verdaccio/bin/verdaccio");
        assert!(
            program.exists(),
            "Verdaccio is not installed; run `./scripts/verdaccio`"
        );
        let mut command = Command::new(root.join(node));
        command.arg(program);
        Running::start(
            self.with_arguments(command),
            self.port,
            self.path("verdaccio.log"),
        )
        .await
    }

    /// With the one command that takes over.
    async fn ours(&self) -> Running {
        let command = Command::new(env!("CARGO_BIN_EXE_rustaccio"));
        Running::start(
            self.with_arguments(command),
            self.port,
            self.path("ours.log"),
        )
        .await
    }

    fn fsck(&self) -> String {
        let command = self.with_arguments(Command::new(env!("CARGO_BIN_EXE_rustaccio")));
        let mut command = assert_cmd::Command::from_std(command);
        let done = command.arg("fsck").output().unwrap();
        let told =
            String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap();
        assert!(done.status.success(), "{told}");
        told
    }
}

/// Installs `packages` with npm, an empty cache, and the `.npmrc` that its user has always had.
async fn install(url: &str, token: &str, packages: &[&Package]) {
    let (url, token) = (url.to_owned(), token.to_owned());
    let wanted: Vec<(String, String)> = packages
        .iter()
        .map(|package| (package.name.clone(), package.version.clone()))
        .collect();
    let work = tokio::task::spawn_blocking(move || {
        let npm = Client::npm(&url);
        npm.sign_in_with(&url, &token);
        let project = npm.project("project", &json!({ "name": "project", "version": "1.0.0" }));
        let names = wanted
            .iter()
            .map(|(name, version)| format!("{name}@{version}"));
        let names: Vec<String> = names.collect();
        let mut arguments = vec!["install"];
        arguments.extend(names.iter().map(String::as_str));
        npm.ok_in(&project, &arguments);
        for (name, version) in wanted {
            let manifest = project
                .join("node_modules")
                .join(&name)
                .join("package.json");
            let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
            assert_eq!(manifest["version"], version, "{name}");
        }
    });
    work.await.unwrap();
}

/// Publishes a package of this name with npm, as its user has always done.
async fn publish_with_npm(url: &str, token: &str, name: &'static str) {
    let (url, token) = (url.to_owned(), token.to_owned());
    let work = tokio::task::spawn_blocking(move || {
        let npm = Client::npm(&url);
        npm.sign_in_with(&url, &token);
        let folder = npm.project(name, &json!({ "name": name, "version": "1.0.0" }));
        npm.ok_in(&folder, &["publish", "--access=restricted"]);
    });
    work.await.unwrap();
}

/// What somebody has in Verdaccio before she changes over.
struct Before {
    upstream: Upstream,
    alice: String,
    bob: String,
    readonly: String,
    scoped: [Package; 2],
    own: [Package; 2],
    proxied: Package,
    overridden: [Package; 2],
}

impl Before {
    async fn make(place: &Place, upstream: Upstream) -> Self {
        let verdaccio = place.verdaccio().await;
        let proxied = Package::new("proxied", "1.2.3");
        let theirs = Package::new("overridden", "1.0.0");
        upstream.has(&[&proxied]);
        upstream.has(&[&theirs]);
        let alice = verdaccio.register("alice", "alices password").await;
        let bob = verdaccio.register("bob", "bobs password").await;
        let scoped = ["1.0.0", "1.1.0"].map(|version| Package::new("@team/scoped", version));
        let own = ["1.0.0", "2.0.0-beta.1"].map(|version| Package::new("own", version));
        let ours = Package::new("overridden", "1.0.1-patched");
        for package in &scoped {
            verdaccio.publish(&alice, package, "latest").await;
        }
        verdaccio.publish(&alice, &own[0], "latest").await;
        verdaccio.publish(&bob, &own[1], "beta").await;
        verdaccio.has(&theirs, "").await;
        verdaccio.publish(&alice, &ours, "patched").await;
        verdaccio.has(&proxied, "").await;
        // A tag, a deprecation, a version and a package that are unpublished.
        let tag = json!("1.0.0");
        let path = "/-/package/@team%2fscoped/dist-tags/stable";
        verdaccio
            .ask(Method::PUT, path, &alice, Some(&tag))
            .await
            .assert(201);
        let mut deprecated = verdaccio.packument("own", &alice).await;
        deprecated["versions"]["1.0.0"]["deprecated"] = json!("use two");
        verdaccio
            .ask(Method::PUT, "/own", &alice, Some(&deprecated))
            .await
            .assert(201);
        verdaccio
            .publish(&alice, &Package::new("own", "0.9.0"), "old")
            .await;
        let mut without = verdaccio.packument("own", &alice).await;
        without["versions"].as_object_mut().unwrap().remove("0.9.0");
        without["dist-tags"].as_object_mut().unwrap().remove("old");
        let rev = without["_rev"].as_str().unwrap().to_owned();
        let path = format!("/own/-rev/{rev}");
        verdaccio
            .ask(Method::PUT, &path, &alice, Some(&without))
            .await
            .assert(201);
        let path = format!("/own/-/own-0.9.0.tgz/-rev/{rev}");
        verdaccio
            .ask(Method::DELETE, &path, &alice, None)
            .await
            .assert(201);
        verdaccio
            .publish(&alice, &Package::new("gone", "1.0.0"), "latest")
            .await;
        verdaccio
            .ask(Method::DELETE, "/gone/-rev/1-1", &alice, None)
            .await
            .assert(201);
        let wanted =
            json!({ "password": "alices password", "readonly": true, "cidr_whitelist": [] });
        let path = "/-/npm/v1/tokens";
        let created = verdaccio
            .ask(Method::POST, path, &alice, Some(&wanted))
            .await
            .assert(200);
        let readonly = created.json()["token"].as_str().unwrap().to_owned();
        verdaccio.stop();
        Self {
            upstream,
            alice,
            bob,
            readonly,
            scoped,
            own,
            proxied,
            overridden: [theirs, ours],
        }
    }

    fn packages(&self) -> Vec<&Package> {
        let Self {
            scoped,
            own,
            proxied,
            overridden,
            ..
        } = self;
        let hosted = scoped.iter().chain(own).chain(overridden);
        hosted.chain([proxied]).collect()
    }

    /// Tags, deprecations and what was unpublished are as they were left.
    async fn is_served_by(&self, registry: &Running) {
        for package in self.packages() {
            registry.has(package, &self.alice).await;
        }
        let own = registry.packument("own", "").await;
        assert_eq!(own["versions"]["1.0.0"]["deprecated"], "use two");
        assert_eq!(own["dist-tags"]["latest"], "1.0.0");
        assert_eq!(own["dist-tags"]["beta"], "2.0.0-beta.1");
        assert!(own["versions"].get("0.9.0").is_none(), "{own}");
        let scoped = registry.packument("@team/scoped", &self.bob).await;
        assert_eq!(scoped["dist-tags"]["stable"], "1.0.0");
        let overridden = registry.packument("overridden", "").await;
        assert_eq!(overridden["dist-tags"]["patched"], "1.0.1-patched");
        assert_eq!(overridden["dist-tags"]["latest"], "1.0.0");
        registry.get("/gone", "").await.assert(404);
        assert!(
            registry
                .get("/@team%2fscoped", "")
                .await
                .status
                .is_client_error()
        );
        assert_eq!(registry.whoami(&self.alice).await, "alice");
        assert_eq!(registry.whoami(&self.bob).await, "bob");
        assert_eq!(registry.whoami("bob:bobs password").await, "bob");
    }
}

/// What was made here after the first change.
struct Meanwhile {
    next: Package,
    fresh: Package,
    by_npm: Package,
    carol: String,
}

impl Meanwhile {
    /// Takes the folder over, and goes on working with it.
    async fn make(place: &Place, before: &Before) -> Self {
        // While upstream is away, what Verdaccio has fetched of it is there.
        let proxied = &before.proxied;
        before.upstream.fails("/proxied", 503);
        let tarball = format!("/proxied/-/{}", proxied.file());
        before.upstream.fails(&tarball, 503);
        let ours = place.ours().await;
        ours.has(proxied, "").await;
        install(&ours.url, &before.alice, &[proxied]).await;
        before.upstream.has(&[proxied]);
        before.is_served_by(&ours).await;
        let first = [&before.scoped[1], &before.own[0], &before.overridden[1]];
        install(&ours.url, &before.alice, &first).await;
        // The old token that only reads does not write.
        assert_eq!(ours.whoami(&before.readonly).await, "alice");
        let next = Package::new("@team/scoped", "1.2.0");
        let (path, body) = ("/@team%2fscoped", publish_body(&next, "latest"));
        let refused = ours.ask(Method::PUT, path, &before.readonly, Some(&body));
        refused.await.assert(403);
        // Old tokens publish on, new users and packages are made, passwords are changed.
        ours.publish(&before.alice, &next, "latest").await;
        publish_with_npm(&ours.url, &before.bob, "@team/by-npm").await;
        let fresh = Package::new("fresh", "1.0.0");
        let carol = ours.register("carol", "carols password").await;
        ours.publish(&carol, &fresh, "latest").await;
        let passing = Package::new("passing", "1.0.0");
        ours.publish(&carol, &passing, "latest").await;
        let path = "/passing/-rev/1-1";
        let passing = ours.ask(Method::DELETE, path, &carol, None).await;
        assert!(passing.status.is_success());
        let passwords = json!({ "old": "bobs password", "new": "bobs new password" });
        let body = json!({ "password": passwords });
        let (path, bob) = ("/-/npm/v1/user", "bob:bobs password");
        ours.ask(Method::POST, path, bob, Some(&body))
            .await
            .assert(200);
        ours.stop();
        place.fsck();
        Self {
            next,
            fresh,
            by_npm: Package::new("@team/by-npm", "1.0.0"),
            carol,
        }
    }

    /// Goes back to Verdaccio, and publishes there.
    async fn is_served_by_verdaccio(&self, place: &Place, before: &Before) -> Package {
        let verdaccio = place.verdaccio().await;
        let packages = before.packages().into_iter();
        for package in packages.chain([&self.next, &self.fresh]) {
            verdaccio.has(package, &before.alice).await;
        }
        let scoped = verdaccio.packument("@team/scoped", &before.alice).await;
        assert_eq!(scoped["dist-tags"]["latest"], "1.2.0");
        assert_eq!(scoped["dist-tags"]["stable"], "1.0.0");
        verdaccio.get("/passing", "").await.assert(404);
        assert_eq!(verdaccio.whoami(&before.alice).await, "alice");
        assert_eq!(verdaccio.whoami("carol:carols password").await, "carol");
        assert_eq!(verdaccio.whoami("bob:bobs new password").await, "bob");
        let login = json!({ "username": "carol", "password": "carols password" });
        let path = "/-/verdaccio/sec/login";
        let login = verdaccio.ask(Method::POST, path, "", Some(&login)).await;
        let login = login.assert(200).json();
        let path = "/-/verdaccio/data/packages";
        let listed = verdaccio.get(path, login["token"].as_str().unwrap()).await;
        let listed = listed.assert(200).json();
        let listed = listed.as_array().unwrap().iter();
        let listed: Vec<&str> = listed.map(|one| one["name"].as_str().unwrap()).collect();
        for (name, is_listed) in [
            ("fresh", true),
            ("@team/scoped", true),
            ("proxied", false),
            ("passing", false),
        ] {
            assert_eq!(listed.contains(&name), is_listed, "{name} in {listed:?}");
        }
        let all = [&self.next, &self.fresh, &self.by_npm, &before.proxied];
        install(&verdaccio.url, &before.alice, &all).await;
        let last = Package::new("fresh", "1.1.0");
        verdaccio
            .publish("carol:carols password", &last, "latest")
            .await;
        verdaccio.stop();
        last
    }
}

/// There, on, and back, twice.
async fn circle(security: &str) {
    let upstream = Upstream::start().await;
    let place = Place::new(&upstream.url, security);
    let before = Before::make(&place, upstream).await;
    let meanwhile = Meanwhile::make(&place, &before).await;
    let last = meanwhile.is_served_by_verdaccio(&place, &before).await;

    let ours = place.ours().await;
    let packages = before.packages().into_iter();
    for package in packages.chain([&meanwhile.next, &meanwhile.fresh, &last]) {
        ours.has(package, &before.alice).await;
    }
    // What was made here the first time counts on.
    assert_eq!(ours.whoami(&meanwhile.carol).await, "carol");
    ours.get("/passing", "").await.assert(404);
    // Without upstream, what both have fetched of it is there.
    before.upstream.fails("/proxied", 503);
    ours.has(&before.proxied, "").await;
    let told = ours.stop();
    assert!(!told.contains("panicked"), "{told}");
    place.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_goes_there_and_back_with_tokens_that_hold_passwords() {
    circle("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_goes_there_and_back_with_tokens_that_are_signed() {
    circle("security:\n  api:\n    jwt:\n      sign: { expiresIn: 29d }\n").await;
}
