//! [`Answer`]: what is written to a client while the work that it is about is done.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};

use super::Administration;
use crate::error::RegistryError;

/// How long a client is left without a byte while the work goes on.
const SILENCE: Duration = Duration::from_secs(1);

/// JSON that is written while it is read. An error where the work fails; never a short end.
#[derive(Debug)]
pub struct Answer {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Result<Bytes, RegistryError>>,
}

impl Stream for Answer {
    type Item = Result<Bytes, RegistryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => self.rest.poll_recv(context),
        }
    }
}

/// What an [`Answer`] is written with.
pub(super) struct Pen {
    sender: mpsc::Sender<Result<Bytes, RegistryError>>,
    written: Instant,
}

impl Pen {
    #[cfg(test)]
    pub(super) fn for_test() -> (Self, mpsc::Receiver<Result<Bytes, RegistryError>>) {
        let (sender, written) = mpsc::channel(4);
        let written_at = Instant::now();
        (
            Self {
                sender,
                written: written_at,
            },
            written,
        )
    }

    pub(super) async fn write(&mut self, text: impl Into<Bytes>) {
        // Who does not listen any more ends the work.
        let _ = self.sender.send(Ok(text.into())).await;
        self.written = Instant::now();
    }

    /// Waits for `work` between two parts of the answer, where white space means nothing: it lets the
    /// client know that the work goes on.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep_until(self.written + SILENCE) => self.write("\n").await,
            }
        }
    }
}

impl Administration {
    /// Begins `work`, unless some of its kind is under way: `turn` is its kind's. It ends when the
    /// client hangs up, or the server stops.
    pub(super) async fn answer<F>(
        &self,
        turn: &Arc<Mutex<()>>,
        work: impl FnOnce(Pen) -> F,
    ) -> Result<Answer, RegistryError>
    where
        F: Future<Output = Result<(), RegistryError>> + Send + 'static,
    {
        let turn = Arc::clone(turn).try_lock_owned().map_err(|_| {
            RegistryError::conflict("this registry is doing just that already; wait for its end")
        })?;
        let (sender, mut rest) = mpsc::channel(4);
        let work = work(Pen {
            sender: sender.clone(),
            written: Instant::now(),
        });
        let lifecycle = self.lifecycle.clone();
        self.lifecycle.spawn(async move {
            let _turn = turn;
            let done = tokio::select! {
                () = sender.closed() => {
                    tracing::info!("given up: the client has gone");
                    return;
                }
                () = lifecycle.shutdown_begun() => Err(RegistryError::Unavailable {
                    message: "the registry stops".to_owned(),
                }),
                done = work => done,
            };
            if let Err(error) = done {
                let _ = sender.send(Err(error)).await;
            }
        });
        // What fails before there is anything to say has a status of its own.
        match rest.recv().await {
            Some(first) => Ok(Answer {
                first: Some(first?),
                rest,
            }),
            None => Err(RegistryError::internal("the work ended without a word")),
        }
    }
}
