//! `npm audit`: asked upstream, without the names that only exist here.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::{StreamExt as _, future::join_all};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::{
    Registry,
    audit_question::{Node, Versions},
    audit_tree::merge,
    room::{Room, Taken},
};
use crate::{
    error::RegistryError,
    models::{Caller, PackageName, UplinkName},
    uplink::{Uplink, UplinkError},
};

const BULK_PATH: &str = "-/npm/v1/security/advisories/bulk";
/// The largest question in decoded bytes. Older clients send the tree of a whole project.
const MAX_QUESTION: usize = 16 * 1024 * 1024;
/// Bytes of questions, and of what becomes of them, that may be under way at the same time.
const ROOM: usize = 128 * 1024 * 1024;
const REFUSAL: &str = "too many audits are under way, try again";
/// What a name takes that is asked about, in bytes, and a version.
const PER_NAME: usize = 128;
/// How many questions and answers are read and written at the same time. That can take some
/// hundred MB of memory for each.
const AT_ONCE: usize = 2;
/// After how many names others get their turn: a look at storage may not let go of the thread.
const STRIDE: usize = 32;

/// An audit of the form that npm had up to version 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeAudit {
    /// `npm install` asks for numbers.
    Quick,
    /// `npm audit` asks for all.
    Full,
}

impl TreeAudit {
    fn path(self) -> &'static str {
        match self {
            Self::Quick => "-/npm/v1/security/audits/quick",
            Self::Full => "-/npm/v1/security/audits",
        }
    }
}

/// What all audits share.
#[derive(Debug)]
pub(super) struct Audits {
    room: Room,
    at_once: Arc<Semaphore>,
}

