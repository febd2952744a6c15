//! [`Uplink`]: one upstream registry, asked politely and never trusted.

mod direct;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use reqwest::{Client, Response};
use secrecy::ExposeSecret as _;
use url::{Host, Origin, Url};

pub use direct::DirectAnswer;

use super::{
    UplinkError,
    body::{counted, decode, read_document, read_encoded},
    breaker::{Breaker, Trial},
    standing::{Record, Standing},
};
use crate::{
    config::{UplinkAuth, UplinkConfig},
    lifecycle::{Hops, RequestId, SharedClock, elsewhere, jittered},
    models::{ContentCoding, PackageName, UplinkName, parse_http_date},
    net::{ClientError, ClientOptions, Reach, build_client, has_public_addresses, is_public},
    telemetry::{UplinkMetrics, pass_trace_on},
};

/// The largest packument in decoded bytes; the largest real one has about 50 MB.
const MAX_PACKUMENT: u64 = 128 * 1024 * 1024;
/// The largest of all other documents in decoded bytes.
const MAX_DOCUMENT: u64 = 16 * 1024 * 1024;
const MAX_REDIRECTS: usize = 5;
const MAX_ATTEMPTS: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Longer waits are left to the client.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(2);

/// What is known of a document that is already here.
#[derive(Clone, Debug, Default)]
pub struct Validators {
    /// Its `ETag`.
    pub etag: Option<String>,
    /// Its `Last-Modified`.
    pub last_modified: Option<String>,
}

/// The answer to a question for a packument.
#[derive(Debug)]
pub enum PackumentAnswer {
    /// What is here is current.
    NotModified,
    /// The document, to be decoded by [`decode_packument`].
    Found {
        /// The document as it came.
        body: Bytes,
        /// How it is compressed.
        coding: ContentCoding,
        /// What to ask with next time.
        validators: Validators,
    },
    /// Upstream has no such package.
    Missing,
}

/// The packument that came as `body`: at most 128 MiB, an object as far as its first byte tells.
/// Blocks for milliseconds where it is large.
pub fn decode_packument(body: &Bytes, coding: ContentCoding) -> Result<Bytes, UplinkError> {
    decode(body, coding, MAX_PACKUMENT)
}

/// The bytes of a tarball; an error where they stop before the announced length.
pub type TarballBody = stream::BoxStream<'static, Result<Bytes, UplinkError>>;

/// The answer to a question for a tarball.
pub struct TarballResponse {
    /// Its length in bytes, if it was announced.
    pub length: Option<u64>,
    /// Its bytes.
    pub body: TarballBody,
}

/// One upstream registry.
#[derive(Debug)]
pub struct Uplink {
    name: UplinkName,
    base: Url,
    maxage: Duration,
    keeps_tarballs: bool,
    own_headers: HeaderMap,
    trusted: Client,
    guarded: Client,
    has_proxies: bool,
    allowed: Arc<[Origin]>,
    max_tarball: u64,
    /// For packuments and tarballs.
    breaker: Arc<Breaker>,
    /// For everything else, by route: an uplink whose audits fail has packages all the same, and
    /// the other way round.
    side_breakers: Mutex<HashMap<String, Arc<Breaker>>>,
    new_breaker: NewBreaker,
    record: Record,
}

/// How breakers are made.
#[derive(Clone, Debug)]
struct NewBreaker {
    clock: SharedClock,
    max_fails: u32,
    fail_timeout: Duration,
    record: Record,
}

impl NewBreaker {
    fn make(&self) -> Arc<Breaker> {
        Arc::new(Breaker::new(
            Arc::clone(&self.clock),
            self.max_fails,
            self.fail_timeout,
            self.record.clone(),
        ))
    }
}

