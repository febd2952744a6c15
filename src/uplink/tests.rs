//! The uplink client against a scripted server.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::TryStreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    config::UplinkConfig, lifecycle::SystemClock, models::PackageName, telemetry::UplinkMetrics,
};

/// Answers the n-th request with the n-th text (the last one again and again), then closes.
struct Scripted {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "a server of the test's own")]
async fn scripted(answers: &[&str]) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let answers: Vec<String> = answers
        .iter()
        .map(|answer| answer.replace("SELF", &format!("http://{address}")))
        .collect();
    let counter = Arc::clone(&requests);
    let task = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let number = counter.fetch_add(1, Ordering::SeqCst);
            let answer = answers[number.min(answers.len() - 1)].clone();
            let mut request = vec![0; 4096];
            let length = socket.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
            if answer == "HANG" {
                // Until the client gives up.
                let _ = socket.read(&mut [0; 1]).await;
                continue;
            }
            let seen = if request.contains("authorization: bearer t0ken") {
                "yes"
            } else {
                "no"
            };
            let answer = answer.replace('\n', "\r\n").replace("AUTH", seen);
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    Scripted {
        address,
        requests,
        task,
    }
}

fn uplink_to(address: SocketAddr) -> Uplink {
    let url = format!("http://{address}").parse().unwrap();
    let mut config = UplinkConfig::new(url);
    config.timeout = Duration::from_millis(200);
    config.auth = Some(crate::config::UplinkAuth::Bearer("t0ken".into()));
    let allowed = [config.url.origin()].into_iter().collect();
    Uplink::new(
        "default".parse().unwrap(),
        &config,
        allowed,
        Arc::new(SystemClock),
        UplinkMetrics::default(),
    )
    .unwrap()
}

async fn ask(answers: &[&str]) -> (Result<PackumentAnswer, UplinkError>, usize) {
    let server = scripted(answers).await;
    let name: PackageName = "@s/n".parse().unwrap();
    let answer = uplink_to(server.address)
        .packument(&name, &Validators::default())
        .await;
    (answer, server.requests.load(Ordering::SeqCst))
}

fn body_of(answer: Result<PackumentAnswer, UplinkError>) -> String {
    match answer {
        Ok(PackumentAnswer::Found { body, .. }) => String::from_utf8(body.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

const OK: &str = "HTTP/1.1 200 OK\nconnection: close\netag: \"1\"\n\n{\"auth\":\"AUTH\"}";

#[tokio::test]
async fn answers_are_told_apart() {
    let (answer, _) = ask(&[OK]).await;
    assert_eq!(body_of(answer), "{\"auth\":\"yes\"}");
    for status in ["404 Not Found", "410 Gone"] {
        let text = format!("HTTP/1.1 {status}\nconnection: close\n\n");
        assert!(matches!(
            ask(&[&text]).await.0,
            Ok(PackumentAnswer::Missing)
        ));
    }
    let same = "HTTP/1.1 304 Not Modified\nconnection: close\n\n";
    assert!(matches!(
        ask(&[same]).await.0,
        Ok(PackumentAnswer::NotModified)
    ));
    let html = "HTTP/1.1 200 OK\nconnection: close\ncontent-type: text/html\n\n<html>";
    assert!(matches!(ask(&[html]).await.0, Err(UplinkError::BadBody(_))));
    let denied = "HTTP/1.1 403 Forbidden\nconnection: close\n\n";
    assert!(matches!(
        ask(&[denied]).await,
        (Err(UplinkError::BadStatus(403)), 1)
    ));
}

#[tokio::test]
async fn transient_failures_are_asked_again() {
    let broken = "HTTP/1.1 503 Service Unavailable\nconnection: close\n\n";
    let (answer, requests) = ask(&[broken, broken, OK]).await;
    assert_eq!((body_of(answer).len(), requests), (14, 3));
    let (answer, requests) = ask(&[broken]).await;
    assert!(matches!(answer, Err(UplinkError::BadStatus(503))));
    assert_eq!(requests, 3);
    let later = "HTTP/1.1 429 Slow\nretry-after: 60\nconnection: close\n\n";
    let (answer, requests) = ask(&[later]).await;
    let Err(UplinkError::RateLimited { retry_after }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!((retry_after, requests), (Some(Duration::from_secs(60)), 1));
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let (answer, _) = ask(&["HANG"]).await;
    assert!(matches!(answer, Err(UplinkError::Timeout(_))), "{answer:?}");
}

#[tokio::test]
async fn a_short_document_is_no_document() {
    let short = "HTTP/1.1 200 OK\nconnection: close\ncontent-length: 100\n\n{";
    assert!(ask(&[short]).await.0.is_err());
}

#[tokio::test]
async fn redirects_are_followed_with_care() {
    let moved = "HTTP/1.1 302 Found\nconnection: close\nlocation: SELF/elsewhere\n\n";
    assert_eq!(body_of(ask(&[moved, OK]).await.0), "{\"auth\":\"yes\"}");
    assert!(matches!(
        ask(&[moved]).await,
        (Err(UplinkError::BadRedirect), 6)
    ));
    for target in [
        "http://169.254.169.254/",
        "http://[::1]:1/",
        "file:///etc/passwd",
        "http://localhost/",
    ] {
        let text = format!("HTTP/1.1 302 Found\nconnection: close\nlocation: {target}\n\n");
        let (answer, _) = ask(&[&text]).await;
        assert!(
            matches!(answer, Err(UplinkError::Refused { .. })),
            "{target}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_truncated_tarball_ends_in_an_error() {
    let whole = "HTTP/1.1 200 OK\nconnection: close\ncontent-length: 4\n\ntgz!";
    let short = "HTTP/1.1 200 OK\nconnection: close\ncontent-length: 9\n\ntgz!";
    for (answer, is_whole) in [(whole, true), (short, false)] {
        let server = scripted(&[answer]).await;
        let url = format!("http://{}/n/-/n-1.0.0.tgz", server.address)
            .parse()
            .unwrap();
        let response = uplink_to(server.address)
            .tarball(&url)
            .await
            .unwrap()
            .unwrap();
        let bytes: Result<Vec<_>, _> = response.body.try_collect().await;
        assert_eq!(bytes.is_ok(), is_whole);
    }
}

#[tokio::test]
async fn the_breaker_spares_an_uplink_that_is_down() {
    let broken = "HTTP/1.1 500 Oops\nconnection: close\n\n";
    let server = scripted(&[broken]).await;
    let uplink = uplink_to(server.address);
    let name: PackageName = "n".parse().unwrap();
    for _ in 0..2 {
        let answer = uplink.packument(&name, &Validators::default()).await;
        assert!(matches!(answer, Err(UplinkError::BadStatus(500))));
    }
    let before = server.requests.load(Ordering::SeqCst);
    let answer = uplink.packument(&name, &Validators::default()).await;
    assert!(matches!(answer, Err(UplinkError::BreakerOpen { .. })));
    assert_eq!(server.requests.load(Ordering::SeqCst), before);
}
