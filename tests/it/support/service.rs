//! A company's own service under the test's control (accounts, decisions, a sink of events): it
//! records what it is asked, and answers well, late, with garbage, without end or not at all.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use tokio::sync::watch;

/// What the service does with a question.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status and JSON.
    Json(u16, Value),
    /// A status and these bytes, which need not be JSON.
    Bytes(u16, Vec<u8>),
    /// JSON after a while.
    Late(Duration, u16, Value),
    /// Status 200 and a body that does not end.
    Endless,
    /// Nothing, for as long as somebody waits.
    Never,
    /// The connection breaks off in the middle of an answer.
    Cut,
}

/// One question that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With its query, if it has one.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

type Play = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

struct Stage {
    play: Mutex<Play>,
    asked: Mutex<Vec<Asked>>,
    count: watch::Sender<usize>,
}

/// A service on a port of its own; it ends when dropped.
pub(crate) struct Service {
    pub(crate) url: String,
    address: std::net::SocketAddr,
    stage: Arc<Stage>,
    task: tokio::task::JoinHandle<()>,
}

impl Service {
    /// One that does with each question what `play` says.
    pub(crate) async fn start(play: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let stage = Arc::new(Stage {
            play: Mutex::new(Arc::new(play)),
            asked: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = listen(listener, &stage);
        Self {
            url: format!("http://{address}"),
            address,
            stage,
            task,
        }
    }

    /// One that always does the same.
    pub(crate) async fn replying(reply: Reply) -> Self {
        Self::start(move |_| reply.clone()).await
    }

    /// From now on it does what `play` says.
    pub(crate) fn plays(&self, play: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
        *self.stage.play.lock().unwrap() = Arc::new(play);
    }

    /// From now on it always does the same.
    pub(crate) fn replies(&self, reply: Reply) {
        self.plays(move |_| reply.clone());
    }

    /// All questions so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.stage.asked.lock().unwrap().clone()
    }

    /// The bodies of the questions to a path, as JSON.
    pub(crate) fn bodies(&self, path: &str) -> Vec<Value> {
        let asked = self.asked();
        let there = asked.iter().filter(|asked| asked.path == path);
        there.map(Asked::json).collect()
    }

    /// How many questions came to a path.
    pub(crate) fn count(&self, path: &str) -> usize {
        let asked = self.stage.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.path == path).count()
    }

    /// Forgets the questions so far.
    pub(crate) fn forget(&self) {
        self.stage.asked.lock().unwrap().clear();
    }

    /// Waits until `is_enough` of the questions so far.
    pub(crate) async fn wait_for(&self, is_enough: impl Fn(&[Asked]) -> bool) -> Vec<Asked> {
        let mut count = self.stage.count.subscribe();
        let enough = async {
            loop {
                count.borrow_and_update();
                let asked = self.asked();
                if is_enough(&asked) {
                    return asked;
                }
                count.changed().await.unwrap();
            }
        };
        let enough = tokio::time::timeout(Duration::from_secs(30), enough).await;
        enough.unwrap_or_else(|_| panic!("it was only asked {:#?}", self.asked()))
    }

    /// It is down: from now on connections are refused, and those that were are broken off.
    pub(crate) async fn stop(&mut self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// It is there again, at the same address.
    pub(crate) async fn restart(&mut self) {
        let listener = tokio::net::TcpListener::bind(self.address).await.unwrap();
        self.task = listen(listener, &self.stage);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Its connections end with the task, unlike those of `axum::serve`.
fn listen(listener: tokio::net::TcpListener, stage: &Arc<Stage>) -> tokio::task::JoinHandle<()> {
    let router = Router::new().fallback(answer).with_state(Arc::clone(stage));
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            connections.spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new();
                let _ = connection.serve_connection(io, service).await;
            });
        }
    })
}

async fn answer(State(stage): State<Arc<Stage>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await;
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: body.unwrap_or_default().to_vec(),
    };
    let play = Arc::clone(&stage.play.lock().unwrap());
    let reply = play(&asked);
    stage.asked.lock().unwrap().push(asked);
    stage.count.send_modify(|count| *count += 1);
    match reply {
        Reply::Json(status, body) => json(status, &body),
        Reply::Bytes(status, body) => (status_of(status), body).into_response(),
        Reply::Late(delay, status, body) => {
            tokio::time::sleep(delay).await;
            json(status, &body)
        }
        Reply::Endless => {
            let chunk = bytes::Bytes::from(vec![b' '; 64 * 1024]);
            let chunks =
                futures_util::stream::repeat_with(move || Ok::<_, Infallible>(chunk.clone()));
            Body::from_stream(chunks).into_response()
        }
        Reply::Never => std::future::pending().await,
        Reply::Cut => {
            let parts = [Ok("{\"allowed\":"), Err(std::io::Error::other("cut"))];
            Body::from_stream(futures_util::stream::iter(parts)).into_response()
        }
    }
}

fn json(status: u16, body: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (status_of(status), headers, body.to_string()).into_response()
}

fn status_of(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap()
}
