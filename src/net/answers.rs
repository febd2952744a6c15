//! [`Answers`]: what services answered, remembered for a moment; one question is asked once.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::Mutex;

/// How answers are remembered.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// How long an answer counts after it was asked for; zero: each question is asked anew.
    pub ttl: Duration,
    /// How many are remembered, the latest; 0: any number.
    pub max_entries: usize,
    /// How often those that no longer count are thrown away.
    pub prune_interval: Duration,
}

/// An answer, and whether somebody had to be asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered<A> {
    /// The answer.
    pub answer: A,
    /// Whether it was known.
    pub was_known: bool,
}

/// When questions were asked.
#[derive(Clone, Copy, Debug)]
pub struct AskedAt {
    at: Instant,
    forgotten: u64,
}

type Flying<A, E> = BoxFuture<'static, Result<A, E>>;

/// Answers by their questions. A question is a value of its own with all that the answer may depend
/// on, so that none is taken for another. Failures are not remembered. Clones share it.
pub struct Answers<Q, A, E> {
    memory: Memory,
    state: Arc<Mutex<State<Q, A, E>>>,
}

struct State<Q, A, E> {
    known: HashMap<Q, (A, Instant)>,
    /// All of `known` in the order in which they end; some are there again, later.
    order: VecDeque<(Instant, Q)>,
    asking: HashMap<Q, WeakShared<Flying<A, E>>>,
    next_prune: Instant,
    /// Counts how often all was forgotten: what was asked before is not remembered after.
    forgotten: u64,
}

impl<Q, A, E> fmt::Debug for Answers<Q, A, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

impl<Q, A, E> Clone for Answers<Q, A, E> {
    fn clone(&self) -> Self {
        Self {
            memory: self.memory,
            state: Arc::clone(&self.state),
        }
    }
}

impl<Q, A, E> Answers<Q, A, E>
where
    Q: Clone + Eq + Hash + Send + 'static,
    A: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Nothing yet.
    pub fn new(memory: Memory) -> Self {
        let state = State {
            known: HashMap::new(),
            order: VecDeque::new(),
            asking: HashMap::new(),
            next_prune: Instant::now() + memory.prune_interval,
            forgotten: 0,
        };
        Self {
            memory,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The answer to `question`: the one that is known, or that somebody else is waiting for, or
    /// what `ask` comes to.
    pub async fn get<F>(&self, question: Q, ask: impl FnOnce() -> F) -> Result<Answered<A>, E>
    where
        F: Future<Output = Result<A, E>> + Send + 'static,
    {
        let asked = |answer| Answered {
            answer,
            was_known: false,
        };
        if self.memory.ttl.is_zero() {
            return ask().await.map(asked);
        }
        let asking = {
            let mut state = self.state.lock();
            let now = Instant::now();
            state.prune_when_due(now, self.memory.prune_interval);
            if let Some(answer) = state.known_at(&question, now) {
                return Ok(Answered {
                    answer,
                    was_known: true,
                });
            }
            let others = state.asking.get(&question).and_then(WeakShared::upgrade);
            match others {
                Some(asking) => asking,
                None => self.begin(&mut state, question, now, ask()),
            }
        };
        asking.await.map(asked)
    }

    fn begin(
        &self,
        state: &mut State<Q, A, E>,
        question: Q,
        now: Instant,
        work: impl Future<Output = Result<A, E>> + Send + 'static,
    ) -> Shared<Flying<A, E>> {
        let (answers, before) = (self.clone(), state.forgotten);
        let key = question.clone();
        let asking = async move {
            let result = work.await;
            let mut state = answers.state.lock();
            if state.forgotten == before {
                state.asking.remove(&key);
                if let Ok(answer) = &result {
                    state.remember(key, answer.clone(), now, &answers.memory);
                }
            }
            drop(state);
            result
        };
        let asking = asking.boxed().shared();
        if let Some(weak) = asking.downgrade() {
            state.asking.insert(question, weak);
        }
        asking
    }

    /// The answer to `question`, if it is known.
    pub fn known(&self, question: &Q) -> Option<A> {
        self.state.lock().known_at(question, Instant::now())
    }

    /// How many are there, those included that count no longer.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.state.lock().known.len()
    }

    /// Begins to ask many questions together.
    pub fn now(&self) -> AskedAt {
        AskedAt {
            at: Instant::now(),
            forgotten: self.state.lock().forgotten,
        }
    }

    /// Remembers the answers to questions that were asked together.
    pub fn remember(&self, asked: AskedAt, answers: impl IntoIterator<Item = (Q, A)>) {
        let mut state = self.state.lock();
        if self.memory.ttl.is_zero() || state.forgotten != asked.forgotten {
            return;
        }
        state.prune_when_due(Instant::now(), self.memory.prune_interval);
        for (question, answer) in answers {
            state.remember(question, answer, asked.at, &self.memory);
        }
    }

    /// Forgets all answers, those that are on their way included.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        state.forgotten = state.forgotten.wrapping_add(1);
        state.known.clear();
        state.order.clear();
        state.asking.clear();
    }
}

