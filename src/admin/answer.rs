//! [`Answer`]: what is written to a client while the work that it is about is done.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use tokio::{sync::mpsc, time::Instant};

use super::{
    Administration,
    work::{How, Turn, Work},
};
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
    /// `None` where nobody reads it.
    sender: Option<mpsc::Sender<Result<Bytes, RegistryError>>>,
    written: Instant,
}

impl Pen {
    /// One without ink, for work that is done for nobody's answer.
    pub(super) fn silent() -> Self {
        Self {
            sender: None,
            written: Instant::now(),
        }
    }

    /// Whether somebody reads what it writes.
    pub(super) fn is_read(&self) -> bool {
        self.sender.is_some()
    }

    #[cfg(test)]
    pub(super) fn for_test() -> (Self, mpsc::Receiver<Result<Bytes, RegistryError>>) {
        let (sender, written) = mpsc::channel(4);
        let written_at = Instant::now();
        (
            Self {
                sender: Some(sender),
                written: written_at,
            },
            written,
        )
    }

    pub(super) async fn write(&mut self, text: impl Into<Bytes>) {
        if let Some(sender) = &self.sender {
            // Who does not listen any more ends the work.
            let _ = sender.send(Ok(text.into())).await;
        }
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
    /// Begins `work` of a `kind`, unless some of it is under way. It ends when the client hangs up, or
    /// the server stops.
    pub(super) async fn answer<T, F>(
        &self,
        kind: &Work<T>,
        work: impl FnOnce(Pen, Arc<Turn<T>>) -> F,
    ) -> Result<Answer, RegistryError>
    where
        T: Clone + Send + 'static,
        F: Future<Output = Result<T, RegistryError>> + Send + 'static,
    {
        let turn = Arc::new(kind.begin()?);
        let (sender, mut rest) = mpsc::channel(4);
        let pen = Pen {
            sender: Some(sender.clone()),
            written: Instant::now(),
        };
        let work = work(pen, Arc::clone(&turn));
        let lifecycle = self.lifecycle.clone();
        self.lifecycle.spawn(async move {
            let done = tokio::select! {
                () = sender.closed() => {
                    tracing::info!("given up: the client has gone");
                    return;
                }
                () = lifecycle.shutdown_begun() => Err(stopping()),
                done = work => done,
            };
            // Before the client has read its end, and may ask again.
            if let Err(error) = end(&turn, done) {
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

    /// Begins `work` of a `kind` for nobody's answer, unless some of it is under way. It ends when the
    /// server stops.
    pub(super) fn in_background<T, F>(
        &self,
        kind: &Work<T>,
        work: impl FnOnce(Pen, Arc<Turn<T>>) -> F,
    ) -> Result<(), RegistryError>
    where
        T: Clone + Send + 'static,
        F: Future<Output = Result<T, RegistryError>> + Send + 'static,
    {
        let turn = Arc::new(kind.begin()?);
        let work = work(Pen::silent(), Arc::clone(&turn));
        let lifecycle = self.lifecycle.clone();
        self.lifecycle.spawn(async move {
            let done = tokio::select! {
                () = lifecycle.shutdown_begun() => return,
                done = work => done,
            };
            if let Err(error) = end(&turn, done) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "what an administrator began has failed"
                );
            }
        });
        Ok(())
    }
}

fn stopping() -> RegistryError {
    RegistryError::Unavailable {
        message: "the registry stops".to_owned(),
    }
}

fn end<T>(turn: &Turn<T>, done: Result<T, RegistryError>) -> Result<(), RegistryError> {
    match done {
        Ok(done) => {
            turn.ended(How::Done(done));
            Ok(())
        }
        Err(error) => {
            turn.ended(How::Failed(error.to_string()));
            Err(error)
        }
    }
}
