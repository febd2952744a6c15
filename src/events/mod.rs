//! Floor 3: what others are told of what happens here: a sink of events, Verdaccio's `notify`, and
//! the trail of audit.
//!
//! Use cases tell [`Events`] what they have done once it is stored. None of them waits for anybody.

mod attempt;
mod event;
mod notify;
mod queue;
mod sink;
mod trail;

use std::{fmt, net::IpAddr, sync::Arc};

use http::StatusCode;
use regex::Regex;
use serde::Serialize;
use serde_json::{Map, Value};

pub use attempt::{Attempt, Fact, Found, carried};
pub use event::Event;
use notify::{Hook, Publication};
use queue::{Bounds, Queue};
use sink::{Sent, Sink};
use trail::Trail;
pub use trail::{Ending, Line};

use crate::{
    config::{AuditLogConfig, EventsConfig},
    lifecycle::{Lifecycle, SharedClock},
    models::{Caller, PackageName, Timestamp},
    net::{ClientError, ServiceError},
    telemetry::Metrics,
};

/// Lanes of the sink: an event that is refused for a minute keeps a part of the packages waiting.
const LANES: usize = 4;
/// How many messages of a hook may wait.
const HOOK_CAPACITY: usize = 1000;
/// How many bytes of them: the document of a version may be large.
const HOOK_BYTES: usize = 64 * 1024 * 1024;

/// Whoever is to be told cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventsError {
    /// No address can be made of the two settings.
    #[error(
        "RUSTACCIO_EVENT_HTTP_ENDPOINT makes no address with RUSTACCIO_EVENT_HTTP_BASE_URL; give a \
         path such as `/events/registry`"
    )]
    Endpoint,
    /// There is no client for the service.
    #[error("events cannot be sent: {0}")]
    Client(#[from] ClientError),
    /// The file cannot be written.
    #[error(
        "RUSTACCIO_AUDIT_LOG_FILE = `{path}`: cannot be opened ({source}); give a file in a folder that the registry may write to"
    )]
    Trail {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// What [`Events`] are made of.
#[derive(Debug)]
pub struct EventsOptions<'a> {
    /// The sink and the hooks.
    pub events: &'a EventsConfig,
    /// The trail of audit.
    pub audit_log: &'a AuditLogConfig,
    /// The clock.
    pub clock: SharedClock,
    /// Counts what becomes of them.
    pub metrics: Metrics,
    /// What delivering belongs to.
    pub lifecycle: Lifecycle,
}

/// Tells others what happens. Cheap to clone; the default tells nobody.
#[derive(Clone, Debug, Default)]
pub struct Events(Option<Arc<Told>>);

#[derive(Debug)]
struct Told {
    clock: SharedClock,
    sink: Option<Queue>,
    hooks: Vec<(Option<Regex>, Queue)>,
    trail: Option<Trail>,
}

/// An event as the sink gets it. The contract is in docs/contracts/registry-events-v1.md.
#[derive(Debug, Serialize)]
struct Envelope<'a> {
    event_id: &'a str,
    event_type: &'a str,
    occurred_at: Timestamp,
    actor: Option<&'a str>,
    address: Option<IpAddr>,
    package: Option<&'a str>,
    request_id: Option<&'a str>,
    tenant: Tenant<'a>,
    attributes: &'a Map<String, Value>,
}

#[derive(Debug, Serialize)]
struct Tenant<'a> {
    org_id: Option<&'a str>,
    project_id: Option<&'a str>,
}

/// Who is told.
#[derive(Debug)]
enum Destination {
    Sink(Sink),
    Hook(Box<Hook>),
}

/// What one of them is told.
#[derive(Clone, Debug)]
enum Message {
    Event(Sent),
    Publication(Arc<Publication>),
}

/// A message was not delivered.
#[derive(Debug)]
enum Failure {
    /// It may be later.
    Again(String),
    /// It never will be.
    Refused(String),
}

impl Events {
    /// Opens what the settings name.
    pub async fn open(options: EventsOptions<'_>) -> Result<Self, EventsError> {
        let EventsOptions {
            events,
            audit_log,
            clock,
            metrics,
            lifecycle,
        } = options;
        let sink = Sink::open(events, &clock)?.map(|sink| {
            let bounds = Bounds {
                lanes: LANES,
                places: events.capacity,
                bytes: usize::MAX,
            };
            Queue::new(Destination::Sink(sink), bounds, &metrics, &lifecycle)
        });
        let mut hooks = Vec::new();
        for config in &events.hooks {
            let (hook, packages) = notify::open(config, events)?;
            // One lane: a chat shows what happened in its order.
            let bounds = Bounds {
                lanes: 1,
                places: HOOK_CAPACITY,
                bytes: HOOK_BYTES,
            };
            let queue = Queue::new(
                Destination::Hook(Box::new(hook)),
                bounds,
                &metrics,
                &lifecycle,
            );
            hooks.push((packages, queue));
        }
        let trail = Trail::open(audit_log, &clock, &metrics, &lifecycle).await?;
        if sink.is_none() && hooks.is_empty() && trail.is_none() {
            return Ok(Self::default());
        }
        Ok(Self(Some(Arc::new(Told {
            clock,
            sink,
            hooks,
            trail,
        }))))
    }

    /// How many events wait for the sink or are being delivered to it.
    pub fn depth(&self) -> usize {
        let sink = self.0.as_ref().and_then(|told| told.sink.as_ref());
        sink.map_or(0, Queue::depth)
    }

    /// Whether there is a trail of audit.
    pub fn have_trail(&self) -> bool {
        self.0.as_ref().is_some_and(|told| told.trail.is_some())
    }