impl Uplink {
    /// A client for the uplink `name`. Addresses of `allowed` origins may be private.
    pub fn new(
        name: UplinkName,
        config: &UplinkConfig,
        allowed: Arc<[Origin]>,
        clock: SharedClock,
        metrics: UplinkMetrics,
    ) -> Result<Self, ClientError> {
        let options = |reach| ClientOptions {
            connect_timeout: config.connect_timeout,
            read_timeout: config.timeout,
            pool_idle_timeout: config.pool_idle_timeout,
            pool_max_idle: config.pool_max_idle,
            tcp_keepalive: config.tcp_keepalive,
            strict_ssl: config.strict_ssl,
            ca: config.ca.clone(),
            http_proxy: config.http_proxy.clone(),
            https_proxy: config.https_proxy.clone(),
            no_proxy: config.no_proxy.clone(),
            reach,
        };
        let record = Record::new(metrics, Arc::clone(&clock));
        let new_breaker = NewBreaker {
            clock,
            max_fails: config.max_fails,
            fail_timeout: config.fail_timeout,
            record: record.clone(),
        };
        let guarded = options(Reach::PublicOnly);
        Ok(Self {
            name,
            base: config.url.clone(),
            maxage: config.maxage,
            keeps_tarballs: config.cache,
            own_headers: own_headers(config),
            trusted: build_client(&options(Reach::Anywhere))?,
            guarded: build_client(&guarded)?,
            has_proxies: guarded.has_proxies(),
            allowed,
            max_tarball: config.max_tarball,
            breaker: new_breaker.make(),
            side_breakers: Mutex::default(),
            new_breaker,
            record,
        })
    }

    /// The uplink's name.
    pub fn name(&self) -> &UplinkName {
        &self.name
    }

    /// How long its documents are fresh.
    pub fn maxage(&self) -> Duration {
        self.maxage
    }

    /// Whether its tarballs are kept on disk.
    pub fn keeps_tarballs(&self) -> bool {
        self.keeps_tarballs
    }

    /// Asks for the full packument of `name`; the abbreviated one lacks `time`.
    #[tracing::instrument(name = "uplink.packument", skip_all, fields(uplink.name = %self.name, package.name = %name))]
    pub async fn packument(
        &self,
        name: &PackageName,
        validators: &Validators,
    ) -> Result<PackumentAnswer, UplinkError> {
        let url = self.url_of(&name.to_path_segment())?;
        let mut headers = json_headers();
        let conditions = [
            (header::IF_NONE_MATCH, &validators.etag),
            (header::IF_MODIFIED_SINCE, &validators.last_modified),
        ];
        for (name, value) in conditions {
            if let Some(value) = value.as_deref().and_then(|v| HeaderValue::from_str(v).ok()) {
                headers.insert(name, value);
            }
        }
        self.retrying(&self.breaker, || async {
            let response = self.get(url.clone(), &headers).await?;
            match response.status() {
                StatusCode::NOT_MODIFIED => Ok(PackumentAnswer::NotModified),
                StatusCode::NOT_FOUND | StatusCode::GONE => Ok(PackumentAnswer::Missing),
                _ => {
                    let validators = Validators {
                        etag: text_of(&response, &header::ETAG),
                        last_modified: text_of(&response, &header::LAST_MODIFIED),
                    };
                    let (body, coding) = read_encoded(response, MAX_PACKUMENT).await?;
                    Ok(PackumentAnswer::Found {
                        body,
                        coding,
                        validators,
                    })
                }
            }
        })
        .await
    }

