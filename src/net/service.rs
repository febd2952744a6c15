//! [`Service`]: a company's own service that the registry asks over HTTP: for accounts, decisions,
//! or as a sink of events.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use url::Url;

use super::{ClientError, ClientOptions, Reach, build_client};

/// The longest that a connection may take to be made, whatever the time for an answer is.
const MAX_CONNECT: Duration = Duration::from_secs(3);
/// The largest answer in bytes; what is asked for is a few words.
const MAX_ANSWER: usize = 1024 * 1024;
/// How much is read of an answer that does not count.
const MAX_IGNORED: usize = 64 * 1024;
/// How long an idle connection is kept; less than servers keep them.
const POOL_IDLE: Duration = Duration::from_secs(30);
const POOL_MAX_IDLE: usize = 32;

/// A service that answers JSON to `POST`s of JSON.
///
/// Whatever it does, asking it takes bounded time and memory. Who asks for a request that a client
/// waits for does so within `lifecycle::elsewhere`. Clones share connections.
#[derive(Clone, Debug)]
pub struct Service {
    client: Client,
    /// Without a slash at its end.
    base: String,
    timeout: Duration,
}

/// What a service answered.
#[derive(Clone, Debug)]
pub struct ServiceAnswer {
    /// Its status, whatever it is.
    pub status: StatusCode,
    /// The whole body.
    pub body: Bytes,
}

/// A service gave no answer. The text never shows its address, which may hold credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// It did not answer in time.
    #[error("it did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// It was slow with so many questions that they took too long together.
    #[error("its answers for one request took longer than {} ms together", .0.as_millis())]
    SlowTogether(Duration),
    /// The answer is longer than anything that it could have to say.
    #[error("its answer is longer than {MAX_ANSWER} bytes")]
    TooLarge,
    /// It cannot be reached, or broke off.
    #[error("it cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The question cannot be written.
    #[error("the question cannot be written as JSON")]
    Question(#[from] serde_json::Error),
}

impl Service {
    /// The service at `base`, which has `timeout` for a whole answer.
    pub fn new(base: &Url, timeout: Duration) -> Result<Self, ClientError> {
        let client = build_client(&ClientOptions {
            connect_timeout: timeout.min(MAX_CONNECT),
            read_timeout: timeout,
            pool_idle_timeout: POOL_IDLE,
            pool_max_idle: POOL_MAX_IDLE,
            tcp_keepalive: POOL_IDLE,
            strict_ssl: true,
            ca: None,
            http_proxy: None,
            https_proxy: None,
            no_proxy: Vec::new(),
            reach: Reach::Anywhere,
        })?;
        Ok(Self {
            client,
            base: base.as_str().trim_end_matches('/').to_owned(),
            timeout,
        })
    }

    /// Sends a `question`, which is JSON, to `endpoint` (a slash is put before it where it has none),
    /// with the request's id in `x-request-id` and further `headers`.
    pub async fn ask(
        &self,
        endpoint: &str,
        question: Bytes,
        request_id: Option<&str>,
        headers: HeaderMap,
    ) -> Result<ServiceAnswer, ServiceError> {
        let url = format!("{}/{}", self.base, endpoint.trim_start_matches('/'));
        let json = HeaderValue::from_static("application/json");
        let mut request = self.client.post(url).headers(headers);
        request = request.header(header::CONTENT_TYPE, json).body(question);
        if let Some(id) = request_id {
            request = request.header("x-request-id", id);
        }
        self.exchange(request).await
    }

    /// Sends `body`, whatever it is, to just this address. Of the answer only the status counts.
    pub async fn tell(
        &self,
        method: Method,
        url: Url,
        body: Bytes,
        headers: HeaderMap,
    ) -> Result<StatusCode, ServiceError> {
        let request = self.client.request(method, url).headers(headers).body(body);
        let timeout = ServiceError::Timeout(self.timeout);
        let ends = tokio::time::Instant::now() + self.timeout;
        let answered = tokio::time::timeout_at(ends, request.send());
        let mut response = answered
            .await
            .map_err(|_| timeout)?
            .map_err(ServiceError::from_reqwest)?;
        let status = response.status();
        // The connection is of use again where a short body is read to its end.
        let mut left = MAX_IGNORED;
        while let Ok(Ok(Some(chunk))) = tokio::time::timeout_at(ends, response.chunk()).await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        Ok(status)
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<ServiceAnswer, ServiceError> {
        let asked = tokio::time::timeout(self.timeout, async {
            let response = request.send().await.map_err(ServiceError::from_reqwest)?;
            read(response).await
        });
        asked
            .await
            .unwrap_or_else(|_| Err(ServiceError::Timeout(self.timeout)))
    }
}

impl ServiceAnswer {
    /// The decision in its body: `{"allowed": true}` or `true`. Nothing, or JSON that says
    /// something else, is no opinion.
    pub fn decision(&self) -> Result<Option<bool>, serde_json::Error> {
        if self.body.trim_ascii().is_empty() {
            return Ok(None);
        }
        let body: Value = serde_json::from_slice(&self.body)?;
        Ok(body.as_bool().or_else(|| body["allowed"].as_bool()))
    }
}

async fn read(mut response: Response) -> Result<ServiceAnswer, ServiceError> {
    let status = response.status();
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(ServiceError::from_reqwest)? {
        if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
            return Err(ServiceError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(ServiceAnswer {
        status,
        body: body.freeze(),
    })
}

impl ServiceError {
    fn from_reqwest(error: reqwest::Error) -> Self {
        Self::Unreachable(error.without_url())
    }
}
