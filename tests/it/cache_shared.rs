//! What came from upstream, shared in the bucket by nodes that are processes of their own.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Package, Upstream, bucket::Bucket, process::Process};

/// What is asked of a process, over HTTP.
async fn get(node: &Process, path: &str) -> (u16, bytes::Bytes) {
    let answer = reqwest::get(format!("{}{path}", node.url)).await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap())
}

async fn install(node: &Process, package: &Package) {
    let (status, _) = get(node, &format!("/{}", package.name)).await;
    assert_eq!(status, 200);
    let file = format!("/{}/-/{}", package.name, package.file());
    let (status, bytes) = get(node, &file).await;
    assert_eq!(status, 200);
    assert!(bytes == package.tarball, "other bytes");
}

struct Cluster {
    bucket: Bucket,
    upstream: Upstream,
    folders: Vec<tempfile::TempDir>,
}

impl Cluster {
    async fn new() -> Self {
        Self {
            bucket: Bucket::s3().await,
            upstream: Upstream::start().await,
            folders: Vec::new(),
        }
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        let bucket = self.bucket.variables.iter();
        let mut variables: Vec<_> = bucket.map(|(name, value)| (*name, &**value)).collect();
        variables.push(("RUSTACCIO_CACHE_SHARED", "true"));
        variables.push(("RUSTACCIO_UPSTREAM", &self.upstream.url));
        variables
    }

    /// A node whose folder is empty.
    fn node(&mut self) -> Process {
        self.folders.push(tempfile::tempdir().unwrap());
        let folder = self.folders.last().unwrap().path().join("data");
        Process::start(&folder, &self.variables())
    }

    /// The objects of the cache.
    async fn objects(&self) -> Vec<String> {
        let mut names = self.bucket.names().await;
        names.retain(|name| name.starts_with(".rustaccio/cache/"));
        names
    }

    /// Waits for what happens in the background.
    async fn until_kept(&self, ends: &[&str]) {
        let waiting = async {
            loop {
                let names = self.objects().await;
                let has = |end: &&str| names.iter().any(|name| name.ends_with(end));
                if ends.iter().all(has) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert!(done.is_ok(), "{ends:?} are not there");
    }

    /// `rustaccio cache` in the folder of the last node.
    fn cache(&self, arguments: &[&str]) -> Value {
        let folder = self.folders.last().unwrap().path().join("data");
        let mut command = Process::command(&folder, &self.variables());
        let output = command.arg("cache").args(arguments).arg("--json").output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_has_fetched_the_others_do_not_ask_for() {
    let mut cluster = Cluster::new().await;
    let small = Package::new("@up/small", "1.0.0");
    let large = Package::heavy("large", "1.0.0", 6 * 1024 * 1024);
    cluster.upstream.has(&[&small]);
    cluster.upstream.has(&[&large]);
    let first = cluster.node();
    install(&first, &small).await;
    install(&first, &large).await;
    let kept = ["@up__small/default.json", "large/default.json"];
    cluster.until_kept(&kept).await;
    let tarballs = || async {
        let names = cluster.objects().await;
        let tarballs = names.iter().filter(|name| has_extension(name, "tgz"));
        tarballs.count()
    };
    while tarballs().await < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = cluster.upstream.seen().len();
    let second = cluster.node();
    for _ in 0..2 {
        install(&second, &small).await;
        install(&second, &large).await;
    }
    assert_eq!(cluster.upstream.seen().len(), asked);
    // Nothing of it is hosted.
    let mut names = cluster.bucket.names().await;
    names.retain(|name| !name.starts_with(".rustaccio/"));
    assert!(names.is_empty(), "{names:?}");

    let stats = cluster.cache(&["stats"]);
    assert_eq!(stats["shared"]["tarballs"]["files"], 2, "{stats}");
    assert_eq!(stats["shared"]["documents"]["files"], 2, "{stats}");
    assert_eq!(stats["tarballs"]["files"], 2, "{stats}");
    let pruned = cluster.cache(&["prune", "--max-size", "4gb"]);
    assert_eq!(pruned["shared"]["removed"]["files"], 0, "{pruned}");
    let pruned = cluster.cache(&["prune", "--max-size", "1mb"]);
    assert!(
        pruned["shared"]["kept"]["bytes"].as_u64().unwrap() <= 1 << 20,
        "{pruned}"
    );
    let cleared = cluster.cache(&["clear"]);
    assert_eq!(cleared["shared"]["kept"]["files"], 0, "{cleared}");
    assert!(
        !cluster
            .objects()
            .await
            .iter()
            .any(|name| has_extension(name, "tgz"))
    );
    // It comes again.
    let third = cluster.node();
    install(&third, &large).await;
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_bucket_never_reaches_a_client() {
    let mut cluster = Cluster::new().await;
    let package = Package::new("damaged", "1.0.0");
    cluster.upstream.has(&[&package]);
    let first = cluster.node();
    install(&first, &package).await;
    cluster
        .until_kept(&["damaged/default.json", ".tgz", ".body"])
        .await;
    let objects = cluster.objects().await;
    for name in objects {
        if has_extension(&name, "tgz") || has_extension(&name, "body") {
            let mut bytes = cluster.bucket.read(&name).await.unwrap().to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            cluster.bucket.delete(&name).await;
            cluster.bucket.put(&name, bytes).await;
        }
    }
    let asked = cluster.upstream.seen().len();
    install(&cluster.node(), &package).await;
    // It was noticed, and asked for again.
    assert_eq!(cluster.upstream.seen().len(), asked + 2);
}

#[test]
fn without_a_bucket_nothing_can_be_shared() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Process::command(folder.path(), &[("RUSTACCIO_CACHE_SHARED", "true")]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("RUSTACCIO_CACHE_SHARED = `true`")
            && said.contains("RUSTACCIO_TARBALL_BACKEND"),
        "{said}"
    );
}

fn has_extension(name: &str, extension: &str) -> bool {
    std::path::Path::new(name)
        .extension()
        .is_some_and(|found| found == extension)
}
