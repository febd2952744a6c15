//! An upstream registry under the test's control: it counts what it is asked, and can be slow, cut
//! answers short, lie and fall over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::Package;

type Play = Arc<dyn Fn(HeaderMap) -> BoxFuture<'static, Response> + Send + Sync>;

#[derive(Default)]
struct Stage {
    /// What to do for a path; with `%2f` for the slash of a scope.
    plays: HashMap<String, Play>,
    asked: HashMap<String, usize>,
    seen: Vec<(String, HeaderMap)>,
    bodies: Vec<(String, Vec<u8>)>,
}

/// A registry on a port of its own.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) url: String,
    stage: Arc<Mutex<Stage>>,
    task: Arc<Task>,
}

struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let stage: Arc<Mutex<Stage>> = Arc::default();
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&stage));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            url,
            stage,
            task: Arc::new(Task(task)),
        }
    }

    /// Ends it: from now on connections are refused.
    pub(crate) async fn stop(self) {
        let task = Arc::into_inner(self.task).expect("nobody else uses it");
        task.0.abort();
        while !task.0.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// Serves these versions of one package, with their tarballs.
    pub(crate) fn has(&self, packages: &[&Package]) {
        let document = self.document(packages);
        self.answers(&path_of(&packages[0].name), &document);
        for package in packages {
            self.has_tarball(package, package.tarball.clone());
        }
    }

    /// The packument of these versions.
    pub(crate) fn document(&self, packages: &[&Package]) -> Value {
        let first = packages[0];
        let mut document = json!({
            "_id": first.name,
            "name": first.name,
            "dist-tags": { "latest": packages.last().unwrap().version },
            "versions": {},
            "time": {
                "created": "2020-01-01T00:00:00.000Z",
                "modified": "2021-01-01T00:00:00.000Z",
            },
        });
        for package in packages {
            document["versions"][&package.version] = package.version_object(&self.url);
            document["time"][&package.version] = json!("2020-06-01T00:00:00.000Z");
        }
        document
    }

    /// Serves `bytes` where the tarball of `package` is.
    pub(crate) fn has_tarball(&self, package: &Package, bytes: Vec<u8>) {
        let path = format!("/{}/-/{}", package.name, package.file());
        let bytes = bytes::Bytes::from(bytes);
        self.plays(&path, move |_| {
            let bytes = bytes.clone();
            async move { Body::from(bytes).into_response() }
        });
    }

    /// Serves a document, with an `ETag`.
    pub(crate) fn answers(&self, path: &str, document: &Value) {
        let body = serde_json::to_vec(document).unwrap();
        let etag = format!("\"{:x}\"", md5ish(&body));
        self.plays(path, move |headers| {
            let (body, etag) = (body.clone(), etag.clone());
            async move {
                let known = headers.get(header::IF_NONE_MATCH);
                if known.is_some_and(|known| *known == etag) {
                    return StatusCode::NOT_MODIFIED.into_response();
                }
                let headers = [
                    (header::CONTENT_TYPE, "application/json".to_owned()),
                    (header::ETAG, etag),
                ];
                (headers, body).into_response()
            }
        });
    }

    /// Serves a bare status.
    pub(crate) fn fails(&self, path: &str, status: u16) {
        let status = StatusCode::from_u16(status).unwrap();
        self.plays(path, move |_| async move { status.into_response() });
    }

    pub(crate) fn plays<F>(&self, path: &str, play: impl Fn(HeaderMap) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let play: Play = Arc::new(move |headers| Box::pin(play(headers)));
        let mut stage = self.stage.lock().unwrap();
        stage.plays.insert(path.to_owned(), play);
    }

    /// Answers 404 from now on.
    pub(crate) fn forgets(&self, path: &str) {
        self.stage.lock().unwrap().plays.remove(path);
    }

    /// How often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        let stage = self.stage.lock().unwrap();
        stage.asked.get(path).copied().unwrap_or_default()
    }

    /// The headers of all requests, with their paths.
    pub(crate) fn seen(&self) -> Vec<(String, HeaderMap)> {
        self.stage.lock().unwrap().seen.clone()
    }
}

impl Upstream {
    /// The bodies that were sent to a path, as JSON.
    pub(crate) fn sent(&self, path: &str) -> Vec<Value> {
        let stage = self.stage.lock().unwrap();
        let sent = stage.bodies.iter().filter(|(to, _)| to == path);
        sent.map(|(_, body)| serde_json::from_slice(body).unwrap())
            .collect()
    }
}

/// Where a packument is asked for.
pub(crate) fn path_of(name: &str) -> String {
    format!("/{}", name.replace('/', "%2f"))
}

fn md5ish(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher as _};

    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

async fn answer(State(stage): State<Arc<Mutex<Stage>>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let headers = request.headers().clone();
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await;
    let body = body.unwrap_or_default().to_vec();
    let play = {
        let mut stage = stage.lock().unwrap();
        *stage.asked.entry(path.clone()).or_default() += 1;
        stage.seen.push((path.clone(), headers.clone()));
        if !body.is_empty() {
            stage.bodies.push((path.clone(), body));
        }
        stage.plays.get(&path.replace("%2F", "%2f")).cloned()
    };
    match play {
        Some(play) => play(headers).await,
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
