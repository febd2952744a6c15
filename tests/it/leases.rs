//! Nodes that take turns at writing: what a backend that fails means.

use crate::support::{Package, Registry};

/// Nobody is there.
const GONE: (&str, &str) = (
    "RUSTACCIO_STATE_COORDINATION_REDIS_URL",
    "redis://127.0.0.1:9/",
);
const BACKEND: (&str, &str) = ("RUSTACCIO_STATE_COORDINATION_BACKEND", "redis");

#[tokio::test]
async fn a_backend_that_is_gone_is_put_up_with_or_not() {
    let package = Package::new("app", "1.0.0");
    let registry = Registry::start(&[BACKEND, GONE]).await;
    let alice = registry.user("alice").await;
    let refused = registry.publish(&alice, &package).await.assert(502);
    assert_eq!(refused.error(), "state coordination backend unavailable");
    registry.get("/app").await.assert(404);

    let fail_open = ("RUSTACCIO_STATE_COORDINATION_FAIL_OPEN", "true");
    let registry = Registry::start(&[BACKEND, GONE, fail_open]).await;
    let alice = registry.user("alice").await;
    registry.publish(&alice, &package).await.assert(201);
    registry.get("/app").await.assert(200);
}

#[cfg(feature = "test-services")]
mod redis_server {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::TcpStream,
    };

    use super::*;

    /// Says something to Redis, in one line.
    fn say(url: &str, line: &str) -> String {
        let address = url.trim_start_matches("redis://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer
    }

    #[tokio::test]
    async fn a_writer_waits_for_his_turn() {
        let url = std::env::var("RUSTACCIO_REDIS_IT_URL")
            .expect("RUSTACCIO_REDIS_IT_URL is not set; run this through ./scripts/test");
        let prefix = format!("rustaccio-it:{}", std::process::id());
        let registry = Registry::start(&[
            BACKEND,
            ("RUSTACCIO_STATE_COORDINATION_REDIS_URL", &url),
            ("RUSTACCIO_STATE_COORDINATION_LOCK_KEY", &prefix),
            ("RUSTACCIO_STATE_COORDINATION_ACQUIRE_TIMEOUT_MS", "1000"),
        ])
        .await;
        let alice = registry.user("alice").await;
        let key = format!("{prefix}:package:_s_app");
        let package = Package::new("@s/app", "1.0.0");
        assert_eq!(say(&url, &format!("SET {key} other PX 600000")), "+OK\r\n");
        let refused = registry.publish(&alice, &package).await.assert(503);
        assert_eq!(refused.error(), "state coordination lock timeout");
        assert_eq!(say(&url, &format!("DEL {key}")), ":1\r\n");
        registry.publish(&alice, &package).await.assert(201);
        // Given up, not left to run out.
        drop(registry);
        assert_eq!(say(&url, &format!("GET {key}:fence")), "$1\r\n");
    }
}
