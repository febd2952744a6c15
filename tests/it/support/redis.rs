//! Redis, as `scripts/services/redis` starts it, or over TLS.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{server::Server, tls::Authority};

/// The one that all tests share; each has keys of its own.
pub(crate) fn url() -> String {
    std::env::var("RUSTACCIO_REDIS_IT_URL")
        .expect("RUSTACCIO_REDIS_IT_URL is not set; run this through ./scripts/test")
}

/// What nobody else's keys begin with.
pub(crate) fn prefix() -> String {
    format!("rustaccio-it:{}", uuid::Uuid::new_v4().simple())
}

/// Says something to Redis, in one line; the first line of its answer.
pub(crate) fn say(url: &str, line: &str) -> String {
    let address = url.trim_start_matches("redis://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer.trim_end().to_owned()
}

/// One of a test's own; after a pause there is nothing in it.
pub(crate) fn server() -> Server {
    Server::start("redis", "RUSTACCIO_REDIS_IT_URL")
}

/// One that speaks nothing but TLS; killed when dropped.
pub(crate) struct Secure {
    pub(crate) url: String,
    child: Child,
}

impl Secure {
    pub(crate) fn start(authority: &Authority) -> Self {
        let files = authority.settings();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", "0", "--tls-port"])
            .arg(address.port().to_string())
            .arg("--tls-cert-file")
            .arg(files.certificate.unwrap())
            .arg("--tls-key-file")
            .arg(files.key.unwrap())
            .arg("--tls-ca-cert-file")
            .arg(authority.file())
            .args([
                "--tls-auth-clients",
                "no",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server, which scripts/services/redis installs");
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "no answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self {
            url: format!("rediss://localhost:{}/", address.port()),
            child,
        }
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
