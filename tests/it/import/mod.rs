//! `rustaccio import`: what another registry has becomes ours, once.

mod folder;
mod hostile;
mod lockfiles;
mod mirroring;
mod resuming;
#[cfg(all(
    feature = "test-services",
    feature = "s3",
    feature = "gcs",
    feature = "azure",
    feature = "postgres"
))]
mod settings;
mod shadowing;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Package, Registry, Upstream, process::Process, registry::client, upstream::path_of,
};

/// A data folder, and commands on it.
pub(crate) struct Here {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// What a command said, and whether it ended well.
#[derive(Debug)]
pub(crate) struct Said {
    text: String,
    is_fine: bool,
}

impl Said {
    #[track_caller]
    fn fine(self) -> Self {
        assert!(self.is_fine, "{}", self.text);
        self
    }

    #[track_caller]
    fn fails(self, with: &str) -> Self {
        assert!(!self.is_fine && self.text.contains(with), "{}", self.text);
        self
    }

    /// The summary for programs.
    #[track_caller]
    fn json(&self) -> Value {
        let line = self.text.lines().find(|line| line.starts_with('{'));
        serde_json::from_str(line.unwrap_or_else(|| panic!("{}", self.text))).unwrap()
    }
}

impl Here {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
        }
    }

    fn with(variables: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            variables: variables.iter().map(own).collect(),
            ..Self::new()
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self) -> std::process::Command {
        let variables = self.variables.iter();
        let variables: Vec<(&str, &str)> = variables
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        Process::command(&self.data(), &variables)
    }

    /// Runs a command while others go on.
    async fn run(&self, arguments: &[&str]) -> Said {
        let mut command = self.command();
        command.args(arguments);
        let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await;
        let done = done.unwrap();
        Said {
            text: String::from_utf8([done.stdout, done.stderr].concat()).unwrap(),
            is_fine: done.status.success(),
        }
    }

    async fn import(&self, source: &str, arguments: &[&str]) -> Said {
        self.run(&[&["import", source], arguments].concat()).await
    }

    fn serve(&self) -> Process {
        let variables = self.variables.iter();
        let variables: Vec<(&str, &str)> = variables
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        Process::start(&self.data(), &variables)
    }

    /// A file beside the data.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// All files below `folder`, with their bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

async fn get(url: &str) -> (u16, Vec<u8>) {
    let answer = client().get(url).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.bytes().await.unwrap().to_vec())
}

async fn get_json(url: &str) -> Value {
    let (status, body) = get(url).await;
    assert_eq!(status, 200, "{url}");
    serde_json::from_slice(&body).unwrap()
}

fn tarball_path(package: &Package) -> String {
    format!("/{}/-/{}", package.name, package.file())
}

