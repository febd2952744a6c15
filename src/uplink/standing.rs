//! [`Standing`]: how an uplink does, for those who look after it. The last answer and the last failure are
//! remembered, and nothing else.

use std::{error::Error, sync::Arc, time::Duration};

use parking_lot::Mutex;
use url::Url;

use super::UplinkError;
use crate::{
    lifecycle::SharedClock,
    models::{Timestamp, UplinkName},
    telemetry::{Asked, UplinkMetrics},
};

/// How an uplink does.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its name.
    pub name: UplinkName,
    /// Its address, without credentials.
    pub address: String,
    /// About how many kinds of questions it is left alone now, after repeated failures.
    pub left_alone: usize,
    /// The last answer.
    pub answered: Option<Answered>,
    /// The last failure.
    pub failed: Option<Failed>,
}

/// A question that was answered, be it that there is no such thing.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// When.
    pub at: Timestamp,
    /// How long it took; of tarballs, until their bytes began.
    pub took: Duration,
}

/// A question that was not answered.
#[derive(Clone, Debug)]
pub struct Failed {
    /// When.
    pub at: Timestamp,
    /// Why, without addresses.
    pub why: String,
}

/// What becomes of questions to one uplink, for whoever counts them and for its [`Standing`]. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    metrics: UplinkMetrics,
    clock: SharedClock,
    last: Arc<Mutex<Last>>,
}

#[derive(Debug, Default)]
struct Last {
    answered: Option<Answered>,
    failed: Option<(Timestamp, UplinkError)>,
}

impl Record {
    pub(super) fn new(metrics: UplinkMetrics, clock: SharedClock) -> Self {
        Self {
            metrics,
            clock,
            last: Arc::default(),
        }
    }

    /// It was answered.
    pub(super) fn answered(&self, took: Duration) {
        self.metrics.asked(Asked::Answered, Some(took));
        let at = self.clock.now();
        self.last.lock().answered = Some(Answered { at, took });
    }

    /// It was not; one that was not even asked took no time.
    pub(super) fn failed(&self, error: &UplinkError, took: Option<Duration>) {
        self.metrics.asked(error.kind(), took);
        // Why it is left alone was said before.
        if !matches!(error, UplinkError::BreakerOpen { .. }) {
            self.last.lock().failed = Some((self.clock.now(), error.clone()));
        }
    }

    /// About so many kinds of questions the uplink is left alone now.
    pub(super) fn breakers_open(&self, count: usize) {
        self.metrics.breakers_open(count);
    }

    pub(super) fn standing(&self, name: &UplinkName, base: &Url, left_alone: usize) -> Standing {
        let last = self.last.lock();
        Standing {
            name: name.clone(),
            address: without_credentials(base),
            left_alone,
            answered: last.answered,
            failed: last.failed.as_ref().map(|(at, error)| Failed {
                at: *at,
                why: why(error),
            }),
        }
    }
}

/// Whatever of an address may be a secret is left out.
fn without_credentials(base: &Url) -> String {
    let origin = base.origin().ascii_serialization();
    format!("{origin}{}", base.path())
}

/// The error and what is at its bottom. Between them are addresses, which may hold secrets.
fn why(error: &UplinkError) -> String {
    let mut deepest: Option<&(dyn Error + 'static)> = None;
    let mut next = error.source();
    while let Some(cause) = next {
        deepest = Some(cause).filter(|cause| !cause.is::<reqwest::Error>());
        next = cause.source();
    }
    match deepest {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_no_secret() {
        let url = "https://me:secret@npm.example:8443/a/b?key=secret#secret";
        let shown = without_credentials(&url.parse().unwrap());
        assert_eq!(shown, "https://npm.example:8443/a/b");
    }

    #[tokio::test]
    async fn a_failure_says_why_and_not_where() {
        // Nobody listens there: it was let go of.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let asked = client.get(format!("http://{address}/?key=secret")).send();
        let error = UplinkError::from_reqwest(asked.await.unwrap_err());
        let why = why(&error);
        assert!(why.starts_with("connection failed: "), "{why}");
        assert!(!why.contains("secret"), "{why}");
        assert_eq!(super::why(&UplinkError::BadStatus(500)), "status 500");
    }
}