impl<Q: Clone + Eq + Hash, A: Clone, E: Clone> State<Q, A, E> {
    fn known_at(&self, question: &Q, now: Instant) -> Option<A> {
        let (answer, ends) = self.known.get(question)?;
        (*ends > now).then(|| answer.clone())
    }

    fn remember(&mut self, question: Q, answer: A, asked_at: Instant, memory: &Memory) {
        let ends = asked_at + memory.ttl;
        // Many may have asked the same together; what was asked for last counts.
        if self
            .known
            .get(&question)
            .is_some_and(|(_, known)| *known >= ends)
        {
            return;
        }
        self.known.insert(question.clone(), (answer, ends));
        self.order.push_back((ends, question));
        self.tidy_order();
        while memory.max_entries > 0 && self.known.len() > memory.max_entries {
            if !self.drop_first() {
                break;
            }
        }
    }

    fn prune_when_due(&mut self, now: Instant, interval: Duration) {
        if now < self.next_prune {
            return;
        }
        self.next_prune = now + interval;
        while self.order.front().is_some_and(|(ends, _)| *ends <= now) {
            self.drop_first();
        }
        // Nobody waits for these any more.
        self.asking.retain(|_, asking| asking.upgrade().is_some());
    }

    /// Forgets which answers were replaced, where those are the most.
    fn tidy_order(&mut self) {
        if self.order.len() > 2 * self.known.len() + 64 {
            let known = &self.known;
            self.order
                .retain(|(ends, question)| known.get(question).is_some_and(|(_, now)| now == ends));
        }
    }

