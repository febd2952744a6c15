//! [`serve`]: the accept loop.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, extract::ConnectInfo};
use futures_util::future::join_all;
use http::{HeaderValue, header, uri::Scheme};
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
};
use tower::{Service, ServiceExt as _};

use super::{
    listen::{Accepted, Listener},
    stall::StallGuard,
    tls::Tls,
};
use crate::{lifecycle::Lifecycle, telemetry::Connections};

/// How long to wait after an error of `accept`, which as a rule means that there are too many open
/// files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of answers (and of a request's head) that may wait in a connection's buffer. Enough to
/// keep a fast peer busy, and little enough for thousands of slow ones.
const MAX_BUFFER: usize = 128 * 1024;

/// Requests of one HTTP/2 connection at the same time.
const MAX_STREAMS: u32 = 200;
/// How often the peer of an HTTP/2 connection is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// What connections may cost.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// How long a connection may wait for the rest of a request's head, or for the next request.
    pub keep_alive_timeout: Duration,
    /// How long a peer may take nothing of an answer.
    pub stall_timeout: Duration,
    /// Connections at the same time; further ones wait to be accepted.
    pub max_connections: usize,
    /// Where they are counted.
    pub connections: Connections,
}

/// What can be served: a router, or what stands for one.
pub trait Served:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Served for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Serves `service` on all `listeners` until the shutdown begins. Requests that are under way then
/// are finished by tasks of `lifecycle`.
///
/// Requests from TCP carry their peer as [`ConnectInfo`]; those from unix sockets have none.
pub async fn serve(
    listeners: Vec<Listener>,
    service: impl Served,
    options: ServeOptions,
    lifecycle: &Lifecycle,
) {
    let server = Arc::new(Server {
        service,
        room: Arc::new(Semaphore::new(options.max_connections)),
        options,
        lifecycle: lifecycle.clone(),
    });
    join_all(
        listeners
            .into_iter()
            .map(|listener| Arc::clone(&server).accept_all(listener)),
    )
    .await;
}

struct Server<S> {
    service: S,
    options: ServeOptions,
    lifecycle: Lifecycle,
    room: Arc<Semaphore>,
}

impl<S: Served> Server<S> {
    async fn accept_all(self: Arc<Self>, listener: Listener) {
        loop {
            let next = async {
                let room = Arc::clone(&self.room).acquire_owned().await;
                (room, listener.accept().await)
            };
            let (room, accepted) = tokio::select! {
                biased;
                () = self.lifecycle.shutdown_begun() => return,
                next = next => next,
            };
            match accepted {
                Ok(accepted) => {
                    let server = Arc::clone(&self);
                    let tls = listener.tls.clone();
                    self.lifecycle.spawn(async move {
                        server.connection(accepted, tls).await;
                        drop(room);
                    });
                }
                Err(error) if is_peers_fault(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections, trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, accepted: Accepted, tls: Option<Tls>) {
        let (limit, open) = (
            self.options.stall_timeout,
            self.options.connections.opened(),
        );
        let (stream, peer) = match accepted {
            Accepted::Tcp(stream, peer) => (stream, peer),
            Accepted::Unix(stream) => {
                let stream = StallGuard::new(stream, limit, open);
                return self.http1(stream, Origin::default()).await;
            }
        };
        let stream = StallGuard::new(stream, limit, open);
        let origin = Origin {
            peer: Some(peer),
            is_tls: tls.is_some(),
        };
        let Some(tls) = tls else {
            return self.http1(stream, origin).await;
        };
        let greeting = tokio::time::timeout(self.options.keep_alive_timeout, tls.accept(stream));
        let greeting = tokio::select! {
            greeting = greeting => greeting,
            () = self.lifecycle.shutdown_begun() => return,
        };
        match greeting {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.http2(stream, origin).await;
            }
            Ok(Ok(stream)) => self.http1(stream, origin).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS connection came about"),
            Err(_) => tracing::debug!("no TLS connection came about in time"),
        }
    }

    async fn http1<T>(self: Arc<Self>, stream: T, origin: Origin)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| Self::answer(self.service.clone(), request, origin));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.keep_alive_timeout)
            .max_buf_size(MAX_BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.lifecycle.shutdown_begun() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = self.lifecycle.must_stop() => return,
                }
            }
        };
        report(ended);
    }

    async fn http2<T>(self: Arc<Self>, stream: T, origin: Origin)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new();
        let (service, active) = (self.service.clone(), Arc::clone(&activity));
        let service = service_fn(move |request| {
            let working = active.begin();
            let answer = Self::answer(service.clone(), request, origin);
            async move {
                let answer = answer.await;
                drop(working);
                answer
            }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(MAX_BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = async {
                tokio::select! {
                    () = self.lifecycle.shutdown_begun() => {}
                    () = activity.idle_for(self.options.keep_alive_timeout) => {}
                }
            } => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = self.lifecycle.must_stop() => return,
                }
            }
        };
        report(ended);
    }

    async fn answer(
        service: S,
        mut request: Request<Incoming>,
        origin: Origin,
    ) -> Result<Response<Body>, Infallible> {
        if let Some(peer) = origin.peer {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        if origin.is_tls {
            request.extensions_mut().insert(Scheme::HTTPS);
        }
        // HTTP/2 says in the address what HTTP/1.1 says in this header.
        let host = request
            .uri()
            .authority()
            .map(|host| host.as_str().to_owned());
        if let Some(host) = host.and_then(|host| HeaderValue::try_from(host).ok()) {
            request.headers_mut().entry(header::HOST).or_insert(host);
        }
        service.oneshot(request.map(Body::new)).await
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, Default)]
struct Origin {
    peer: Option<SocketAddr>,
    is_tls: bool,
}

/// Requests of a connection that are under way, and when the last one ended.
struct Activity {
    count: AtomicUsize,
    changed: tokio::sync::Notify,
}

/// One request that is under way.
struct Working(Arc<Activity>);

impl Activity {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            count: AtomicUsize::new(0),
            changed: tokio::sync::Notify::new(),
        })
    }

    fn begin(self: &Arc<Self>) -> Working {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
        Working(Arc::clone(self))
    }

    /// Completes when nothing was under way for `span`.
    async fn idle_for(&self, span: Duration) {
        loop {
            let changed = self.changed.notified();
            if self.count.load(Ordering::SeqCst) > 0 {
                changed.await;
            } else if tokio::time::timeout(span, changed).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_one();
    }
}

fn report(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "connection ended");
    }
}

fn is_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
