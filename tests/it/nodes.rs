//! Nodes that are processes of their own and share a bucket, or a bucket and a database.

mod killed;

use std::{future::Future, sync::Arc, time::Duration};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::{
    Package,
    backend::{Backend, fresh},
    process::Process,
    publish_body,
    registry::client,
};

/// A node, with a folder of its own.
struct Node {
    process: Process,
    folder: TempDir,
}

impl Node {
    fn start(shared: &[(String, String)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), shared)
    }

    fn start_in(folder: TempDir, shared: &[(String, String)]) -> Self {
        let shared = shared
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        // Three of them share two processors with other tests: a turn may be long in coming.
        let patient = ("RUSTACCIO_REQUEST_TIMEOUT_SECS", "120");
        let variables: Vec<(&str, &str)> = shared.chain([patient]).collect();
        let process = Process::start(folder.path(), &variables);
        Self { process, folder }
    }

    /// SIGKILL; the folder stays.
    fn kill(self) -> TempDir {
        self.process.kill();
        self.folder
    }

    fn url(&self) -> String {
        self.process.url.clone()
    }
}

/// What came of a request; `None` if the node was gone before it had answered.
async fn send(request: RequestBuilder) -> Option<(u16, Vec<u8>)> {
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.bytes().await.ok()?.to_vec()))
}

