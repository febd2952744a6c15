//! [`watched`]: a request makes progress or is given up, and its body is read before it is answered.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};
use parking_lot::Mutex;

use super::{error::Error, state::WebSettings};
use crate::{
    error::RegistryError,
    lifecycle::{Pause, Watch},
};

/// A body that nobody wants is read to its end up to this many times the largest one allowed.
const UNWANTED: u64 = 4;
/// And at least up to this many bytes.
const UNWANTED_AT_LEAST: u64 = 64 * 1024 * 1024;

/// What `handle` makes of `request`; a 503 when it works for longer than a request may take. What
/// it has begun to write is written all the same.
///
/// Clients send a whole body before they look at the answer, and one whose connection ends
/// meanwhile shows its user a broken pipe instead of our text. So what a handler has not read of a
/// body is read here first.
pub(super) async fn watched<F>(
    settings: &WebSettings,
    request: Request,
    handle: impl FnOnce(Request) -> F,
) -> Response
where
    F: Future<Output = Response>,
{
    let (watch, limit) = (Watch::new(), settings.request_timeout);
    let (request, unread) = if request.body().is_end_stream() {
        (request, None)
    } else {
        let (request, unread) = watch_body(request, &watch);
        (request, Some(unread))
    };
    let done = watch.over(limit, handle(request)).await;
    let mut response = done.unwrap_or_else(|| {
        let message = "the registry did not finish this in time; if it was to change something, \
                       look before you try again";
        let error = RegistryError::Unavailable {
            message: message.to_owned(),
        };
        Error(error).into_response()
    });
    let has_stalled = response.status() == StatusCode::REQUEST_TIMEOUT;
    let is_read = match unread {
        Some(_) if has_stalled => false,
        Some(unread) => Box::pin(unread.drain(settings.max_body_size, limit)).await,
        None => true,
    };
    if !is_read {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// A body that its handler may leave unread.
struct Unread {
    shared: Arc<Shared>,
    /// HTTP/2 ends one request without the others on its connection.
    ends_alone: bool,
    /// The client waits to be asked for the body.
    waits_to_be_asked: bool,
}

#[derive(Default)]
struct Shared(Mutex<Reading>);

#[derive(Default)]
struct Reading {
    body: Body,
    was_asked_for: bool,
}

fn watch_body(request: Request, watch: &Watch) -> (Request, Unread) {
    let (parts, body) = request.into_parts();
    let shared = Arc::new(Shared(Mutex::new(Reading {
        body,
        was_asked_for: false,
    })));
    let unread = Unread {
        shared: Arc::clone(&shared),
        ends_alone: parts.version >= Version::HTTP_2,
        waits_to_be_asked: parts.headers.contains_key(header::EXPECT),
    };
    let body = WatchedBody {
        shared,
        watch: watch.clone(),
        pause: None,
    };
    (Request::from_parts(parts, Body::new(body)), unread)
}

impl Unread {
    /// Reads what is left, if that is not too much and does not stand still. Whether the client
    /// has sent all that it wanted to.
    async fn drain(self, max_body_size: u64, patience: Duration) -> bool {
        let Reading {
            mut body,
            was_asked_for,
        } = std::mem::take(&mut *self.shared.0.lock());
        if body.is_end_stream() || self.ends_alone {
            return true;
        }
        let mut left = max_body_size
            .saturating_mul(UNWANTED)
            .max(UNWANTED_AT_LEAST);
        if self.waits_to_be_asked && !was_asked_for || body.size_hint().lower() > left {
            return false;
        }
        while let Ok(frame) = tokio::time::timeout(patience, body.frame()).await {
            let length = match frame {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            };
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        false
    }
}

/// The body as handlers see it.
struct WatchedBody {
    shared: Arc<Shared>,
    watch: Watch,
    /// There while the client lets us wait.
    pause: Option<Pause>,
}

impl hyper::body::Body for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = {
            let mut reading = self.shared.0.lock();
            reading.was_asked_for = true;
            Pin::new(&mut reading.body).poll_frame(context)
        };
        if frame.is_ready() {
            self.pause = None;
        } else if self.pause.is_none() {
            self.pause = Some(self.watch.pause());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.shared.0.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.shared.0.lock().body.size_hint()
    }
}
