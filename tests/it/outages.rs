//! The store, the database and Redis go away, hang, and crawl, while many read and write: each
//! request ends in time, nothing is invented or lost, and service resumes by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    Answer, Package, Registry, User,
    bucket::{self, s3_at, s3_endpoint},
    packages::publish_body,
    postgres,
    process::Process,
    redis,
    registry::{Start, client},
    server::Server,
    wire::{Line, Wire},
};

const WRITERS: usize = 4;
const READERS: usize = 4;
/// Longer than anything may take here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Clients of one registry, who go on until they are told to stop.
struct Load {
    registry: Registry,
    alice: User,
    acknowledged: Mutex<Vec<Package>>,
    /// How often each client has been answered, and how often it got what it wanted.
    answers: Vec<AtomicUsize>,
    successes: Vec<AtomicUsize>,
    failures: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    async fn start(variables: Vec<(&str, String)>) -> Arc<Self> {
        let registry = Registry::with(Start {
            variables,
            ..Start::default()
        })
        .await;
        let alice = registry.user("alice").await;
        let first = Package::new("shared", "0.0.0");
        registry.publish(&alice, &first).await.assert(201);
        let counts = || (0..WRITERS + READERS).map(|_| AtomicUsize::new(0));
        Arc::new(Self {
            registry,
            alice,
            acknowledged: Mutex::new(vec![first]),
            answers: counts().collect(),
            successes: counts().collect(),
            failures: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    /// What a request comes to, in time: one of these, or a failure of what is behind.
    async fn ask(&self, request: impl Future<Output = Answer>, good: &[u16]) -> Option<Answer> {
        let answer = tokio::time::timeout(PATIENCE, request).await;
        let answer = answer.expect("an answer in time");
        let status = answer.status.as_u16();
        if good.contains(&status) {
            return Some(answer);
        }
        let text = String::from_utf8_lossy(&answer.body);
        let is_failure = status == 503 || text.contains("state coordination backend unavailable");
        assert!(is_failure, "{status}: {text}");
        self.failures.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn note(&self, client: usize, is_success: bool) {
        self.answers[client].fetch_add(1, Ordering::Relaxed);
        if is_success {
            self.successes[client].fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn write(self: Arc<Self>, client: usize) {
        let mut number = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            number += 1;
            let name = match number % 3 {
                0 => "shared".to_owned(),
                1 => format!("@own/of-{client}"),
                _ => format!("new-{client}-{number}"),
            };
            let package = Package::new(&name, &format!("1.{client}.{number}"));
            let mut good = &[201][..];
            loop {
                let sent = self.registry.publish(&self.alice, &package);
                let is_published = self.ask(sent, good).await.is_some();
                if is_published {
                    self.acknowledged.lock().push(package.clone());
                }
                self.note(client, is_published);
                if is_published || self.is_over.load(Ordering::Relaxed) {
                    break;
                }
                // What failed may have happened.
                good = &[201, 409];
                pause().await;
            }
        }
    }

    async fn read(self: Arc<Self>, client: usize) {
        while !self.is_over.load(Ordering::Relaxed) {
            let known = self.acknowledged.lock().clone();
            let package = known.choose(&mut rand::rng()).unwrap();
            let path = format!("/{}", package.name.replace('/', "%2f"));
            let document = self.ask(self.registry.get(&path), &[200]).await;
            if let Some(document) = &document {
                let shown = document.json();
                for known in known.iter().filter(|known| known.name == package.name) {
                    let is_shown = shown["versions"][&known.version].is_object();
                    assert!(is_shown, "{}@{} is lost", known.name, known.version);
                }
            }
            let tarball = self.ask(self.registry.tarball(package), &[200]).await;
            if let Some(tarball) = &tarball {
                assert!(tarball.body == package.tarball, "other bytes");
            }
            let whoami = self.registry.get_as(&self.alice, "/-/whoami");
            let whoami = self.ask(whoami, &[200]).await;
            let is_success = document.is_some() && tarball.is_some() && whoami.is_some();
            self.note(client, is_success);
            if !is_success {
                pause().await;
            }
        }
    }

    /// Waits until each client has counted on for two more, so that one has begun since.
    async fn progress(&self, counts: &[AtomicUsize]) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let before: Vec<usize> = counts.iter().map(count).collect();
        let waiting = async {
            while counts
                .iter()
                .zip(&before)
                .any(|(now, before)| count(now) < before + 2)
            {
                pause().await;
            }
        };
        let done = tokio::time::timeout(PATIENCE * 2, waiting).await;
        assert!(done.is_ok(), "no progress: {counts:?} since {before:?}");
    }
}

/// So that those who fail at once do not take all of the machine.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Something that happens to what is behind a registry, and its end.
struct Blow {
    name: String,
    strike: Box<dyn Fn() + Send>,
    heal: Box<dyn Fn() + Send>,
    must_hurt: bool,
}

/// What a wire can do.
fn blows_of(line: Line) -> Vec<Blow> {
    let line = Arc::new(line);
    let blow = |wire| {
        let (struck, healed) = (Arc::clone(&line), Arc::clone(&line));
        Blow {
            name: format!("{wire:?}"),
            strike: Box::new(move || struck.set(wire)),
            heal: Box::new(move || healed.set(Wire::Whole)),
            must_hurt: wire != Wire::Slow,
        }
    };
    [Wire::Cut, Wire::Stuck, Wire::Slow].map(blow).into()
}

/// A server that is stopped and started again.
fn restarts<S: Send + Sync + 'static>(server: S, stop: fn(&S), start: fn(&S)) -> Vec<Blow> {
    let server = Arc::new(server);
    let struck = Arc::clone(&server);
    vec![Blow {
        name: "stopped".to_owned(),
        strike: Box::new(move || stop(&struck)),
        heal: Box::new(move || start(&server)),
        must_hurt: true,
    }]
}

async fn outages(blows: Vec<Blow>, variables: Vec<(&str, String)>) {
    let load = Load::start(variables).await;
    let mut clients = JoinSet::new();
    for client in 0..WRITERS {
        clients.spawn(Arc::clone(&load).write(client));
    }
    for client in WRITERS..WRITERS + READERS {
        clients.spawn(Arc::clone(&load).read(client));
    }
    let watched = Arc::clone(&load);
    // They come back in the end: a wire that is dropped is cut.
    let (give_back, held) = std::sync::mpsc::channel();
    clients.spawn(async move {
        for blow in blows {
            watched.progress(&watched.successes).await;
            let before = watched.failures.load(Ordering::Relaxed);
            tokio::task::block_in_place(&blow.strike);
            watched.progress(&watched.answers).await;
            let failures = watched.failures.load(Ordering::Relaxed) - before;
            assert!(failures > 0 || !blow.must_hurt, "{}: no effect", blow.name);
            tokio::task::block_in_place(&blow.heal);
            give_back.send(blow).unwrap();
        }
        watched.progress(&watched.successes).await;
        watched.is_over.store(true, Ordering::Relaxed);
    });
    // Who finds something wrong ends the test at once.
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    let acknowledged = load.acknowledged.lock().clone();
    for package in acknowledged {
        let tarball = load.registry.tarball(&package).await.assert(200);
        assert!(tarball.body == package.tarball, "other bytes");
        let path = format!("/{}/{}", package.name.replace('/', "%2f"), package.version);
        load.registry.get(&path).await.assert(200);
    }
    drop(held);
}

/// A wire to the server in `url`, and the same URL over it.
async fn over_a_wire(url: &str) -> (Line, String) {
    let parsed = url::Url::parse(url).unwrap();
    let address = format!("{}:{}", parsed.host().unwrap(), parsed.port().unwrap());
    let line = Line::to(&format!("http://{address}")).await;
    let own = line.url.split_once("//").unwrap().1;
    let url = url.replace(&address, own);
    (line, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_store() {
    let line = Line::to(&s3_endpoint()).await;
    let variables = s3_at(&line.url);
    outages(blows_of(line), variables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_store_that_restarts() {
    let server = bucket::server();
    let variables = s3_at(&server.url);
    let blows = restarts(server, Server::pause, Server::resume);
    outages(blows, variables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_database_that_restarts() {
    let server = postgres::server();
    let mut variables = s3_at(&s3_endpoint());
    variables.extend(postgres::variables(&server.url));
    let blows = restarts(server, Server::pause, Server::resume);
    outages(blows, variables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_store_beside_a_database() {
    let line = Line::to(&s3_endpoint()).await;
    let mut variables = s3_at(&line.url);
    variables.extend(postgres::variables(&postgres::schema().await));
    outages(blows_of(line), variables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_database() {
    let (line, url) = over_a_wire(&postgres::schema().await).await;
    let mut variables = s3_at(&s3_endpoint());
    variables.extend(postgres::variables(&url));
    outages(blows_of(line), variables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_redis() {
    let (line, url) = over_a_wire(&redis::url()).await;
    let mut variables = s3_at(&s3_endpoint());
    variables.extend([
        ("RUSTACCIO_STATE_COORDINATION_BACKEND", "redis".to_owned()),
        ("RUSTACCIO_STATE_COORDINATION_REDIS_URL", url),
        ("RUSTACCIO_STATE_COORDINATION_LOCK_KEY", redis::prefix()),
    ]);
    outages(blows_of(line), variables).await;
}

/// A node is told to stop while it writes, and neither Redis, which has its leases and limits, nor the
/// database, which has its manifests and quotas, says anything any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_what_hangs() {
    let (database, database_url) = over_a_wire(&postgres::schema().await).await;
    let (limits, redis_url) = over_a_wire(&redis::url()).await;
    let mut variables = s3_at(&s3_endpoint());
    variables.extend(postgres::variables(&database_url));
    variables.extend([
        ("RUSTACCIO_STATE_COORDINATION_BACKEND", "redis".to_owned()),
        ("RUSTACCIO_STATE_COORDINATION_REDIS_URL", redis_url.clone()),
        ("RUSTACCIO_STATE_COORDINATION_LOCK_KEY", redis::prefix()),
        ("RUSTACCIO_STATE_COORDINATION_LEASE_MS", "3000".to_owned()),
        ("RUSTACCIO_RATE_LIMIT_BACKEND", "redis".to_owned()),
        ("RUSTACCIO_RATE_LIMIT_REDIS_URL", redis_url),
        ("RUSTACCIO_RATE_LIMIT_FAIL_OPEN", "true".to_owned()),
        ("RUSTACCIO_QUOTA_BACKEND", "postgres".to_owned()),
        ("RUSTACCIO_QUOTA_POSTGRES_URL", database_url),
        ("RUSTACCIO_QUOTA_PUBLISHES_PER_DAY", "1000000".to_owned()),
        ("RUSTACCIO_QUOTA_FAIL_OPEN", "true".to_owned()),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let pairs: Vec<_> = variables.iter().map(|(n, v)| (*n, &**v)).collect();
    let process = Process::start(folder.path(), &pairs);
    let (url, token) = (process.url.clone(), register(&process.url).await);
    let publish = move |number: usize| {
        let package = Package::new(&format!("app-{number}"), "1.0.0");
        let body = publish_body(&package, "latest").to_string();
        let request = client().put(format!("{url}/{}", package.name));
        request.bearer_auth(&token).body(body).send()
    };
    assert_eq!(publish(0).await.unwrap().status(), 201);
    let writers: JoinSet<_> = (1..=8).map(&publish).collect();
    database.set(Wire::Stuck);
    limits.set(Wire::Stuck);
    let stopped = tokio::task::spawn_blocking(|| process.stop());
    let stopped = tokio::time::timeout(PATIENCE, stopped).await;
    let log = stopped.expect("it stops").unwrap();
    assert!(log.contains("stopped"), "{log}");
    // Those who were in the middle were answered, or found it gone.
    for answer in writers.join_all().await.into_iter().flatten() {
        let status = answer.status().as_u16();
        assert!([201, 502, 503].contains(&status), "{status}: {log}");
    }
}

async fn register(url: &str) -> String {
    let user = json!({ "name": "alice", "password": "a long password" });
    let request = client().put(format!("{url}/-/user/org.couchdb.user:alice"));
    let answer = request.body(user.to_string()).send().await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    answer["token"].as_str().unwrap().to_owned()
}
