//! [`serve`]: the accept loop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use futures_util::future::join_all;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
};
use tower::ServiceExt as _;

use super::{
    listen::{Accepted, Listener},
    stall::StallGuard,
};
use crate::lifecycle::Lifecycle;

/// How long to wait after an error of `accept`, which as a rule means that there are too many open
/// files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of answers (and of a request's head) that may wait in a connection's buffer. Enough to
/// keep a fast peer busy, and little enough for thousands of slow ones.
const MAX_BUFFER: usize = 128 * 1024;

/// What connections may cost.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// How long a connection may wait for the rest of a request's head, or for the next request.
    pub keep_alive_timeout: Duration,
    /// How long a peer may take nothing of an answer.
    pub stall_timeout: Duration,
    /// Connections at the same time; further ones wait to be accepted.
    pub max_connections: usize,
}

/// Serves `router` on all `listeners` until the shutdown begins. Requests that are under way then
/// are finished by tasks of `lifecycle`.
///
/// Requests from TCP carry their peer as [`ConnectInfo`]; those from unix sockets have none.
pub async fn serve(
    listeners: Vec<Listener>,
    router: Router,
    options: ServeOptions,
    lifecycle: &Lifecycle,
) {
    let server = Arc::new(Server {
        router,
        options,
        lifecycle: lifecycle.clone(),
        room: Arc::new(Semaphore::new(options.max_connections)),
    });
    join_all(
        listeners
            .into_iter()
            .map(|listener| Arc::clone(&server).accept_all(listener)),
    )
    .await;
}

struct Server {
    router: Router,
    options: ServeOptions,
    lifecycle: Lifecycle,
    room: Arc<Semaphore>,
}

impl Server {
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
                    self.lifecycle.spawn(async move {
                        server.connection(accepted).await;
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

    async fn connection(&self, accepted: Accepted) {
        match accepted {
            Accepted::Tcp(stream, peer) => self.requests(stream, Some(peer)).await,
            Accepted::Unix(stream) => self.requests(stream, None).await,
        }
    }

    async fn requests<T>(&self, stream: T, peer: Option<SocketAddr>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|mut request: Request<Incoming>| {
            if let Some(peer) = peer {
                request.extensions_mut().insert(ConnectInfo(peer));
            }
            self.router.clone().oneshot(request)
        });
        let stream = StallGuard::new(stream, self.options.stall_timeout);
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
        if let Err(error) = ended {
            tracing::debug!(error = &error as &dyn std::error::Error, "connection ended");
        }
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