    /// The last lines of the trail of audit, at most `most`, the newest first; `None` where there is no
    /// trail.
    pub async fn last_lines(&self, most: usize) -> Option<std::io::Result<Vec<String>>> {
        let trail = self.0.as_ref()?.trail.as_ref()?;
        Some(trail.last_lines(most).await)
    }

    /// Tells that `caller` has done something that is stored now, with a package if it is about
    /// one. Never waits.
    pub fn tell(&self, caller: &Caller, package: Option<&PackageName>, event: &Event) {
        let Some(told) = &self.0 else { return };
        let attempt = Attempt::current();
        let route = attempt.as_ref().and_then(Attempt::route);
        let attributes = event.attributes(route.as_deref());
        if let Some(sink) = &told.sink {
            let sent = told.envelope(caller, package, event, &attributes);
            let key = package.map_or_else(|| caller.display_name(), PackageName::as_str);
            sink.push(key, Message::Event(sent));
        }
        if let Some(name) = package {
            told.notify(caller, name, event);
        }
        let fact = Fact {
            event_type: event.event_type(),
            package: package.map(PackageName::to_string),
            attributes,
        };
        let late = match &attempt {
            Some(attempt) => attempt.note(fact),
            None => Some(fact),
        };
        // Of no request, or of one that has its line already.
        if let (Some(fact), Some(trail)) = (late, &told.trail) {
            let line = Line::of_fact(told.clock.now(), caller, fact);
            trail.hand_over(line.to_bytes());
        }
    }

    /// Whether anybody is told, or anything is kept.
    pub fn are_told(&self) -> bool {
        self.0.is_some()
    }

    /// Counts a request for the trail of audit that a limit has refused, and that gets no line of
    /// its own.
    pub fn count_limited(&self) {
        if let Some(told) = &self.0
            && let Some(trail) = &told.trail
        {
            trail.count_limited();
        }
    }

    /// Adds a line to the trail of audit, and waits until it is written, or for a moment where that
    /// takes long.
    pub async fn record(&self, line: impl FnOnce(Timestamp) -> Line) {
        if let Some(told) = &self.0
            && let Some(trail) = &told.trail
        {
            trail.write(line(told.clock.now()).to_bytes()).await;
        }
    }
}

impl Told {
    fn envelope(
        &self,
        caller: &Caller,
        package: Option<&PackageName>,
        event: &Event,
        attributes: &Map<String, Value>,
    ) -> Sent {
        let id = uuid::Uuid::new_v4().to_string();
        let request = &caller.request;
        let request_id = Some(&*request.id).filter(|id| !id.is_empty());
        let envelope = Envelope {
            event_id: &id,
            event_type: event.event_type(),
            occurred_at: self.clock.now(),
            actor: Some(event.actor().unwrap_or_else(|| caller.display_name())),
            address: caller.address,
            package: package.map(PackageName::as_str),
            request_id,
            tenant: Tenant {
                org_id: request.tenant.org_id.as_deref(),
                project_id: request.tenant.project_id.as_deref(),
            },
            attributes,
        };
        // Texts and numbers can be written.
        let body = serde_json::to_vec(&envelope).unwrap_or_default().into();
        let request_id = request_id.map(str::to_owned);
        Sent {
            id,
            request_id,
            is_anybodys: event.is_anybodys(),
            body,
        }
    }

    fn notify(&self, caller: &Caller, name: &PackageName, event: &Event) {
        let is_about = |(packages, _): &&(Option<Regex>, Queue)| {
            let packages = packages.as_ref();
            packages.is_none_or(|packages| packages.is_match(name.as_str()))
        };
        let mut hooks = self.hooks.iter().filter(is_about).peekable();
        if hooks.peek().is_none() {
            return;
        }
        let Some(told) = Publication::of(caller, name, event) else {
            return;
        };
        for (_, queue) in hooks {
            queue.push(name.as_str(), Message::Publication(Arc::clone(&told)));
        }
    }
}

impl Message {
    /// How many of `capacity` places messages of its kind may fill: what anybody can make many of
    /// leaves room for what is done here.
    fn share_of(&self, capacity: usize) -> usize {
        match self {
            Self::Event(sent) if sent.is_anybodys => capacity.div_ceil(2),
            _ => capacity,
        }
    }

    /// How many bytes it keeps in memory, about.
    fn size(&self) -> usize {
        match self {
            Self::Event(sent) => sent.body.len(),
            Self::Publication(told) => told.size(),
        }
    }
}

impl Destination {
    async fn deliver(&self, message: &Message) -> Result<(), Failure> {
        match (self, message) {
            (Self::Sink(sink), Message::Event(sent)) => sink.deliver(sent).await,
            (Self::Hook(hook), Message::Publication(told)) => hook.deliver(told).await,
            _ => Err(Failure::Refused(
                "it is not for this destination".to_owned(),
            )),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sink(_) => f.write_str("RUSTACCIO_EVENT_HTTP_BASE_URL"),
            Self::Hook(hook) => f.write_str(&hook.path),
        }
    }
}

impl Failure {
    /// What an answer means.
    fn of(told: Result<StatusCode, ServiceError>) -> Result<(), Self> {
        match told {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => {
                let why = format!("the answer was {status}");
                let may_pass = status.is_server_error()
                    || status == StatusCode::TOO_MANY_REQUESTS
                    || status == StatusCode::REQUEST_TIMEOUT;
                Err(if may_pass {
                    Self::Again(why)
                } else {
                    Self::Refused(why)
                })
            }
            Err(error) => Err(Self::Again(error.to_string())),
        }
    }
}
