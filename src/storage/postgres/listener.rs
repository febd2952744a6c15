//! The one listener of a node: notices of what all nodes change, and proof that they arrive.

use std::time::Duration;

use sqlx::postgres::PgListener;

use super::Database;
use crate::{
    lifecycle::{Lifecycle, jittered, random_hex},
    storage::{Coherence, LONGEST_SILENCE, Notice, StorageError},
};

/// How often each node says something, which comes back to all: three may be lost before anybody
/// takes that for silence.
const BEAT: Duration = Duration::from_secs(3);
const BEAT_TEXT: &str = "beat";
/// How long what a new listener has to hear may take to come back.
const PATIENCE: Duration = Duration::from_secs(2);
const LISTENING: &str = "listening to changes";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Database {
    /// Listens to changes until `lifecycle` ends. What was read may be believed from then on, as
    /// [`Coherence`] says. Returns when the listener hears, so that the first requests find it so;
    /// if that takes too long, it goes on trying.
    pub async fn listen(&self, lifecycle: &Lifecycle) {
        let listener = self.begin_listening().await;
        let listener = listener.inspect_err(complain).ok();
        let (database, life) = (self.clone(), lifecycle.clone());
        lifecycle.spawn(async move {
            tokio::select! {
                () = life.shutdown_begun() => {}
                () = database.listen_for_ever(listener) => {}
                () = database.beat_for_ever() => {}
            }
            // Who still finishes a request looks into the database.
            database.coherence().end();
        });
    }

    /// A listener that hears everything from now on.
    async fn begin_listening(&self) -> Result<PgListener, StorageError> {
        let mut listener = self.run(LISTENING, self.listener()).await?;
        self.prove(&mut listener).await?;
        self.coherence().begin();
        Ok(listener)
    }

    async fn listener(&self) -> Result<PgListener, sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.eager_reconnect(false);
        listener.listen(&self.channel).await?;
        Ok(listener)
    }

    /// Succeeds when `listener` hears what another connection says: one that shares its session with
    /// others, behind a proxy that pools transactions, hears nothing and is told nothing of that.
    async fn prove(&self, listener: &mut PgListener) -> Result<(), StorageError> {
        let text = format!("{BEAT_TEXT} {}", random_hex::<8>());
        let proof = async {
            self.say(&text).await?;
            // Nothing is believed yet, so that nothing else that is heard matters.
            while listener.recv().await?.payload() != text {}
            Ok(())
        };
        match tokio::time::timeout(PATIENCE, self.run(LISTENING, proof)).await {
            Ok(proved) => proved,
            Err(_) => Err(StorageError::backend(
                LISTENING,
                "what was said did not come back; LISTEN needs a session of its own, so connect to \
                 Postgres directly or through a proxy that pools sessions, not transactions",
            )),
        }
    }

    async fn listen_for_ever(&self, mut first: Option<PgListener>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let listener = match first.take() {
                Some(listener) => Some(listener),
                None => {
                    let begun = self.begin_listening().await;
                    begun.inspect_err(complain).ok()
                }
            };
            if let Some(listener) = listener {
                pause = FIRST_PAUSE;
                self.hear(listener).await;
                self.coherence().end();
                tracing::warn!("changes of other nodes are not heard any more");
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Passes on what `listener` hears until it hears nothing any more.
    async fn hear(&self, mut listener: PgListener) {
        let coherence = self.coherence();
        loop {
            // Whoever hears nothing for so long is not waited for: her connection may be cut.
            let heard = tokio::time::timeout(LONGEST_SILENCE, listener.try_recv()).await;
            match heard {
                Ok(Ok(Some(notification))) => {
                    coherence.heard();
                    pass_on(coherence, notification.payload());
                }
                Ok(Ok(None)) | Err(_) => return,
                Ok(Err(error)) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "cannot listen");
                    return;
                }
            }
        }
    }

    async fn beat_for_ever(&self) {
        loop {
            let beat = self.say(BEAT_TEXT);
            if let Err(error) = self.run("telling other nodes", beat).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "no beat");
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Says `text` to all nodes, over any connection.
    async fn say(&self, text: &str) -> Result<(), sqlx::Error> {
        let said = sqlx::query("SELECT pg_notify($1, $2)")
            .bind(&*self.channel)
            .bind(text);
        said.execute(&self.pool).await.map(drop)
    }
}

fn complain(error: &StorageError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "changes of other nodes are not heard; looking at each read"
    );
}

fn pass_on(coherence: &Coherence, text: &str) {
    match from_text(text) {
        Some(notice) => coherence.pass_on(&notice),
        None if is_beat(text) => {}
        None => {
            // A newer node may tell what we do not know: nothing that was read is believed.
            tracing::debug!("a notice that this version does not know");
            coherence.begin();
        }
    }
}

/// Whether `text` is a beat, or one that proves that somebody hears.
fn is_beat(text: &str) -> bool {
    text.split(' ').next() == Some(BEAT_TEXT)
}

/// A notice as it is sent.
pub(super) fn to_text(notice: &Notice) -> String {
    match notice {
        Notice::Package(name) => format!("package:{name}"),
        Notice::User(name) => format!("user:{name}"),
        Notice::Token(key) => format!("token:{key}"),
        Notice::Organisations => "organisations:".to_owned(),
    }
}

fn from_text(text: &str) -> Option<Notice> {
    let (kind, what) = text.split_once(':')?;
    match kind {
        "package" => what.parse().ok().map(Notice::Package),
        "user" => Some(Notice::User(what.to_owned())),
        "token" => Some(Notice::Token(what.to_owned())),
        "organisations" => Some(Notice::Organisations),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_survive_the_wire() {
        let notices = [
            Notice::Package("@scope/name".parse().unwrap()),
            Notice::User("a.b+c@example.org".to_owned()),
            Notice::Token("00ff".to_owned()),
            Notice::Organisations,
        ];
        for notice in notices {
            assert_eq!(from_text(&to_text(&notice)), Some(notice));
        }
        assert_eq!(from_text(BEAT_TEXT), None);
    }

    #[test]
    fn what_nobody_knows_ends_all_trust() {
        let coherence = Coherence::default();
        coherence.begin();
        let before = coherence.epoch();
        pass_on(&coherence, BEAT_TEXT);
        pass_on(&coherence, "beat 00ff");
        assert_eq!(coherence.epoch(), before);
        pass_on(&coherence, "planet:mars");
        assert!(coherence.epoch().is_some_and(|epoch| Some(epoch) != before));
    }
}