    /// Asks for a tarball at the address that a packument of this uplink gave; `None` where there
    /// is none.
    #[tracing::instrument(name = "uplink.tarball", skip_all, fields(uplink.name = %self.name, url.host = url.host_str()))]
    pub async fn tarball(&self, url: &Url) -> Result<Option<TarballResponse>, UplinkError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        let get = || self.get(url.clone(), &headers);
        let (response, trial) = self.trying(&self.breaker, get).await?;
        if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::GONE) {
            trial.succeeded();
            return Ok(None);
        }
        if response.headers().contains_key(header::CONTENT_ENCODING) {
            trial.succeeded();
            return Err(UplinkError::BadBody("a tarball with a content encoding"));
        }
        let length = response.content_length();
        if length.is_some_and(|length| length > self.max_tarball) {
            trial.succeeded();
            let limit = self.max_tarball;
            return Err(UplinkError::TooLarge { limit });
        }
        // Whether the uplink is well shows at the end of the body.
        let body = counted(response, self.max_tarball, trial).boxed();
        Ok(Some(TarballResponse { length, body }))
    }

    /// Asks for the JSON object at `path`; `None` where there is none.
    #[tracing::instrument(name = "uplink.document", skip_all, fields(uplink.name = %self.name, path))]
    pub async fn document(&self, path: &str) -> Result<Option<Bytes>, UplinkError> {
        let url = self.url_of(path)?;
        let headers = json_headers();
        let breaker = self.breaker_of(path);
        self.retrying(&breaker, || async {
            let response = self.get(url.clone(), &headers).await?;
            if is_missing(response.status()) {
                return Ok(None);
            }
            read_document(response, MAX_DOCUMENT).await.map(Some)
        })
        .await
    }

    /// Sends the JSON `body` to `path`, which must change nothing there: it may be sent again. The
    /// answer; `None` where there is no such address.
    #[tracing::instrument(name = "uplink.ask", skip_all, fields(uplink.name = %self.name, path))]
    pub async fn ask(&self, path: &str, body: &Bytes) -> Result<Option<Bytes>, UplinkError> {
        let url = self.url_of(path)?;
        let mut headers = json_headers();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let breaker = self.breaker_of(path);
        self.retrying(&breaker, || async {
            let request = Some(body.clone());
            let response = self.send(url.clone(), &headers, request).await?;
            if is_missing(response.status()) {
                return Ok(None);
            }
            read_document(response, MAX_DOCUMENT).await.map(Some)
        })
        .await
    }

    /// The address of `path` below this uplink.
    pub fn url_of(&self, path: &str) -> Result<Url, UplinkError> {
        let base = self.base.as_str().trim_end_matches('/');
        format!("{base}/{path}")
            .parse()
            .map_err(|_| UplinkError::BadBody("an unusable address"))
    }

    /// Says how many breakers are open now: time alone ends that, so that nothing else could.
    pub(crate) fn tell_breakers(&self) {
        self.record.breakers_open(self.open_breakers());
    }

    /// How it does.
    pub fn standing(&self) -> Standing {
        let left_alone = self.open_breakers();
        self.record.standing(&self.name, &self.base, left_alone)
    }

    fn open_breakers(&self) -> usize {
        let side = self.side_breakers.lock();
        let all = side.values().chain([&self.breaker]);
        all.filter(|breaker| breaker.is_open()).count()
    }

    /// The breaker of the route of `path`, which its first segments name.
    fn breaker_of(&self, path: &str) -> Arc<Breaker> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let route = path.split('/').take(4).collect::<Vec<_>>().join("/");
        let mut breakers = self.side_breakers.lock();
        let breaker = breakers
            .entry(route)
            .or_insert_with(|| self.new_breaker.make());
        Arc::clone(breaker)
    }

    /// Runs `request` behind the breaker, again after transient failures.
    async fn retrying<T, F>(
        &self,
        breaker: &Arc<Breaker>,
        request: impl Fn() -> F,
    ) -> Result<T, UplinkError>
    where
        F: Future<Output = Result<T, UplinkError>>,
    {
        let (value, trial) = self.trying(breaker, request).await?;
        trial.succeeded();
        Ok(value)
    }

    /// Like [`Uplink::retrying`], where more follows on `request` before it has succeeded.
    async fn trying<T, F>(
        &self,
        breaker: &Arc<Breaker>,
        request: impl Fn() -> F,
    ) -> Result<(T, Trial), UplinkError>
    where
        F: Future<Output = Result<T, UplinkError>>,
    {
        let refused = |retry_after| {
            let error = UplinkError::BreakerOpen { retry_after };
            self.record.failed(&error, None);
            error
        };
        let mut trial = breaker.check().map_err(refused)?;
        let mut attempt = 1;
        loop {
            let began = Instant::now();
            let asked = elsewhere(request()).await;
            let error = match asked {
                Ok(value) => {
                    self.record.answered(began.elapsed());
                    return Ok((value, trial));
                }
                Err(error) => error,
            };
            self.record.failed(&error, Some(began.elapsed()));
            let pause = match &error {
                UplinkError::RateLimited {
                    retry_after: Some(pause),
                } => *pause,
                _ => jittered(RETRY_PAUSE * attempt),
            };
            let is_last = attempt >= MAX_ATTEMPTS
                || !error.is_transient()
                || matches!(error, UplinkError::Timeout(_))
                || pause > LONGEST_RETRY_AFTER;
            if is_last {
                // One question that failed is one failure, however often it was asked.
                if error.is_trouble() {
                    trial.failed();
                } else {
                    trial.succeeded();
                }
                return Err(error);
            }
            elsewhere(tokio::time::sleep(pause)).await;
            trial = trial.again().map_err(refused)?;
            attempt += 1;
        }
    }

    async fn get(&self, url: Url, headers: &HeaderMap) -> Result<Response, UplinkError> {
        self.send(url, headers, None).await
    }

    /// Sends a `GET`, or a `POST` of `body`. Follows redirects by hand; credentials and the
    /// configured headers go to our own origin, and so does a body.
    async fn send(
        &self,
        mut url: Url,
        headers: &HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Response, UplinkError> {
        for _ in 0..=MAX_REDIRECTS {
            let client = self.client_for(&url).await?;
            let mut headers = headers.clone();
            if url.origin() == self.base.origin() {
                let hops = Hops::current();
                if let Some(hops) = hops.as_header().and_then(|h| h.parse().ok()) {
                    headers.insert(Hops::HEADER, hops);
                }
                let request = RequestId::current();
                if let Some(id) = request.as_str().and_then(|id| id.parse().ok()) {
                    headers.insert(RequestId::HEADER, id);
                }
                pass_trace_on(&mut headers);
                for (name, value) in &self.own_headers {
                    headers.insert(name, value.clone());
                }
            }
            let request = match &body {
                None => client.get(url.clone()),
                Some(_) if url.origin() != self.base.origin() => {
                    return Err(UplinkError::BadRedirect);
                }
                Some(body) => client.post(url.clone()).body(body.clone()),
            };
            let request = request.headers(headers);
            let response = request.send().await.map_err(UplinkError::from_reqwest)?;
            let status = response.status();
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                let location = text_of(&response, &header::LOCATION);
                let location = location.ok_or(UplinkError::BadRedirect)?;
                url = url.join(&location).map_err(|_| UplinkError::BadRedirect)?;
                continue;
            }
            return match status {
                StatusCode::OK
                | StatusCode::NOT_MODIFIED
                | StatusCode::NOT_FOUND
                | StatusCode::GONE => Ok(response),
                StatusCode::CREATED | StatusCode::METHOD_NOT_ALLOWED if body.is_some() => {
                    Ok(response)
                }
                StatusCode::TOO_MANY_REQUESTS => Err(UplinkError::RateLimited {
                    retry_after: retry_after(&response),
                }),
                StatusCode::LOOP_DETECTED => Err(UplinkError::Circle),
                _ => Err(UplinkError::BadStatus(status.as_u16())),
            };
        }
        Err(UplinkError::BadRedirect)
    }

    /// The client that may ask `url`: the guarded one for origins that nobody configured.
    async fn client_for(&self, url: &Url) -> Result<&Client, UplinkError> {
        let refused = || UplinkError::Refused {
            origin: url.origin().ascii_serialization(),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused());
        }
        if self.allowed.contains(&url.origin()) {
            return Ok(&self.trusted);
        }
        // Literal addresses never reach the resolver.
        let is_public = match url.host() {
            Some(Host::Ipv4(address)) => is_public(address.into()),
            Some(Host::Ipv6(address)) => is_public(address.into()),
            Some(Host::Domain(domain)) if is_localhost(domain) => false,
            // A direct connection is checked when it is made. A proxy finds the address itself.
            Some(Host::Domain(domain)) if self.has_proxies => {
                let found = has_public_addresses(domain).await;
                found.map_err(|_| UplinkError::Unresolved {
                    host: domain.to_owned(),
                })?
            }
            Some(Host::Domain(_)) => true,
            None => false,
        };
        if is_public {
            Ok(&self.guarded)
        } else {
            Err(refused())
        }
    }
}

