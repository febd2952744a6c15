//! [`TracesSender`]: sends traces to a collector.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use reqwest::Client;
use tokio::runtime::Handle;

use super::{ClientError, ClientOptions, Reach, build_client};

const CONNECT: Duration = Duration::from_secs(3);
/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(30);
/// What is read of an answer, which has nothing to say that counts.
const MAX_ANSWER: usize = 64 * 1024;

/// Sends traces, as the thread that collects them wants it.
#[derive(Clone, Debug)]
pub struct TracesSender {
    client: Client,
    runtime: Handle,
    /// Whether the last attempt failed, so that the log tells once.
    fails: Arc<AtomicBool>,
}

impl TracesSender {
    /// One whose work is done on `runtime`.
    pub fn new(runtime: Handle) -> Result<Self, ClientError> {
        let client = build_client(&ClientOptions {
            connect_timeout: CONNECT,
            read_timeout: PATIENCE,
            pool_idle_timeout: IDLE,
            pool_max_idle: 1,
            tcp_keepalive: IDLE,
            strict_ssl: true,
            ca: None,
            http_proxy: None,
            https_proxy: None,
            no_proxy: Vec::new(),
            reach: Reach::Anywhere,
        })?;
        Ok(Self {
            client,
            runtime,
            fails: Arc::default(),
        })
    }

    fn tell(&self, problem: Option<&str>) {
        let failed_before = self.fails.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(problem) if !failed_before => {
                tracing::warn!(
                    problem,
                    "the collector takes no traces; those that it misses are lost"
                );
            }
            None if failed_before => tracing::info!("the collector takes traces again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for TracesSender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        // Whoever asks has no runtime of his own.
        let sent = self.runtime.spawn(async move {
            let sent = tokio::time::timeout(PATIENCE, send(&client, request));
            sent.await
                .unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
        });
        let answer = sent.await.unwrap_or_else(|error| Err(error.to_string()));
        match answer {
            Ok(answer) => {
                let status = answer.status();
                let refused = (!status.is_success()).then(|| format!("it answered {status}"));
                self.tell(refused.as_deref());
                Ok(answer)
            }
            Err(problem) => {
                self.tell(Some(&problem));
                Err(problem.into())
            }
        }
    }
}

async fn send(client: &Client, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let text = |error: reqwest::Error| error.without_url().to_string();
    let (parts, body) = request.into_parts();
    let request = client
        .request(parts.method, parts.uri.to_string())
        .headers(parts.headers)
        .body(body);
    let mut answer = request.send().await.map_err(text)?;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        headers.extend(std::mem::take(answer.headers_mut()));
    }
    let mut read = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(text)? {
        read.extend_from_slice(&chunk);
        if read.len() > MAX_ANSWER {
            break;
        }
    }
    response
        .body(read.into())
        .map_err(|error| error.to_string())
}
