//! A process that is killed while it is written to: what was acknowledged is there, nothing names
//! what is not there, and it always starts again.

#[cfg(feature = "crash-points")]
use std::{collections::BTreeSet, os::unix::process::ExitStatusExt as _};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::RngExt as _;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::{sync::Mutex, task::JoinSet};

use crate::support::{Package, process::Process, publish_body, registry::client};

const PUBLISHERS: usize = 8;
/// Kills at random moments; more come at named points.
const KILLS: usize = 100;

/// What was acknowledged and must be there, and what was asked for and may be.
#[derive(Default)]
struct Ledger {
    published: Vec<Package>,
    unpublished: Vec<Package>,
    /// Published without an answer; whoever publishes tries again.
    unanswered: Vec<Package>,
    tokens: Vec<(String, String)>,
}

struct Load {
    client: Client,
    token: String,
    ledger: Mutex<Ledger>,
    number: AtomicUsize,
}

async fn put(client: &Client, url: &str, token: &str, path: &str, body: &Value) -> Option<u16> {
    let request = client.put(format!("{url}{path}")).bearer_auth(token);
    let sent = request.body(body.to_string()).send().await.ok()?;
    let status = sent.status().as_u16();
    // An answer counts when it has come completely.
    sent.bytes().await.ok()?;
    Some(status)
}

async fn register(client: &Client, url: &str, name: &str) -> Option<String> {
    let body = json!({ "name": name, "password": "password" });
    let path = format!("{url}/-/user/org.couchdb.user:{name}");
    let sent = client.put(path).body(body.to_string()).send().await.ok()?;
    let body: Value = serde_json::from_slice(&sent.bytes().await.ok()?).ok()?;
    Some(body["token"].as_str()?.to_owned())
}

impl Load {
    /// Publishes `package`, until the server is gone. Whether it is still there.
    async fn publish(&self, url: &str, package: Package) -> bool {
        let path = format!("/{}", package.name.replace('/', "%2f"));
        let body = publish_body(&package, "latest");
        let status = put(&self.client, url, &self.token, &path, &body).await;
        let mut ledger = self.ledger.lock().await;
        match status {
            // Only what came before a kill can be there already.
            Some(201 | 409) => ledger.published.push(package),
            Some(status) => panic!("{status}"),
            None => ledger.unanswered.push(package),
        }
        status.is_some()
    }

    /// Publishes, unpublishes and registers until the server is gone.
    async fn run(self: Arc<Self>, publisher: usize, url: String) {
        loop {
            let unanswered = self.ledger.lock().await.unanswered.pop();
            if let Some(package) = unanswered {
                if self.publish(&url, package).await {
                    continue;
                }
                return;
            }
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let name = match number % 3 {
                0 => "shared".to_owned(),
                1 => format!("own-{publisher}"),
                _ => format!("@new/p{number}"),
            };
            let package = Package::new(&name, &format!("1.{number}.0"));
            let path = format!("/{}", name.replace('/', "%2f"));
            if !self.publish(&url, package.clone()).await {
                return;
            }
            if number % 7 == 5 {
                // From here on the package may be there or not; half of it never.
                let mut ledger = self.ledger.lock().await;
                ledger
                    .published
                    .retain(|known| known.name != package.name || known.version != package.version);
                ledger.unpublished.push(package.clone());
                drop(ledger);
                let file = package.file();
                let path = format!("{url}{path}/-/{file}/-rev/x");
                let sent = self
                    .client
                    .delete(path)
                    .bearer_auth(&self.token)
                    .send()
                    .await;
                if sent.is_err() {
                    return;
                }
            }
            if number % 11 == 3 {
                let name = format!("user{number}");
                match register(&self.client, &url, &name).await {
                    Some(token) => self.ledger.lock().await.tokens.push((name, token)),
                    None => return,
                }
            }
        }
    }

    /// Everything that was acknowledged since `from` is there; with `all`, all of it.
    async fn verify(&self, url: &str, from: (usize, usize)) {
        let ledger = self.ledger.lock().await;
        for package in &ledger.published[from.0.min(ledger.published.len())..] {
            let path = format!("{url}/{}/-/{}", package.name, package.file());
            let answer = self.client.get(path).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{}@{}", package.name, package.version);
            assert_eq!(answer.bytes().await.unwrap(), package.tarball);
        }
        for (name, token) in &ledger.tokens[from.1..] {
            let request = self
                .client
                .get(format!("{url}/-/whoami"))
                .bearer_auth(token);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200, "{name}");
        }
    }

    /// Every version that a document names has its tarball.
    async fn verify_documents(&self, url: &str) {
        let all = self
            .client
            .get(format!("{url}/-/all"))
            .send()
            .await
            .unwrap();
        let all: Value = serde_json::from_slice(&all.bytes().await.unwrap()).unwrap();
        for name in all.as_object().unwrap().keys() {
            let document = self
                .client
                .get(format!("{url}/{name}"))
                .send()
                .await
                .unwrap();
            let document: Value = serde_json::from_slice(&document.bytes().await.unwrap()).unwrap();
            for (version, object) in document["versions"].as_object().unwrap() {
                let package = Package::new(name, version);
                assert_eq!(object["dist"]["integrity"], package.integrity());
                let path = object["dist"]["tarball"].as_str().unwrap();
                let answer = self.client.get(path).send().await.unwrap();
                assert_eq!(
                    answer.bytes().await.unwrap(),
                    package.tarball,
                    "{name}@{version}"
                );
            }
            for version in document["dist-tags"].as_object().unwrap().values() {
                let version = version.as_str().unwrap();
                assert!(
                    document["versions"][version].is_object(),
                    "{name}@{version}"
                );
            }
        }
    }
}

