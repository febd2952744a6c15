//! [`CompanyService`]: a company's own service, asked on behalf of a request: for accounts here, and
//! by `policy` for decisions.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use url::Url;

use crate::{
    net::{ClientError, Service, ServiceAnswer, ServiceError},
    telemetry::{Backend, Metrics, pass_trace_on},
};

/// How often its time for one answer it may take for all questions that a list comes to.
const LIST_ANSWERS: u32 = 2;

/// A service that is told which request it is asked for, and in which trace; how long it takes is
/// counted.
#[derive(Clone, Debug)]
pub struct CompanyService {
    service: Service,
    backend: Backend,
    list_limit: Duration,
    metrics: Metrics,
}

impl CompanyService {
    /// The service at `base`, which has `timeout` for a whole answer, and is counted as `backend`.
    pub fn new(
        base: &Url,
        timeout: Duration,
        backend: Backend,
        metrics: Metrics,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            service: Service::new(base, timeout)?,
            backend,
            list_limit: timeout.saturating_mul(LIST_ANSWERS),
            metrics,
        })
    }

    /// How long a request may wait for the answers about all packages of its lists.
    pub fn list_limit(&self) -> Duration {
        self.list_limit
    }

    /// Sends a `question` to `endpoint`. It is written already, so that nothing of the request is
    /// borrowed: others who want to know the same wait for this answer too.
    pub fn ask(
        &self,
        endpoint: &str,
        question: serde_json::Result<Vec<u8>>,
        request_id: &Arc<str>,
    ) -> impl Future<Output = Result<ServiceAnswer, ServiceError>> + Send + use<> {
        let (own, endpoint) = (self.clone(), endpoint.to_owned());
        let request_id = Arc::clone(request_id);
        let mut headers = HeaderMap::new();
        pass_trace_on(&mut headers);
        async move {
            let id = Some(&*request_id).filter(|id| !id.is_empty());
            let begun = Instant::now();
            let asked = own.service.ask(&endpoint, question?.into(), id, headers);
            let answer = asked.await;
            own.metrics.backend_took(own.backend, begun.elapsed());
            answer
        }
    }
}
