//! A proxy before a registry, as nginx or a load balancer is. It remembers what it was asked for.
#![cfg_attr(
    not(feature = "test-clients"),
    expect(
        dead_code,
        reason = "without clients nothing is before a registry but TLS"
    )
)]

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, StatusCode, header};
use reqwest::Client;
use tokio::sync::{Notify, watch};

use super::{registry::client, upstream::path_of};

struct Forward {
    client: Client,
    /// It tells by forwarded headers what clients see, and not by `Host`.
    ends_tls: bool,
    target: Mutex<String>,
    asked: Mutex<Vec<String>>,
    /// What nobody may read whose path has it.
    refused: Mutex<Option<String>>,
    held: Mutex<Option<Arc<Held>>>,
}

/// Reads that wait on their way.
pub(crate) struct Held {
    part: String,
    has_come: Notify,
    may_go_on: watch::Sender<bool>,
}

impl Held {
    /// Waits until there is one.
    pub(crate) async fn comes(&self) {
        self.has_come.notified().await;
    }

    /// Lets all of them go on.
    pub(crate) fn release(&self) {
        self.may_go_on.send_replace(true);
    }
}

/// Without TLS, at an address that outlives the registry behind it; stops when dropped.
pub(crate) struct Front {
    pub(crate) url: String,
    forward: Arc<Forward>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Front {
    /// Before what is at `url`.
    pub(crate) async fn before(url: &str) -> Self {
        let (origin, path) = origin_of(url);
        let forward = Arc::new(Forward::new(origin, false));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = format!("http://{}{path}", listener.local_addr().unwrap());
        let router = Arc::clone(&forward).router();
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            url: own,
            forward,
            task,
        }
    }

    /// Leads to what is at `url` from now on.
    pub(crate) fn lead_to(&self, url: &str) {
        let (origin, _) = origin_of(url);
        origin.clone_into(&mut self.forward.target.lock().unwrap());
    }

    /// From now on, whoever reads what has `part` in its path is refused.
    pub(crate) fn refuse(&self, part: &str) {
        *self.forward.refused.lock().unwrap() = Some(part.to_owned());
    }

    /// From now on, reads of what has `part` in its path wait until they are released.
    pub(crate) fn hold(&self, part: &str) -> Arc<Held> {
        let held = Arc::new(Held {
            part: part.to_owned(),
            has_come: Notify::new(),
            may_go_on: watch::Sender::new(false),
        });
        *self.forward.held.lock().unwrap() = Some(Arc::clone(&held));
        held
    }

    /// Method and path of all requests since this was last asked.
    pub(crate) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.forward.asked.lock().unwrap())
    }
}

/// The lines of `asked` that ask for the packument of `name`.
pub(crate) fn for_document<'a>(asked: &'a [String], name: &str) -> Vec<&'a String> {
    let wanted = format!("GET {}", path_of(name));
    let is_wanted = |line: &&String| line.replace("%2F", "%2f") == wanted;
    asked.iter().filter(is_wanted).collect()
}

/// `http://host:1` and `/npm` of `http://host:1/npm`.
fn origin_of(url: &str) -> (&str, &str) {
    let from = url.find("//").unwrap() + 2;
    let end = url[from..].find('/').map_or(url.len(), |at| from + at);
    url.split_at(end)
}

/// What a proxy serves that ends TLS before the registry at `url`.
pub(crate) fn router_behind_tls(url: &str) -> Router {
    Arc::new(Forward::new(url, true)).router()
}

impl Forward {
    fn new(target: &str, ends_tls: bool) -> Self {
        Self {
            client: client(),
            ends_tls,
            target: Mutex::new(target.to_owned()),
            asked: Mutex::default(),
            refused: Mutex::default(),
            held: Mutex::default(),
        }
    }

    fn router(self: Arc<Self>) -> Router {
        Router::new().fallback(forward).with_state(self)
    }
}

async fn forward(State(forward): State<Arc<Forward>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().as_str();
    let asked = format!("{} {path}", parts.method);
    forward.asked.lock().unwrap().push(asked);
    let refused = forward.refused.lock().unwrap().clone();
    if parts.method == http::Method::GET && refused.is_some_and(|part| path.contains(&part)) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let held = forward.held.lock().unwrap().clone();
    if parts.method == http::Method::GET
        && let Some(held) = held.filter(|held| path.contains(&held.part))
    {
        held.has_come.notify_one();
        let mut may_go_on = held.may_go_on.subscribe();
        may_go_on.wait_for(|may| *may).await.unwrap();
    }
    let url = forward.target.lock().unwrap().clone();
    let mut headers = parts.headers;
    for hop in [header::CONNECTION, header::TRANSFER_ENCODING] {
        headers.remove(hop);
    }
    if forward.ends_tls {
        let host = headers.remove(header::HOST);
        let authority = parts.uri.authority();
        let host = authority.map_or(host, |authority| authority.as_str().parse().ok());
        headers.insert("x-forwarded-host", host.unwrap());
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
    }
    let sent = forward
        .client
        .request(parts.method, format!("{url}{path}"))
        .headers(headers)
        .body(reqwest::Body::wrap_stream(body.into_data_stream()));
    let Ok(answer) = sent.send().await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    let hops: [HeaderName; 2] = [header::CONNECTION, header::TRANSFER_ENCODING];
    for hop in hops {
        headers.remove(hop);
    }
    (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
}