async fn load(data: &Path) -> Arc<Load> {
    let client = client();
    let process = Process::start(data, &[]);
    let token = register(&client, &process.url, "publisher").await.unwrap();
    process.kill();
    Arc::new(Load {
        client,
        token,
        ledger: Mutex::default(),
        number: AtomicUsize::new(0),
    })
}

fn run(load: &Arc<Load>, url: &str) -> JoinSet<()> {
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        publishers.spawn(Arc::clone(load).run(publisher, url.to_owned()));
    }
    publishers
}

async fn join(mut publishers: JoinSet<()>) {
    while let Some(done) = publishers.join_next().await {
        done.unwrap();
    }
}

async fn counts(load: &Load) -> (usize, usize) {
    let ledger = load.ledger.lock().await;
    (ledger.published.len(), ledger.tokens.len())
}

/// Only tarballs that nobody names may be left, and `fsck` takes them away.
fn check_with_fsck(data: &Path) {
    let fsck = |arguments: &[&str]| {
        let output = Process::command(data, &[])
            .arg("fsck")
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (_, report) = fsck(&[]);
    for line in report.lines() {
        let is_harmless = line.contains("no version names") || line.contains("packages, ");
        assert!(is_harmless, "{line}");
    }
    let (is_clean, report) = fsck(&["--repair"]);
    assert!(is_clean, "{report}");
    assert!(fsck(&[]).1.contains("all fine"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let load = load(&data).await;
    for round in 0..KILLS {
        let process = Process::start(&data, &[]);
        let before = counts(&load).await;
        let name = format!("round{round}");
        let token = register(&load.client, &process.url, &name).await.unwrap();
        load.ledger.lock().await.tokens.push((name, token));
        let publishers = run(&load, &process.url);
        // Some more are published however slow the machine is, and more than one is on its way.
        let goal = before.0 + rand::rng().random_range(1..4);
        let reached = tokio::time::timeout(Duration::from_secs(60), async {
            while counts(&load).await.0 < goal {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        reached.await.unwrap();
        let pause = rand::rng().random_range(0..40);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        process.kill();
        join(publishers).await;
        let process = Process::start(&data, &[]);
        // What is taken away from the ledger may move others before `before`.
        let from = (before.0.saturating_sub(PUBLISHERS * 2), before.1);
        load.verify(&process.url, from).await;
        process.kill();
    }
    let process = Process::start(&data, &[]);
    load.verify(&process.url, (0, 0)).await;
    load.verify_documents(&process.url).await;
    let (published, tokens) = counts(&load).await;
    assert!(
        published >= KILLS && tokens >= KILLS,
        "{published} {tokens}"
    );
    process.stop();
    check_with_fsck(&data);
}

/// The points where it may die, and by how many passes later each round; `manifest-touched` is
/// passed only after a death at `blob-placed`, which leaves one blob behind at least.
#[cfg(feature = "crash-points")]
const POINTS: [(&str, usize); 8] = [
    ("package-filled", 2),
    ("package-placed", 2),
    ("file-written", 3),
    ("file-renamed", 3),
    ("blob-linked", 3),
    ("blob-placed", 3),
    ("manifest-touched", 0),
    ("blob-deleting", 3),
];

/// The same, in a folder of Verdaccio's.
#[cfg(feature = "crash-points")]
const VERDACCIO_POINTS: [(&str, usize); 8] = [
    ("list-written", 2),
    ("manifest-placed", 3),
    ("removed-written", 2),
    ("manifest-emptied", 0),
    ("file-written", 3),
    ("file-renamed", 3),
    ("blob-linked", 3),
    ("blob-deleting", 1),
];

/// Those that only a registry on a bucket passes; others are passed there too.
#[cfg(feature = "crash-points")]
pub(crate) const BUCKET_POINTS: [&str; 3] = ["object-uploaded", "object-marked", "object-deleting"];

/// Those that only a backup passes.
#[cfg(feature = "crash-points")]
pub(crate) const SNAPSHOT_POINTS: [&str; 3] =
    ["snapshot-package", "snapshot-filled", "snapshot-placed"];

/// Those that only a restore or a move passes.
#[cfg(feature = "crash-points")]
const TARGET_POINTS: [&str; 2] = ["target-begun", "mark-changed"];

/// Those that only an import passes.
#[cfg(feature = "crash-points")]
pub(crate) const IMPORT_POINTS: [&str; 3] =
    ["import-begun", "tarball-imported", "tarballs-imported"];

/// SIGABRT.
#[cfg(feature = "crash-points")]
pub(crate) const ABORTED: i32 = 6;

/// No point is forgotten, and none has gone.
#[cfg(feature = "crash-points")]
#[test]
fn all_points_are_known() {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            for (at, call) in text.match_indices("crash_point(\"") {
                let point = text[at + call.len()..].split('"').next().unwrap();
                assert!(found.insert(point.to_owned()), "{point} stands twice");
            }
        }
    }
    let known = POINTS.map(|(point, _)| point).into_iter();
    let known: BTreeSet<String> = known
        .chain(VERDACCIO_POINTS.map(|(point, _)| point))
        .chain(BUCKET_POINTS)
        .chain(SNAPSHOT_POINTS)
        .chain(TARGET_POINTS)
        .chain(IMPORT_POINTS)
        .map(str::to_owned)
        .collect();
    assert_eq!(found, known);
}

#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_named_points() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    killed_at(&data, &POINTS, 6).await;
}

#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_a_folder_of_verdaccios() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(
        data.join(".verdaccio-db.json"),
        r#"{"list":[],"secret":"x"}"#,
    )
    .unwrap();
    killed_at(&data, &VERDACCIO_POINTS, 3).await;
}

/// In a folder of Verdaccio's: it finds a whole file of each package, and each tarball that it names.
#[cfg(feature = "crash-points")]
fn check_for_verdaccio(data: &Path) {
    let Ok(list) = std::fs::read(data.join(".verdaccio-db.json")) else {
        return;
    };
    let list: Value = serde_json::from_slice(&list).unwrap();
    assert_eq!(list["secret"], "x");
    let names = list["list"].as_array().unwrap().iter();
    let listed: BTreeSet<&str> = names.map(|name| name.as_str().unwrap()).collect();
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let is_ours = path.ends_with(".rustaccio");
            if path.is_dir() && !is_ours {
                folders.push(path);
            }
        }
        let Ok(file) = std::fs::read(folder.join("package.json")) else {
            continue;
        };
        let file: Value = serde_json::from_slice(&file).unwrap();
        let name = file["name"].as_str().unwrap();
        assert!(listed.contains(name), "{name}");
        assert!(!file["versions"].as_object().unwrap().is_empty(), "{name}");
        for version in file["versions"].as_object().unwrap().keys() {
            let package = Package::new(name, version);
            assert_eq!(file["_attachments"][package.file()]["version"], **version);
            assert!(folder.join(package.file()).is_file(), "{name}@{version}");
        }
    }
}

