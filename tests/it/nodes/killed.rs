//! One of three nodes is killed in the middle of publishes, again and again.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{Node, json_of, publish, send, soon, token};
use crate::support::{
    Package,
    backend::{Backend, fresh},
    registry::client,
};

const NODES: usize = 3;
const WRITERS: usize = 9;
const KILLS: usize = 6;
/// How many publishes pass between two blows.
const BETWEEN: usize = 12;

/// What all writers share.
struct Load {
    client: reqwest::Client,
    token: String,
    urls: Mutex<Vec<String>>,
    /// Where nodes were that have been killed.
    gone: Mutex<BTreeSet<String>>,
    acknowledged: Mutex<Vec<Package>>,
    is_over: AtomicBool,
}

impl Load {
    /// Publishes to one node, and to another when that one is gone, as a user would.
    async fn write(self: Arc<Self>, writer: usize) {
        let mut number = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            number += 1;
            let name = match number % 3 {
                0 => "shared".to_owned(),
                1 => format!("@own/of-{writer}"),
                _ => format!("new-{writer}-{number}"),
            };
            let package = Package::new(&name, &format!("{writer}.{number}.0"));
            let mut is_retry = false;
            for node in writer.. {
                let url = self.urls.lock()[node % NODES].clone();
                let sent = publish(&self.client, &url, &self.token, &package, "latest");
                match send(sent).await {
                    Some((201, _)) => break,
                    Some((409, _)) if is_retry => break,
                    Some((status, body)) => {
                        panic!("{status}: {}", String::from_utf8_lossy(&body));
                    }
                    None => assert!(self.gone.lock().contains(&url), "a living node was silent"),
                }
                is_retry = true;
            }
            self.acknowledged.lock().push(package);
        }
    }

    async fn progress(&self) {
        let before = self.acknowledged.lock().len();
        soon(async || self.acknowledged.lock().len() >= before + BETWEEN).await;
    }

    /// Everything that was acknowledged is at `url`, and nothing half.
    async fn verify(&self, url: &str) {
        let acknowledged = self.acknowledged.lock().clone();
        let names: BTreeSet<&str> = acknowledged.iter().map(|known| &*known.name).collect();
        for name in names {
            let path = format!("{url}/{}", name.replace('/', "%2f"));
            let of_name = || acknowledged.iter().filter(|known| known.name == name);
            // With a database, another node's last change may be a moment away.
            let is_there = async || {
                let shown = json_of(self.client.get(&path), 200).await;
                of_name().all(|known| shown["versions"][&known.version].is_object())
            };
            soon(is_there).await;
            let shown = json_of(self.client.get(&path), 200).await;
            for (version, object) in shown["versions"].as_object().unwrap() {
                let package = Package::new(name, version);
                assert_eq!(object["dist"]["integrity"], package.integrity());
                let tarball = format!("{url}/{name}/-/{}", package.file());
                let (status, bytes) = send(self.client.get(tarball)).await.unwrap();
                assert!(
                    status == 200 && bytes == package.tarball,
                    "{name}@{version}"
                );
            }
            let latest = shown["dist-tags"]["latest"].as_str().unwrap();
            assert!(shown["versions"][latest].is_object(), "{name}");
        }
    }
}

async fn nodes_are_killed(backend: Backend) {
    let shared = fresh(backend).await;
    let mut nodes: Vec<Option<Node>> = (0..NODES).map(|_| Some(Node::start(&shared))).collect();
    let urls: Vec<String> = nodes.iter().flatten().map(Node::url).collect();
    let client = client();
    let load = Arc::new(Load {
        token: token(&client, &urls[0], "alice").await,
        client,
        urls: Mutex::new(urls),
        gone: Mutex::default(),
        acknowledged: Mutex::default(),
        is_over: AtomicBool::new(false),
    });
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(Arc::clone(&load).write(writer));
    }
    for round in 0..KILLS {
        load.progress().await;
        let killed = nodes[round % NODES].take().unwrap();
        load.gone.lock().insert(killed.url());
        let folder = killed.kill();
        // The others go on.
        load.progress().await;
        let again = Node::start_in(folder, &shared);
        load.urls.lock()[round % NODES] = again.url();
        nodes[round % NODES] = Some(again);
    }
    load.progress().await;
    load.is_over.store(true, Ordering::Relaxed);
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let urls = load.urls.lock().clone();
    for url in &urls {
        load.verify(url).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_on_a_bucket_loses_nothing() {
    nodes_are_killed(Backend::Bucket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_on_a_database_loses_nothing() {
    nodes_are_killed(Backend::BucketAndDatabase).await;
}