fn is_localhost(domain: &str) -> bool {
    domain == "localhost" || domain.ends_with(".localhost")
}

fn own_headers(config: &UplinkConfig) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let authorization = match &config.auth {
        Some(UplinkAuth::Bearer(token)) => Some(format!("Bearer {}", token.expose_secret())),
        Some(UplinkAuth::Basic(token)) => Some(format!("Basic {}", token.expose_secret())),
        None => None,
    };
    if let Some(mut value) = authorization.and_then(|text| HeaderValue::from_str(&text).ok()) {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    for (name, value) in &config.headers {
        headers.insert(name, value.clone());
    }
    headers
}

fn text_of(response: &Response, name: &http::HeaderName) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// Seconds or a date (RFC 9110, section 10.2.3).
fn retry_after(response: &Response) -> Option<Duration> {
    let text = text_of(response, &header::RETRY_AFTER)?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let sent = parse_http_date(&text_of(response, &header::DATE)?)?;
    Some(Duration::from_millis(
        parse_http_date(&text)?.millis_since(sent),
    ))
}

fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([
        (header::ACCEPT, HeaderValue::from_static("application/json")),
        (header::ACCEPT_ENCODING, HeaderValue::from_static("gzip")),
    ])
}

fn is_missing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::METHOD_NOT_ALLOWED
    )
}