/// In a folder of Verdaccio's that was opened again: it finds no tarball that it would serve although no
/// version has it.
#[cfg(feature = "crash-points")]
fn check_for_orphans(data: &Path) {
    if !data.join(".verdaccio-db.json").exists() {
        return;
    }
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        let file = std::fs::read(folder.join("package.json")).unwrap_or_else(|_| b"{}".to_vec());
        let file: Value = serde_json::from_slice(&file).unwrap();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with(".rustaccio") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "tgz") {
                let name = path.file_name().unwrap().to_str().unwrap();
                assert!(file["_attachments"][name].is_object(), "{}", path.display());
            }
        }
    }
}

/// Kills it `rounds` times at each of these points.
#[cfg(feature = "crash-points")]
async fn killed_at(data: &Path, points: &[(&str, usize)], rounds: usize) {
    let load = load(data).await;
    for round in 0..rounds {
        for (point, step) in points {
            let times = format!("{point}:{}", 1 + round * step);
            let process = Process::start(data, &[("RUSTACCIO_CRASH_AT", &times)]);
            let before = counts(&load).await;
            let publishers = run(&load, &process.url);
            let gone = tokio::time::timeout(Duration::from_secs(120), join(publishers)).await;
            assert!(gone.is_ok(), "{times} was not reached");
            assert_eq!(process.wait().signal(), Some(ABORTED), "{times}");
            check_for_verdaccio(data);
            let process = Process::start(data, &[]);
            let from = (before.0.saturating_sub(PUBLISHERS * 2), before.1);
            check_for_orphans(data);
            load.verify(&process.url, from).await;
            process.kill();
        }
    }
    let process = Process::start(data, &[]);
    load.verify(&process.url, (0, 0)).await;
    load.verify_documents(&process.url).await;
    process.stop();
    check_with_fsck(data);
}

#[tokio::test]
async fn a_signal_ends_it_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let process = Process::start(&data, &[]);
    let second = Process::command(&data, &[]).output().unwrap();
    assert!(!second.status.success());
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(
        text.contains("another rustaccio process uses this data folder"),
        "{text}"
    );
    process.stop();
}