    /// Forgets what ends first. False if there is nothing.
    fn drop_first(&mut self) -> bool {
        let Some((ends, question)) = self.order.pop_front() else {
            return false;
        };
        // One that was asked again ends later, and stands behind again.
        if self
            .known
            .get(&question)
            .is_some_and(|(_, known)| *known == ends)
        {
            self.known.remove(&question);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    const TTL: Duration = Duration::from_secs(3600);
    const INTERVAL: Duration = Duration::from_secs(36_000);
    const INSTANT: Duration = Duration::from_millis(1);

    type Numbers = Answers<u32, u32, &'static str>;

    fn answers(max_entries: usize) -> Numbers {
        Answers::new(Memory {
            ttl: TTL,
            max_entries,
            prune_interval: INTERVAL,
        })
    }

    async fn ask(answers: &Numbers, question: u32) -> (u32, bool) {
        let answered = answers.get(question, || async move { Ok(question + 1) });
        let Answered { answer, was_known } = answered.await.unwrap();
        (answer, was_known)
    }

    #[tokio::test]
    async fn an_answer_counts_for_a_while() {
        let answers = answers(0);
        let before = Instant::now();
        assert_eq!(ask(&answers, 1).await, (2, false));
        assert_eq!(ask(&answers, 1).await, (2, true));
        let after = Instant::now();
        let mut state = answers.state.lock();
        assert_eq!(state.known_at(&1, before), Some(2));
        assert_eq!(state.known_at(&1, after + TTL), None);
        // Those that ended are thrown away when it is time, and no others.
        let due = after + INTERVAL;
        state.remember(2, 3, due, &answers.memory);
        state.prune_when_due(after + TTL, INTERVAL);
        assert_eq!((state.known.len(), state.order.len()), (2, 2));
        state.prune_when_due(due, INTERVAL);
        assert_eq!((state.known.len(), state.order.len()), (1, 1));
        assert_eq!(state.known_at(&2, due), Some(3));
    }

    /// Of what many ask at the same time, and of what is asked again and again.
    #[tokio::test]
    async fn what_was_replaced_takes_no_room() {
        let answers = answers(0);
        let asked = answers.now();
        for _ in 0..1000 {
            answers.remember(asked, [(1, 2), (2, 3)]);
        }
        assert_eq!(answers.state.lock().order.len(), 2);
        for number in 1..1000 {
            let later = AskedAt {
                at: asked.at + INSTANT * number,
                ..asked
            };
            answers.remember(later, [(1, 2), (2, 3)]);
        }
        let state = answers.state.lock();
        assert!(state.order.len() < 100, "{}", state.order.len());
        assert_eq!(state.known.len(), 2);
    }

    #[tokio::test]
    async fn what_ends_first_makes_room() {
        let answers = answers(2);
        let asked = answers.now();
        answers.remember(asked, [(1, 2), (2, 3)]);
        let later = AskedAt {
            at: asked.at + INSTANT,
            ..asked
        };
        answers.remember(later, [(1, 2), (3, 4)]);
        assert_eq!((answers.known(&1), answers.known(&3)), (Some(2), Some(4)));
        assert_eq!(answers.known(&2), None);
        let mut state = answers.state.lock();
        state.prune_when_due(Instant::now() + INTERVAL, INTERVAL);
        assert!(state.known.is_empty() && state.order.is_empty());
    }

    #[tokio::test]
    async fn one_question_is_asked_once() {
        let (answers, count, end) = (answers(0), Arc::new(AtomicUsize::new(0)), Arc::default());
        let ask = || {
            let (count, end) = (Arc::clone(&count), Arc::<Notify>::clone(&end));
            answers.get(1, move || async move {
                count.fetch_add(1, Ordering::SeqCst);
                end.notified().await;
                Ok(7)
            })
        };
        let ask_and_go = async || {
            tokio::select! {
                biased;
                _ = ask() => unreachable!("nobody lets it end"),
                () = std::future::ready(()) => {}
            }
        };
        let (mut one, mut other) = (Box::pin(ask()), Box::pin(ask()));
        // Nobody waits for this one any more: the next one asks anew. Those after it do not.
        ask_and_go().await;
        tokio::select! {
            biased;
            _ = &mut one => unreachable!("nobody lets it end"),
            _ = &mut other => unreachable!("nobody lets it end"),
            () = std::future::ready(()) => {}
        }
        ask_and_go().await;
        let asked = count.load(Ordering::SeqCst);
        end.notify_one();
        assert_eq!(
            (one.await.unwrap().answer, other.await.unwrap().answer),
            (7, 7)
        );
        assert_eq!((asked, count.load(Ordering::SeqCst)), (2, 2));
        assert_eq!(answers.known(&1), Some(7));
    }

    #[tokio::test]
    async fn what_was_asked_before_is_forgotten_too() {
        let answers = answers(0);
        let together = answers.now();
        let forgetful = answers.clone();
        let slow = answers.get(1, || async move {
            forgetful.forget();
            Ok(7)
        });
        assert_eq!(slow.await.unwrap().answer, 7);
        answers.remember(together, [(2, 3)]);
        assert_eq!((answers.known(&1), answers.known(&2)), (None, None));
    }

    #[tokio::test]
    async fn failures_and_what_must_not_be_remembered_are_asked_again() {
        let answers = answers(0);
        let failed = answers.get(1, || async { Err("down") }).await;
        assert_eq!(failed, Err("down"));
        assert_eq!(ask(&answers, 1).await, (2, false));
        let nothing = Answers::new(Memory {
            ttl: Duration::ZERO,
            max_entries: 0,
            prune_interval: INTERVAL,
        });
        ask(&nothing, 1).await;
        assert_eq!(ask(&nothing, 1).await, (2, false));
    }
}
