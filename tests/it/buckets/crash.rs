//! A node that dies while it writes to a bucket: the next one finds all that was acknowledged.

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt as _, path::Path};

use reqwest::Client;
use serde_json::{Value, json};

use crate::{
    crash::{ABORTED, BUCKET_POINTS},
    support::{Package, bucket::Bucket, process::Process, publish_body, registry::client},
};

#[derive(Clone)]
enum Step {
    Publish(Package),
    Unpublish(Package),
}

impl Step {
    fn package(&self) -> &Package {
        match self {
            Self::Publish(package) | Self::Unpublish(package) => package,
        }
    }

    /// Whether it was done; `None` if the node is gone.
    async fn run(&self, client: &Client, url: &str, token: &str) -> Option<u16> {
        let sent = match self {
            Self::Publish(package) => {
                let body = publish_body(package, "latest").to_string();
                client.put(format!("{url}/@s%2fapp")).body(body)
            }
            Self::Unpublish(package) => {
                client.delete(format!("{url}/@s%2fapp/-/{}/-rev/x", package.file()))
            }
        };
        let answer = sent.bearer_auth(token).send().await.ok()?;
        let status = answer.status().as_u16();
        answer.bytes().await.ok()?;
        Some(status)
    }
}

async fn token(client: &Client, url: &str) -> String {
    let body = json!({ "name": "alice", "password": "password" });
    let path = format!("{url}/-/user/org.couchdb.user:alice");
    let answer = client
        .put(path)
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    body["token"].as_str().unwrap().to_owned()
}

/// That exactly these versions are there, with their bytes.
async fn verify(client: &Client, url: &str, there: &BTreeMap<String, Package>, unsure: &Step) {
    let answer = client.get(format!("{url}/@s%2fapp")).send().await.unwrap();
    let shown: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    let unsure = unsure.package();
    let empty = serde_json::Map::new();
    let shown = shown["versions"].as_object().unwrap_or(&empty);
    for version in shown.keys() {
        assert!(there.contains_key(version) || *version == unsure.version);
    }
    for (version, package) in there {
        let is_shown = shown.contains_key(version);
        assert!(is_shown || *version == unsure.version, "{version} is lost");
        let path = format!("{url}/@s/app/-/{}", package.file());
        let answer = client.get(path).send().await.unwrap();
        let status = answer.status().as_u16();
        assert_eq!(status, if is_shown { 200 } else { 404 }, "{version}");
        if is_shown {
            assert!(answer.bytes().await.unwrap() == package.tarball);
        }
    }
}

fn start(data: &Path, shared: &[(&'static str, String)], crash: Option<&str>) -> Process {
    let mut variables: Vec<(&str, &str)> = shared
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    variables.extend(crash.map(|crash| ("RUSTACCIO_CRASH_AT", crash)));
    Process::start(data, &variables)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_loses_nothing() {
    node_dies(&[1, 2], async || Bucket::s3().await.variables).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_beside_a_database_loses_nothing() {
    use crate::support::postgres;
    node_dies(&[1], async || {
        let mut variables = Bucket::s3().await.variables;
        variables.extend(postgres::variables(&postgres::schema().await));
        variables
    })
    .await;
}

/// At each point, as it is passed so many times, with storage of its own.
async fn node_dies(counts: &[u32], storage: impl AsyncFn() -> Vec<(&'static str, String)>) {
    let small = Package::new("@s/app", "1.0.0");
    let heavy = Package::heavy("@s/app", "2.0.0", 9 * 1024 * 1024);
    let steps = [
        Step::Publish(small.clone()),
        Step::Publish(heavy.clone()),
        Step::Unpublish(small.clone()),
        Step::Publish(small.clone()),
        Step::Unpublish(heavy.clone()),
        Step::Publish(heavy.clone()),
        Step::Unpublish(small),
        Step::Unpublish(heavy),
    ];
    let points = ["blob-placed", "manifest-touched"].into_iter();
    let points = points.chain(BUCKET_POINTS);
    for (point, count) in points.flat_map(|point| counts.iter().map(move |count| (point, count))) {
        let shared = storage().await;
        let client = client();
        let crash = format!("{point}:{count}");
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let node = start(folders[0].path(), &shared, Some(&crash));
        let mut url = node.url.clone();
        let mut alice = token(&client, &url).await;
        let mut dying = Some(node);
        let mut living = None;
        let mut there = BTreeMap::new();
        for step in &steps {
            let mut status = step.run(&client, &url, &alice).await;
            if status.is_none() {
                let ended = dying.take().unwrap().wait();
                assert_eq!(ended.signal(), Some(ABORTED), "{crash}");
                let other = start(folders[1].path(), &shared, None);
                url.clone_from(&other.url);
                alice = token(&client, &url).await;
                verify(&client, &url, &there, step).await;
                living = Some(other);
                status = step.run(&client, &url, &alice).await;
                // It may have happened before the node died.
                let may_be = match step {
                    Step::Publish(_) => [201, 409],
                    Step::Unpublish(_) => [201, 404],
                };
                assert!(may_be.contains(&status.unwrap()), "{crash}: {status:?}");
            } else {
                assert_eq!(status, Some(201), "{crash}");
            }
            match step {
                Step::Publish(package) => {
                    there.insert(package.version.clone(), package.clone());
                }
                Step::Unpublish(package) => {
                    there.remove(&package.version);
                }
            }
            verify(&client, &url, &there, step).await;
        }
        assert!(living.is_some(), "{crash} was not reached");
    }
}