impl Default for Audits {
    fn default() -> Self {
        Self {
            room: Room::of(ROOM, REFUSAL),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Audits {
    /// The whole of a question.
    async fn receive<S>(&self, body: S) -> Result<(Bytes, Taken), RegistryError>
    where
        S: Stream<Item = Result<Bytes, RegistryError>> + Send,
    {
        let mut body = std::pin::pin!(body);
        let mut taken = self.room.take()?;
        let mut whole = BytesMut::new();
        while let Some(piece) = body.next().await {
            let piece = piece?;
            let length = whole.len() + piece.len();
            if length > MAX_QUESTION {
                return Err(RegistryError::PayloadTooLarge {
                    limit: u64::try_from(MAX_QUESTION).unwrap_or(u64::MAX),
                });
            }
            taken.grow_to(length)?;
            whole.extend_from_slice(&piece);
        }
        Ok((whole.freeze(), taken))
    }

    /// Does what takes time and memory, in its turn and off the threads that serve.
    async fn work<T, W>(&self, work: W) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        W: FnOnce() -> Result<T, RegistryError> + Send + 'static,
    {
        let turn = Arc::clone(&self.at_once).acquire_owned().await;
        let turn = turn.map_err(RegistryError::internal)?;
        let work = move || {
            // Until it is done, even if nobody waits for it any more.
            let _turn = turn;
            work()
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(RegistryError::internal)?
    }
}

/// The names that an uplink is asked about.
struct Part {
    uplink: Arc<Uplink>,
    names: HashSet<PackageName>,
}

/// What an uplink is asked, and what its answer is read with.
struct Question<K> {
    uplink: Arc<Uplink>,
    body: Bytes,
    key: K,
}

impl Registry {
    /// The advisories for the versions in `body`, which has them by name, as upstream knows them,
    /// in JSON.
    #[tracing::instrument(name = "registry.advisories", skip_all)]
    pub async fn advisories<S>(&self, caller: &Caller, body: S) -> Result<Bytes, RegistryError>
    where
        S: Stream<Item = Result<Bytes, RegistryError>> + Send,
    {
        let (body, mut taken) = self.audits.receive(body).await?;
        let versions = self.audits.work(move || Versions::parse(&body)).await?;
        let size = (versions.0.len() + versions.count()).saturating_mul(PER_NAME);
        taken.grow_to(size)?;
        let names: BTreeSet<PackageName> = versions.0.keys().cloned().collect();
        let parts = self.parts(caller, names).await?;
        let questions = move || {
            let questions = parts.into_iter().map(|Part { uplink, names }| {
                let asked = versions.0.iter();
                let asked: BTreeMap<&str, &Vec<Box<str>>> = asked
                    .filter(|(name, _)| names.contains(name))
                    .map(|(name, versions)| (name.as_str(), versions))
                    .collect();
                let body = serde_json::to_vec(&asked).map_err(RegistryError::internal)?;
                Ok(Question {
                    uplink,
                    body: body.into(),
                    key: names,
                })
            });
            questions.collect::<Result<Vec<_>, RegistryError>>()
        };
        let questions = self.audits.work(questions).await?;
        let written: usize = questions.iter().map(|question| question.body.len()).sum();
        taken.grow_to(size.saturating_add(written))?;
        let answers = ask(BULK_PATH, questions).await?;
        let merged = move || {
            let mut all = Map::new();
            for (names, answer) in answers {
                let answer = parsed(&answer)?;
                // Nobody has a say about other names.
                let is_asked = |name: &str| {
                    let name = name.parse::<PackageName>();
                    name.is_ok_and(|name| names.contains(&name))
                };
                all.extend(answer.into_iter().filter(|(name, _)| is_asked(name)));
            }
            written_out(&all)
        };
        self.audits.work(merged).await
    }

    /// What upstream says of the tree of dependencies in `body`, in the older form, in JSON.
    #[tracing::instrument(name = "registry.audit", skip_all)]
    pub async fn audit<S>(
        &self,
        caller: &Caller,
        kind: TreeAudit,
        body: S,
    ) -> Result<Bytes, RegistryError>
    where
        S: Stream<Item = Result<Bytes, RegistryError>> + Send,
    {
        let (body, mut taken) = self.audits.receive(body).await?;
        let tree = body.clone();
        let names = move || Node::parse(&tree)?.names();
        let names = self.audits.work(names).await?;
        let size = names.len().saturating_mul(PER_NAME);
        taken.grow_to(size.saturating_add(body.len()))?;
        let parts = self.parts(caller, names).await?;
        // Read again, because what is read takes far more memory than what was sent.
        let questions = move || {
            let tree = Node::parse(&body)?;
            let questions = parts.into_iter().filter_map(|Part { uplink, names }| {
                let (shown, key) = tree.about(&names)?;
                let body = shown.into();
                Some(Question { uplink, body, key })
            });
            Ok(questions.collect::<Vec<_>>())
        };
        let questions = self.audits.work(questions).await?;
        let sizes = questions.iter();
        let written: usize = sizes
            .map(|question| question.body.len() + question.key.size())
            .sum();
        taken.grow_to(written)?;
        let answers = ask(kind.path(), questions).await?;
        let merged = move || {
            let mut reports = Vec::new();
            for (hidden, answer) in answers {
                let mut report = parsed(&answer)?;
                report.values_mut().for_each(|part| hidden.reveal_in(part));
                reports.push(report);
            }
            written_out(&merge(reports).unwrap_or_else(|| nothing_found(kind)))
        };
        self.audits.work(merged).await
    }

    /// Those of `names` that upstream may be asked about, each with the uplink that it comes from:
    /// not what only exists here, nor what the caller may not know.
    async fn parts(
        &self,
        caller: &Caller,
        names: BTreeSet<PackageName>,
    ) -> Result<Vec<Part>, RegistryError> {
        let mut public = Vec::new();
        for (count, name) in names.into_iter().enumerate() {
            if count % STRIDE == 0 {
                tokio::task::yield_now().await;
            }
            if self.documents.has_upstream(&name).await? {
                public.push(name);
            }
        }
        let asked: Vec<&PackageName> = public.iter().collect();
        let readable = self.may_read_each(caller, &asked).await?;
        let mut parts: IndexMap<UplinkName, Part> = IndexMap::new();
        for (count, (name, is_readable)) in public.into_iter().zip(readable).enumerate() {
            if count % STRIDE == 0 {
                tokio::task::yield_now().await;
            }
            if !is_readable {
                continue;
            }
            // No other: that would learn of names that another one keeps for itself.
            let Some(uplink) = self.documents.source_at_hand(&name).await else {
                continue;
            };
            let part = parts.entry(uplink.name().clone());
            let part = part.or_insert_with(|| Part {
                uplink: Arc::clone(uplink),
                names: HashSet::new(),
            });
            part.names.insert(name);
        }
        Ok(parts.into_values().collect())
    }
}

/// The answers of those who have audits. An audit that lacks one because of a failure would say
/// that there is nothing to find, and so it fails.
async fn ask<K>(path: &str, questions: Vec<Question<K>>) -> Result<Vec<(K, Bytes)>, RegistryError> {
    let asking = questions.into_iter().map(|question| async move {
        let Question { uplink, body, key } = question;
        let answer = uplink.ask(path, &body).await;
        (uplink, key, answer)
    });
    let mut answers = Vec::new();
    let mut refused = None;
    for (uplink, key, answer) in join_all(asking).await {
        match answer {
            Ok(Some(answer)) => answers.push((key, answer)),
            Ok(None) => {
                tracing::debug!(uplink.name = %uplink.name(), "this uplink has no audits");
            }
            Err(error) if is_refusal(&error) => {
                tracing::warn!(uplink.name = %uplink.name(), error = &error as &dyn std::error::Error, "this uplink refuses to audit");
                refused = Some(error);
            }
            Err(error) => {
                tracing::warn!(uplink.name = %uplink.name(), error = &error as &dyn std::error::Error, "an audit failed");
                return Err(error.into());
            }
        }
    }
    match refused {
        Some(error) if answers.is_empty() => Err(error.into()),
        _ => Ok(answers),
    }
}

/// Whether the uplink said that it does not audit for us, which it will say again.
fn is_refusal(error: &UplinkError) -> bool {
    match error {
        UplinkError::BadStatus(status) => {
            *status == 501 || (400..500).contains(status) && !matches!(status, 408 | 425)
        }
        _ => false,
    }
}

fn parsed(answer: &Bytes) -> Result<Map<String, Value>, RegistryError> {
    let unusable = |_| UplinkError::BadBody("it is no report of an audit");
    Ok(serde_json::from_slice(answer).map_err(unusable)?)
}

fn written_out(found: &Map<String, Value>) -> Result<Bytes, RegistryError> {
    let written = serde_json::to_vec(found).map_err(RegistryError::internal)?;
    Ok(written.into())
}

/// The older form of "nothing found"; with the fields of the one after it.
fn nothing_found(kind: TreeAudit) -> Map<String, Value> {
    let found = json!({
        "auditReportVersion": 2,
        "actions": [],
        "advisories": {},
        "vulnerabilities": {},
        "muted": [],
        "metadata": {
            "vulnerabilities": { "info": 0, "low": 0, "moderate": 0, "high": 0, "critical": 0 },
            "dependencies": 0,
            "devDependencies": 0,
            "optionalDependencies": 0,
            "totalDependencies": 0,
        },
    });
    let mut found = match found {
        Value::Object(found) => found,
        _ => Map::new(),
    };
    if kind == TreeAudit::Full {
        found.insert("runId".to_owned(), "0".into());
    }
    found
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, stream};

    use super::*;
    use crate::registry::room::STEP;

    #[tokio::test]
    async fn audits_share_their_room() {
        let audits = Audits {
            room: Room::of(4 * STEP, REFUSAL),
            ..Audits::default()
        };
        let question = |length| {
            let pieces = [Bytes::from(vec![b' '; length]), Bytes::from_static(b"{}")];
            stream::iter(pieces.map(Ok))
        };
        let (first, taken) = audits.receive(question(2 * STEP)).await.unwrap();
        assert_eq!(first.len(), 2 * STEP + 2);
        let second = audits.receive(question(2 * STEP)).await;
        assert_eq!(second.unwrap_err().status(), 503);
        let (_, mut small) = audits.receive(question(10)).await.unwrap();
        // What becomes of a question counts too.
        assert_eq!(small.grow_to(2 * STEP).unwrap_err().status(), 503);
        drop(taken);
        small.grow_to(2 * STEP).unwrap();
    }

    #[tokio::test]
    async fn few_questions_are_worked_on_at_once() {
        let audits = Audits::default();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(parking_lot::Mutex::new(held));
        let mut all = Vec::new();
        for _ in 0..AT_ONCE {
            let held = Arc::clone(&held);
            let work = move || Ok(held.lock().recv().is_ok());
            let mut work = Box::pin(audits.work(work));
            assert!((&mut work).now_or_never().is_none());
            all.push(work);
        }
        // Nobody waits for them any more, but they run.
        drop(all);
        let mut next = Box::pin(audits.work(|| Ok(())));
        assert!((&mut next).now_or_never().is_none());
        assert_eq!(audits.at_once.available_permits(), 0);
        for _ in 0..AT_ONCE {
            release.send(()).unwrap();
        }
        next.await.unwrap();
    }
}
