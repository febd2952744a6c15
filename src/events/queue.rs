//! [`Queue`]: what waits to be delivered, off the path of requests, and how often that is tried.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep_until},
};

use super::{Destination, Failure, Message};
use crate::{
    lifecycle::{Lifecycle, jittered},
    telemetry::{Backend, Metrics, Outcome},
};

/// How long to wait before the second try; each time twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const MAX_WAIT: Duration = Duration::from_secs(15);
/// How long what is first in its lane may keep those behind it waiting.
const PATIENCE: Duration = Duration::from_secs(60);

/// Messages for one destination. Those of one package are delivered in the order in which they
/// came; packages go by several lanes, so that one does not wait for all.
///
/// A full queue takes nothing more, and what it does not take is lost and counted.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    lanes: Arc<[UnboundedSender<Message>]>,
    shared: Arc<Shared>,
}

/// How much a [`Queue`] takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) lanes: usize,
    pub(super) places: usize,
    /// Of all messages together; one alone may be larger.
    pub(super) bytes: usize,
}

#[derive(Debug)]
struct Shared {
    destination: Destination,
    /// How many wait or are being delivered.
    depth: AtomicUsize,
    /// How large they are together.
    bytes: AtomicUsize,
    bounds: Bounds,
    lost: AtomicU64,
    metrics: Metrics,
    lifecycle: Lifecycle,
}

impl Queue {
    /// For `destination`.
    pub(super) fn new(
        destination: Destination,
        bounds: Bounds,
        metrics: &Metrics,
        lifecycle: &Lifecycle,
    ) -> Self {
        let shared = Arc::new(Shared {
            destination,
            depth: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            bounds,
            lost: AtomicU64::new(0),
            metrics: metrics.clone(),
            lifecycle: lifecycle.clone(),
        });
        let begin = |_| {
            let (sender, receiver) = unbounded_channel();
            let shared = Arc::clone(&shared);
            lifecycle.spawn_last(async move { shared.deliver_all(receiver).await });
            sender
        };
        Self {
            lanes: (0..bounds.lanes.max(1)).map(begin).collect(),
            shared,
        }
    }

    /// Takes a message in, which is one of those of `key`. Never waits.
    pub(super) fn push(&self, key: &str, message: Message) {
        let shared = &self.shared;
        let size = message.size();
        if !shared.make_room(message.share_of(shared.bounds.places), size) {
            shared.lose("the queue is full");
            return;
        }
        let lane = self.lanes.get(lane_of(key, self.lanes.len()));
        if lane.is_none_or(|lane| lane.send(message).is_err()) {
            shared.done(size);
            shared.lose("the registry stops");
        }
    }

    /// How many wait or are being delivered.
    pub(super) fn depth(&self) -> usize {
        self.shared.depth.load(Ordering::SeqCst)
    }
}

fn lane_of(key: &str, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let lanes = u64::try_from(lanes).unwrap_or(1).max(1);
    usize::try_from(hasher.finish() % lanes).unwrap_or_default()
}

impl Shared {
    /// Takes a place for a message, if fewer than `places` are taken and it is not too large.
    fn make_room(&self, places: usize, size: usize) -> bool {
        let max = self.bounds.bytes;
        let order = Ordering::SeqCst;
        let bytes = self.bytes.fetch_update(order, order, |bytes| {
            let sum = bytes.saturating_add(size);
            (bytes == 0 || sum <= max).then_some(sum)
        });
        if bytes.is_err() {
            return false;
        }
        let depth = self
            .depth
            .fetch_update(order, order, |depth| (depth < places).then_some(depth + 1));
        if depth.is_err() {
            self.bytes.fetch_sub(size, order);
            return false;
        }
        if matches!(self.destination, Destination::Sink(_)) {
            self.metrics.event_waits();
        }
        true
    }

    /// The life of a lane.
    async fn deliver_all(&self, mut messages: UnboundedReceiver<Message>) {
        // Once all other work has ended, what waits still has until then.
        let ends = async { sleep_until(self.lifecycle.last_call().await).await };
        tokio::pin!(ends);
        let mut is_last_call = false;
        loop {
            let next = tokio::select! {
                biased;
                () = self.lifecycle.must_stop() => None,
                () = &mut ends => None,
                message = messages.recv() => message,
                _ = self.lifecycle.last_call(), if !is_last_call => {
                    // Nobody is left who could send more.
                    is_last_call = true;
                    messages.close();
                    continue;
                }
            };
            let Some(message) = next else { break };
            let size = message.size();
            tokio::select! {
                biased;
                () = self.lifecycle.must_stop() => self.lose("the registry stops"),
                () = &mut ends => {
                    self.lose("the registry stops");
                    self.done(size);
                    break;
                }
                () = self.deliver(&message) => {}
            }
            self.done(size);
        }
        // What comes after the end is lost too.
        messages.close();
        while let Ok(message) = messages.try_recv() {
            self.done(message.size());
            self.lose("the registry stops");
        }
    }

    /// Tries until it is delivered, refused, or takes too long.
    async fn deliver(&self, message: &Message) {
        let gives_up = Instant::now() + PATIENCE;
        let mut wait = FIRST_WAIT;
        loop {
            let begun = Instant::now();
            let delivered = self.destination.deliver(message).await;
            if matches!(self.destination, Destination::Sink(_)) {
                self.metrics.backend_took(Backend::Events, begun.elapsed());
            }
            match delivered {
                Ok(()) => return self.count(Outcome::Delivered),
                Err(Failure::Refused(why)) => return self.lose(&why),
                Err(Failure::Again(why)) => {
                    let next = Instant::now() + jittered(wait);
                    if next > gives_up {
                        return self.lose(&why);
                    }
                    self.count(Outcome::Retried);
                    tracing::debug!(destination = %self.destination, why, "is tried again");
                    sleep_until(next).await;
                    wait = (wait * 2).min(MAX_WAIT);
                }
            }
        }
    }

    fn done(&self, size: usize) {
        self.depth.fetch_sub(1, Ordering::SeqCst);
        self.bytes.fetch_sub(size, Ordering::SeqCst);
        if matches!(self.destination, Destination::Sink(_)) {
            self.metrics.event_left();
        }
    }

    fn count(&self, outcome: Outcome) {
        match self.destination {
            Destination::Sink(_) => self.metrics.event(outcome),
            Destination::Hook(_) => self.metrics.notification(outcome),
        }
    }

    fn lose(&self, why: &str) {
        self.count(Outcome::Dropped);
        let lost = self.lost.fetch_add(1, Ordering::SeqCst) + 1;
        // The log is no queue: of many that are lost, it hears less and less often.
        if lost.is_power_of_two() {
            tracing::error!(destination = %self.destination, why, lost, "an event is lost");
        }
    }
}
