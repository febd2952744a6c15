//! Real connections to a real server.

use std::{io, net::SocketAddr, time::Duration};

use axum::{Extension, Router, body::Body, extract::ConnectInfo, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::mpsc,
    task::JoinHandle,
};

use super::{ServeOptions, bind, serve};
use crate::{config::ListenAddress, lifecycle::Lifecycle, telemetry::Connections};

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(30);

fn local() -> ListenAddress {
    ListenAddress::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 0,
        tls: None,
    }
}

struct Running {
    lifecycle: Lifecycle,
    address: SocketAddr,
    task: JoinHandle<()>,
}

async fn start(router: Router, keep_alive: Duration, stall: Duration) -> Running {
    let lifecycle = Lifecycle::new();
    let listeners = bind(&[local()], None).await.unwrap();
    let address = listeners[0].tcp_address().unwrap();
    let options = ServeOptions {
        keep_alive_timeout: keep_alive,
        stall_timeout: stall,
        max_connections: 100,
        connections: Connections::default(),
    };
    let token = lifecycle.clone();
    let task =
        lifecycle.spawn_untracked(async move { serve(listeners, router, options, &token).await });
    Running {
        lifecycle,
        address,
        task,
    }
}

fn hello() -> Router {
    Router::new().route(
        "/",
        get(
            |peer: Option<Extension<ConnectInfo<SocketAddr>>>| async move {
                peer.map_or_else(|| "unix".to_owned(), |peer| peer.0.0.ip().to_string())
            },
        ),
    )
}

async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), close: bool) -> String {
    let connection = if close { "close" } else { "keep-alive" };
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    if close {
        stream.read_to_end(&mut answer).await.unwrap();
    } else {
        while !answer.ends_with(b"127.0.0.1") {
            answer.push(stream.read_u8().await.unwrap());
        }
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn tells_who_asks() {
    let server = start(hello(), LONG, LONG).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert!(ask(&mut stream, true).await.ends_with("127.0.0.1"));
}

#[tokio::test]
async fn unix_sockets_replace_dead_ones_and_respect_live_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let addresses = [ListenAddress::Unix(path.clone()), local()];
    let listeners = bind(&addresses, None).await.unwrap();
    let refused = bind(&addresses, None).await.unwrap_err().to_string();
    assert!(refused.contains("another program"), "{refused}");
    let lifecycle = Lifecycle::new();
    let token = lifecycle.clone();
    let options = ServeOptions {
        keep_alive_timeout: LONG,
        stall_timeout: LONG,
        max_connections: 1,
        connections: Connections::default(),
    };
    let task =
        lifecycle.spawn_untracked(async move { serve(listeners, hello(), options, &token).await });
    let mut stream = UnixStream::connect(&path).await.unwrap();
    assert!(ask(&mut stream, true).await.ends_with("unix"));
    lifecycle.begin_shutdown();
    task.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_is_not_mistaken_for_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::File::create(&path).unwrap();
    let error = bind(&[ListenAddress::Unix(path.clone())], None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert!(path.exists());
}

#[tokio::test]
async fn a_taken_port_says_what_to_do() {
    let first = bind(&[local()], None).await.unwrap();
    let taken = ListenAddress::Tcp {
        host: "127.0.0.1".to_owned(),
        port: first[0].tcp_address().unwrap().port(),
        tls: None,
    };
    let error = bind(&[taken], None).await.unwrap_err().to_string();
    assert!(
        error.contains("RUSTACCIO_BIND") && error.contains("another program"),
        "{error}"
    );
}

#[tokio::test]
async fn slow_heads_and_idle_connections_are_closed() {
    let server = start(hello(), SHORT, LONG).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    ask(&mut idle, false).await;
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    rest.clear();
    idle.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_dropped() {
    let (sender, mut dropped) = mpsc::unbounded_channel::<()>();
    let endless = Router::new().route(
        "/",
        get(move || {
            let sender = sender.clone();
            let piece = bytes::Bytes::from(vec![0; 1 << 20]);
            let pieces = futures_util::stream::unfold((sender, piece), |(sender, piece)| async {
                Some((Ok::<_, io::Error>(piece.clone()), (sender, piece)))
            });
            async move { Body::from_stream(pieces) }
        }),
    );
    let server = start(endless, LONG, SHORT).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    // The router holds one sender; the body's is dropped with the connection.
    server.lifecycle.begin_shutdown();
    server.task.await.unwrap();
    assert!(server.lifecycle.drain(LONG).await);
    assert!(dropped.recv().await.is_none());
}

#[tokio::test]
async fn shutdown_lets_requests_finish() {
    let (started, mut has_started) = mpsc::unbounded_channel();
    let (release, released) = tokio::sync::watch::channel(false);
    let router = Router::new().route(
        "/",
        get(move || {
            started.send(()).unwrap();
            let mut released = released.clone();
            async move {
                released.wait_for(|released| *released).await.unwrap();
                "done"
            }
        }),
    );
    let server = start(router, LONG, LONG).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let idle = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    has_started.recv().await.unwrap();
    server.lifecycle.begin_shutdown();
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
    release.send(true).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("done") && answer.contains("connection: close"));
    assert!(server.lifecycle.drain(LONG).await);
    drop(idle);
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let (started, mut has_started) = mpsc::unbounded_channel();
    let router = Router::new().route(
        "/",
        get(move || {
            started.send(()).unwrap();
            std::future::pending::<&'static str>()
        }),
    );
    let server = start(router, LONG, LONG).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    has_started.recv().await.unwrap();
    server.lifecycle.stop_now();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "");
}
