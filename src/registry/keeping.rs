//! [`Keeping`]: what is kept in the cache is written behind those who wait for it.

use std::{collections::HashMap, future::Future, hash::Hash, sync::Arc};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::lifecycle::Lifecycle;

/// The most things that are written at once. With a disk that does not keep up, more are not kept.
const MOST: usize = 1000;

/// Writes that are under way, by what they write, each with the one that follows it.
type UnderWay<K> = Arc<Mutex<HashMap<K, Option<BoxFuture<'static, ()>>>>>;

/// Writes of things in the cache, those of one thing one after another.
#[derive(Clone)]
pub(super) struct Keeping<K> {
    lifecycle: Lifecycle,
    under_way: UnderWay<K>,
}

impl<K> std::fmt::Debug for Keeping<K> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Keeping").finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Keeping<K> {
    pub(super) fn new(lifecycle: Lifecycle) -> Self {
        Self {
            lifecycle,
            under_way: Arc::default(),
        }
    }

    /// Begins `write`, which writes all of `key`, or lets it follow the one that is under way; the
    /// newest counts.
    pub(super) fn keep(&self, key: K, write: impl Future<Output = ()> + Send + 'static) {
        {
            let mut under_way = self.under_way.lock();
            if let Some(next) = under_way.get_mut(&key) {
                *next = Some(Box::pin(write));
                return;
            }
            if under_way.len() >= MOST {
                tracing::debug!("the cache does not keep up; something is not kept");
                return;
            }
            under_way.insert(key.clone(), None);
        }
        let mut end = End {
            key,
            under_way: Arc::clone(&self.under_way),
            has_come: false,
        };
        self.lifecycle.spawn(async move {
            write.await;
            while let Some(next) = end.next() {
                next.await;
            }
        });
    }
}

/// Takes a thing off the list, also when its task panics.
struct End<K: Eq + Hash> {
    key: K,
    under_way: UnderWay<K>,
    has_come: bool,
}

impl<K: Eq + Hash> End<K> {
    /// What is to be written next; once that is nothing, the next one to come begins anew.
    fn next(&mut self) -> Option<BoxFuture<'static, ()>> {
        let mut under_way = self.under_way.lock();
        let next = under_way.get_mut(&self.key).and_then(Option::take);
        if next.is_none() {
            under_way.remove(&self.key);
            self.has_come = true;
        }
        next
    }
}

impl<K: Eq + Hash> Drop for End<K> {
    fn drop(&mut self) {
        if !self.has_come {
            self.under_way.lock().remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn writes_of_one_thing_follow_one_another_and_the_newest_counts() {
        let lifecycle = Lifecycle::new();
        let keeping = Keeping::new(lifecycle.clone());
        let (open, opened) = tokio::sync::oneshot::channel::<()>();
        let (written, mut seen) = mpsc::unbounded_channel();
        let write = |number: u8| {
            let written = written.clone();
            async move { written.send(number).unwrap() }
        };
        let first = write(1);
        keeping.keep("a", async move {
            opened.await.unwrap();
            first.await;
        });
        keeping.keep("a", write(2));
        keeping.keep("a", write(3));
        keeping.keep("b", write(4));
        assert_eq!(seen.recv().await, Some(4));
        open.send(()).unwrap();
        assert_eq!((seen.recv().await, seen.recv().await), (Some(1), Some(3)));
        lifecycle.begin_shutdown();
        assert!(lifecycle.drain(std::time::Duration::from_secs(20)).await);
        assert!(keeping.under_way.lock().is_empty());
        keeping.keep("a", write(5));
        assert_eq!(seen.recv().await, Some(5));
    }
}
