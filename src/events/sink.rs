//! [`Sink`]: a service that gets all events, signed.

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use url::Url;

use super::{EventsError, Failure};
use crate::{config::EventsConfig, lifecycle::SharedClock, net::Service};

const SIGNATURE: HeaderName = HeaderName::from_static("x-rustaccio-signature");
const EVENT_ID: HeaderName = HeaderName::from_static("x-rustaccio-event-id");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Where events go.
#[derive(Debug)]
pub(super) struct Sink {
    service: Service,
    url: Url,
    secret: Option<SecretString>,
    clock: SharedClock,
}

/// An event as it is sent: each time the same bytes.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) id: String,
    pub(super) request_id: Option<String>,
    /// See [`Event::is_anybodys`](super::Event::is_anybodys).
    pub(super) is_anybodys: bool,
    pub(super) body: Bytes,
}

impl Sink {
    /// `None` where events go nowhere.
    pub(super) fn open(
        config: &EventsConfig,
        clock: &SharedClock,
    ) -> Result<Option<Self>, EventsError> {
        let Some(base) = config.base_url.as_ref().filter(|_| config.is_http) else {
            return Ok(None);
        };
        let (start, end) = (base.as_str(), &config.endpoint);
        let url = format!(
            "{}/{}",
            start.trim_end_matches('/'),
            end.trim_start_matches('/')
        );
        Ok(Some(Self {
            service: Service::new(base, config.timeout)?,
            url: url.parse().map_err(|_| EventsError::Endpoint)?,
            secret: config.secret.clone(),
            clock: clock.clone(),
        }))
    }

    pub(super) async fn deliver(&self, sent: &Sent) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, JSON);
        let mut add = |name: HeaderName, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        add(EVENT_ID, &sent.id);
        if let Some(id) = &sent.request_id {
            add(X_REQUEST_ID, id);
        }
        if let Some(secret) = &self.secret {
            let seconds = self.clock.now().unix_millis().div_euclid(1000);
            add(SIGNATURE, &signature(secret, seconds, &sent.body));
        }
        let told = self
            .service
            .tell(Method::POST, self.url.clone(), sent.body.clone(), headers);
        Failure::of(told.await)
    }
}

/// `t=<seconds>,v1=<HMAC-SHA256 of "<seconds>.<body>" in hexadecimal>`: the time is signed too, so
/// that nobody can send an old event again as a new one.
fn signature(secret: &SecretString, seconds: i64, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes());
    // A key of any length will do.
    let Ok(mut mac) = mac else {
        return String::new();
    };
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let code = hex::encode(mac.finalize().into_bytes());
    format!("t={seconds},v1={code}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret`.
    #[test]
    fn a_signature_is_one_that_others_can_make() {
        let signed = signature(&"secret".to_owned().into(), 1_700_000_000, br#"{"a":1}"#);
        assert_eq!(
            signed,
            "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686"
        );
    }
}