async fn json_of(request: RequestBuilder, status: u16) -> Value {
    let (found, body) = send(request).await.unwrap();
    assert_eq!(found, status, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

fn sign_in(client: &Client, url: &str, name: &str, password: &str) -> RequestBuilder {
    let body = json!({ "name": name, "password": password });
    let path = format!("{url}/-/user/org.couchdb.user:{name}");
    client.put(path).body(body.to_string())
}

async fn token(client: &Client, url: &str, name: &str) -> String {
    let signed_in = json_of(sign_in(client, url, name, "password"), 201).await;
    signed_in["token"].as_str().unwrap().to_owned()
}

fn publish(
    client: &Client,
    url: &str,
    token: &str,
    package: &Package,
    tag: &str,
) -> RequestBuilder {
    let path = format!("{url}/{}", package.name.replace('/', "%2f"));
    let body = publish_body(package, tag).to_string();
    client.put(path).bearer_auth(token).body(body)
}

/// Waits until `look` says so. With a database, other nodes hear of a change in a moment; in a
/// bucket, a token is believed for up to two seconds.
#[track_caller]
fn soon<F: Future<Output = bool>>(look: impl Fn() -> F) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let waiting = async {
            while !look().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert!(done.is_ok(), "not so at {place}");
    }
}

/// Sixteen writers, spread over the nodes, publish twenty versions each and set a tag for each.
async fn nothing_is_lost(backend: Backend, count: usize) {
    const WRITERS: usize = 16;
    const VERSIONS: usize = 20;
    let shared = fresh(backend).await;
    let nodes: Vec<Node> = (0..count).map(|_| Node::start(&shared)).collect();
    let client = client();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (client, url) = (client.clone(), nodes[writer % count].url());
        writers.spawn(async move {
            let token = token(&client, &url, &format!("writer-{writer}")).await;
            for number in 0..VERSIONS {
                let package = Package::new("shared", &format!("{writer}.{number}.0"));
                // No client has to try again.
                let tag = format!("published-{writer}-{number}");
                json_of(publish(&client, &url, &token, &package, &tag), 201).await;
                if number % 4 == 0 {
                    let path = format!("{url}/-/package/shared/dist-tags/set-{writer}-{number}");
                    let body = json!(package.version).to_string();
                    json_of(client.put(path).bearer_auth(&token).body(body), 201).await;
                }
            }
        });
    }
    writers.join_all().await;
    for node in &nodes {
        let url = node.url();
        let document = async || json_of(client.get(format!("{url}/shared")), 200).await;
        let is_whole = async || {
            let shown = document().await;
            // The last change of all may have been a tag.
            let tags = shown["dist-tags"].as_object().unwrap().len();
            let versions = shown["versions"].as_object().unwrap().len();
            versions == WRITERS * VERSIONS && tags > WRITERS * (VERSIONS + VERSIONS / 4)
        };
        if backend == Backend::Bucket {
            assert!(is_whole().await);
        } else {
            soon(is_whole).await;
        }
        let shown = document().await;
        for (writer, number) in (0..WRITERS).flat_map(|w| (0..VERSIONS).map(move |n| (w, n))) {
            let package = Package::new("shared", &format!("{writer}.{number}.0"));
            let tags = &shown["dist-tags"];
            assert_eq!(
                tags[format!("published-{writer}-{number}")],
                package.version
            );
            if number % 4 == 0 {
                assert_eq!(tags[format!("set-{writer}-{number}")], package.version);
            }
            let path = format!("{url}/shared/-/{}", package.file());
            let (status, bytes) = send(client.get(path)).await.unwrap();
            assert!(
                status == 200 && bytes == package.tarball,
                "{}",
                package.version
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_on_a_bucket_lose_nothing() {
    nothing_is_lost(Backend::Bucket, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_on_a_bucket_lose_nothing() {
    nothing_is_lost(Backend::Bucket, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_on_a_database_lose_nothing() {
    nothing_is_lost(Backend::BucketAndDatabase, 3).await;
}

/// Accounts, tokens and passwords of one node are those of the other.
async fn accounts_are_shared(backend: Backend) {
    let shared = Arc::new(fresh(backend).await);
    let nodes: Vec<Node> = (0..3).map(|_| Node::start(&shared)).collect();
    let urls: Vec<String> = nodes.iter().map(Node::url).collect();
    let client = client();
    let whoami = async |url: &str, token: &str| {
        let asked = client.get(format!("{url}/-/whoami")).bearer_auth(token);
        send(asked).await.unwrap().0
    };
    // Whoever registered on one logs in on another, at once, with her own password only.
    let first = token(&client, &urls[0], "alice").await;
    let second = token(&client, &urls[1], "alice").await;
    let wrong = sign_in(&client, &urls[2], "alice", "wrong password");
    json_of(wrong, 401).await;
    // A token works everywhere.
    for url in &urls {
        assert_eq!(whoami(url, &first).await, 200);
        assert_eq!(whoami(url, &second).await, 200);
    }
    let body = json!({ "password": "password", "readonly": true, "cidr_whitelist": [] });
    let path = format!("{}/-/npm/v1/tokens", urls[0]);
    let made = client.post(path).bearer_auth(&first);
    let made = send(made.body(body.to_string())).await.unwrap();
    assert!(made.0 == 200 || made.0 == 201, "{}", made.0);
    let made: Value = serde_json::from_slice(&made.1).unwrap();
    let readonly = made["token"].as_str().unwrap();
    for url in &urls {
        assert_eq!(whoami(url, readonly).await, 200);
        let package = Package::new("app", "1.0.0");
        let refused = publish(&client, url, readonly, &package, "latest");
        assert_eq!(send(refused).await.unwrap().0, 403);
    }
    // Revoked on one, it ends on all.
    let path = format!(
        "{}/-/npm/v1/tokens/token/{}",
        urls[1],
        made["key"].as_str().unwrap()
    );
    let revoked = client.delete(path).bearer_auth(&first);
    assert!(send(revoked).await.unwrap().0 < 300);
    assert_eq!(whoami(&urls[1], readonly).await, 401);
    for url in &urls {
        soon(async || whoami(url, readonly).await == 401).await;
        assert_eq!(whoami(url, &first).await, 200);
    }
    // So does every login when the password changes.
    let change = json!({ "password": { "old": "password", "new": "another one" } });
    let path = format!("{}/-/npm/v1/user", urls[2]);
    let changed = client.request(Method::POST, path).bearer_auth(&second);
    json_of(changed.body(change.to_string()), 200).await;
    for url in &urls {
        soon(async || whoami(url, &first).await == 401).await;
        json_of(sign_in(&client, url, "alice", "password"), 401).await;
    }
    for url in &urls {
        json_of(sign_in(&client, url, "alice", "another one"), 201).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_in_a_bucket_are_those_of_all_nodes() {
    accounts_are_shared(Backend::Bucket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_in_a_database_are_those_of_all_nodes() {
    accounts_are_shared(Backend::BucketAndDatabase).await;
}