/// How many tarballs `upstream` was asked for.
fn tarballs_asked(upstream: &Upstream) -> usize {
    let seen = upstream.seen();
    seen.iter()
        .filter(|(path, _)| {
            path.contains("/-/")
                && Path::new(path)
                    .extension()
                    .is_some_and(|extension| extension == "tgz")
        })
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_kept_and_a_second_run_changes_nothing() {
    let upstream = Upstream::start().await;
    let packages =
        ["1.0.0", "1.1.0", "2.0.0-rc.1"].map(|version| Package::new("@team/tool", version));
    let [first, second, third] = &packages;
    upstream.has(&[first, second, third]);
    let mut document = upstream.document(&[first, second, third]);
    document["dist-tags"] = json!({ "latest": "1.1.0", "next": "2.0.0-rc.1" });
    document["readme"] = json!("# Tool\n");
    document["maintainers"] = json!([{ "name": "bob", "email": "bob@example.com" }]);
    document["users"] = json!({ "carol": true });
    document["ours"] = json!({ "nobody": ["knows", 1.5] });
    document["time"]["1.0.0"] = json!("2019-02-03T04:05:06.007Z");
    document["versions"]["1.0.0"]["deprecated"] = json!("use 1.1.0");
    document["versions"]["1.1.0"]["x-odd"] = json!({ "a": 1 });
    document["versions"]["1.1.0"]["dist"]["unpackedSize"] = json!(77);
    // One of before integrity, and one of before anything.
    let dist = document["versions"]["1.0.0"]["dist"]
        .as_object_mut()
        .unwrap();
    dist.remove("integrity");
    let dist = document["versions"]["2.0.0-rc.1"]["dist"]
        .as_object_mut()
        .unwrap();
    dist.remove("integrity");
    dist.remove("shasum");
    upstream.answers(&path_of("@team/tool"), &document);
    let here = Here::new();
    let names = here.file("names", "# what we have\n\n@team/tool\n");
    let said = here
        .import(&upstream.url, &["--names", &names, "--json"])
        .await
        .fine();
    let summary = said.json();
    assert_eq!(
        (&summary["versions"], &summary["tarballs"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(tarballs_asked(&upstream), 3);

    let before = contents(&here.data());
    let said = here
        .import(&upstream.url, &["--names", &names])
        .await
        .fine();
    assert!(said.text.contains("1 as they should be"), "{}", said.text);
    assert_eq!(contents(&here.data()), before);
    assert_eq!(tarballs_asked(&upstream), 3);

    let registry = here.serve();
    let shown = get_json(&format!("{}/@team%2ftool", registry.url)).await;
    for key in [
        "dist-tags",
        "readme",
        "maintainers",
        "users",
        "ours",
        "time",
    ] {
        assert_eq!(shown[key], document[key], "{key}");
    }
    assert_eq!(shown["versions"]["1.0.0"]["deprecated"], "use 1.1.0");
    assert_eq!(shown["versions"]["1.1.0"]["x-odd"], json!({ "a": 1 }));
    assert_eq!(shown["versions"]["1.1.0"]["dist"]["unpackedSize"], 77);
    for package in &packages {
        let dist = &shown["versions"][&package.version]["dist"];
        assert_eq!(dist["integrity"], package.integrity());
        assert_eq!(dist["shasum"], package.shasum());
        let (status, bytes) = get(dist["tarball"].as_str().unwrap()).await;
        assert_eq!((status, bytes), (200, package.tarball.clone()));
    }
    let found = get_json(&format!("{}/-/v1/search?text=tool", registry.url)).await;
    assert_eq!(found["objects"][0]["package"]["name"], "@team/tool");
    registry.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_changes_follows_until_something_is_published_here() {
    let upstream = Upstream::start().await;
    let [one, two] = ["1.0.0", "2.0.0"].map(|version| Package::new("moving", version));
    upstream.has(&[&one]);
    let here = Here::new();
    let names = here.file("names", "moving");
    here.import(&upstream.url, &["--names", &names])
        .await
        .fine();
    // Another version, and a deprecation of the first.
    upstream.has(&[&one, &two]);
    let mut document = upstream.document(&[&one, &two]);
    document["versions"]["1.0.0"]["deprecated"] = json!("old");
    upstream.answers("/moving", &document);
    let said = here
        .import(&upstream.url, &["--names", &names, "--json"])
        .await
        .fine();
    assert_eq!(said.json()["tarballs"], 1);
    let registry = here.serve();
    let shown = get_json(&format!("{}/moving", registry.url)).await;
    assert_eq!(shown["dist-tags"]["latest"], "2.0.0");
    assert_eq!(shown["versions"]["1.0.0"]["deprecated"], "old");
    registry.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_already_is_never_overwritten() {
    let upstream = Upstream::start().await;
    let theirs = ["1.0.0", "1.5.0"].map(|version| Package::new("shared", version));
    upstream.has(&[&theirs[0], &theirs[1]]);
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let ours = [
        Package::heavy("shared", "1.0.0", 100),
        Package::heavy("shared", "9.0.0", 100),
    ];
    for package in &ours {
        registry.publish(&alice, package).await.assert(201);
    }
    let folder = registry.stop().await;
    let here = Here {
        folder,
        variables: Vec::new(),
    };
    let names = here.file("names", "shared");
    for _ in 0..2 {
        let said = here.import(&upstream.url, &["--names", &names]).await;
        let said = said.fails("shared@1.0.0 has other bytes in the source");
        assert!(
            said.text.contains("the dist-tag latest is another"),
            "{}",
            said.text
        );
    }
    let registry = here.serve();
    let shown = get_json(&format!("{}/shared", registry.url)).await;
    assert_eq!(shown["dist-tags"]["latest"], "9.0.0");
    for package in [&ours[0], &ours[1], &theirs[1]] {
        let (_, bytes) = get(&format!("{}{}", registry.url, tarball_path(package))).await;
        assert_eq!(bytes, package.tarball, "{}", package.version);
    }
    registry.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_left_out_until_it_is_right() {
    let upstream = Upstream::start().await;
    let [good, damaged, missing] =
        ["1.0.0", "2.0.0", "3.0.0"].map(|version| Package::new("partly", version));
    upstream.has(&[&good, &damaged, &missing]);
    upstream.has_tarball(&damaged, b"something else".to_vec());
    upstream.forgets(&tarball_path(&missing));
    let other = Package::new("whole", "1.0.0");
    upstream.has(&[&other]);
    let here = Here::new();
    let names = here.file("names", "partly\nwhole\nnot-there\n");
    let said = here.import(&upstream.url, &["--names", &names]).await;
    let said = said.fails("damaged in the source: partly@2.0.0");
    assert!(
        said.text.contains("the tarball of partly@3.0.0"),
        "{}",
        said.text
    );
    assert!(
        said.text.contains("missing in the source: not-there"),
        "{}",
        said.text
    );
    assert!(said.text.contains("versions: 2 added"), "{}", said.text);
    assert!(!here.data().join("tarballs/not-there").exists());
    let registry = here.serve();
    let shown = get_json(&format!("{}/partly", registry.url)).await;
    assert_eq!(shown["versions"].as_object().unwrap().len(), 1);
    assert_eq!(shown["dist-tags"], json!({ "latest": "1.0.0" }));
    registry.stop();
    // It is put right there.
    upstream.has(&[&good, &damaged, &missing]);
    let names = here.file("names", "partly\nwhole\n");
    let said = here
        .import(&upstream.url, &["--names", &names, "--json"])
        .await
        .fine();
    assert_eq!(said.json()["tarballs"], 2);
    let registry = here.serve();
    let shown = get_json(&format!("{}/partly", registry.url)).await;
    assert_eq!(shown["dist-tags"], json!({ "latest": "3.0.0" }));
    registry.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_registry_lists_what_it_has_to_those_who_may_know() {
    let file = "packages:\n  '**':\n    access: $authenticated\n    publish: $authenticated\n";
    let source = Registry::with_file(file).await;
    let alice = source.user("alice").await;
    for name in ["one", "@two/two", "three"] {
        source
            .publish(&alice, &Package::new(name, "1.0.0"))
            .await
            .assert(201);
    }
    let here = Here::new();
    here.import(&source.url, &[]).await.fine();
    let names = here.file("names", "one");
    let said = here.import(&source.url, &["--names", &names]).await;
    said.fails("RUSTACCIO_IMPORT_TOKEN");
    assert!(!here.data().join("tarballs/one").exists());
    // From a file, and from the environment.
    let (_, host) = source.url.split_once(':').unwrap();
    let npmrc = here.file("npmrc", &format!("{host}/:_authToken={}\n", alice.token));
    let said = here
        .import(&source.url, &["--npmrc", &npmrc, "--dry-run", "--json"])
        .await
        .fine();
    assert_eq!(
        (&said.json()["changed"], &said.json()["dry_run"]),
        (&json!(3), &json!(true))
    );
    assert!(!here.data().join("tarballs/one").exists());
    let there = Here::with(&[("RUSTACCIO_IMPORT_TOKEN", &alice.token)]);
    let said = there
        .import(&source.url, &["--search", "two", "--json"])
        .await
        .fine();
    assert_eq!(said.json()["packages"], 1);
    let said = there.import(&source.url, &["--json"]).await.fine();
    let summary = said.json();
    assert_eq!(
        (&summary["changed"], &summary["unchanged"]),
        (&json!(2), &json!(1))
    );
    // Whose the names are.
    let manifest = fs::read_to_string(there.data().join("tarballs/@two__two/package.json"));
    let manifest: Value = serde_json::from_str(&manifest.unwrap()).unwrap();
    assert_eq!(manifest["_rustaccio"]["origin"], "local");
    let over = Here::with(&[("RUSTACCIO_IMPORT_TOKEN", &alice.token)]);
    over.import(&source.url, &["--as-override"]).await.fine();
    let manifest = fs::read_to_string(over.data().join("tarballs/one/package.json"));
    let manifest: Value = serde_json::from_str(&manifest.unwrap()).unwrap();
    assert_eq!(manifest["_rustaccio"]["origin"], "override");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_a_registry_runs_on_is_left_alone() {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("a", "1.0.0")]);
    let here = Here::new();
    let names = here.file("names", "a");
    let registry = here.serve();
    let said = here.import(&upstream.url, &["--names", &names]).await;
    said.fails("another rustaccio process uses this data folder");
    assert_eq!(upstream.asked("/a"), 0);
    here.import(&upstream.url, &["--names", &names, "--dry-run"])
        .await
        .fine();
    registry.stop();
}
