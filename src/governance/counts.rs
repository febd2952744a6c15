//! [`Counts`]: a bounded number of counters, of which the oldest goes first.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Counters by key. All last equally long, so that the oldest is the first that is over.
#[derive(Debug)]
pub(super) struct Counts<T> {
    counters: HashMap<Arc<str>, T>,
    /// Each key once, oldest counter first.
    order: VecDeque<Arc<str>>,
    max_keys: usize,
}

impl<T> Counts<T> {
    /// At most `max_keys` counters.
    pub(super) fn new(max_keys: usize) -> Self {
        Self {
            counters: HashMap::new(),
            order: VecDeque::new(),
            max_keys: max_keys.max(1),
        }
    }

    /// Drops the oldest counters, as long as they are over.
    pub(super) fn forget_while(&mut self, is_over: impl Fn(&T) -> bool) {
        while let Some(key) = self.order.front() {
            if self.counters.get(key).is_some_and(|first| !is_over(first)) {
                return;
            }
            self.counters.remove(key);
            self.order.pop_front();
        }
    }

    /// What `change` does to the counter of `key`, which is made where there is none. Where there
    /// are too many the oldest goes.
    pub(super) fn with<R>(
        &mut self,
        key: &str,
        make: impl FnOnce() -> T,
        change: impl FnOnce(&mut T) -> R,
    ) -> R {
        if let Some(counter) = self.counters.get_mut(key) {
            return change(counter);
        }
        let mut counter = make();
        let result = change(&mut counter);
        while self.order.len() >= self.max_keys
            && let Some(oldest) = self.order.pop_front()
        {
            self.counters.remove(&oldest);
        }
        let key: Arc<str> = key.into();
        self.order.push_back(Arc::clone(&key));
        self.counters.insert(key, counter);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let mut counts = Counts::new(3);
        let add = |counts: &mut Counts<(u32, u32)>, key: &str, at: u32| {
            counts.with(
                key,
                || (at, 0),
                |(_, count)| {
                    *count += 1;
                    *count
                },
            )
        };
        for (at, key) in (1..).zip(["a", "b", "c"]) {
            assert_eq!(add(&mut counts, key, at), 1);
            assert_eq!(add(&mut counts, key, at), 2);
        }
        assert_eq!(add(&mut counts, "d", 4), 1, "the fourth takes the first's");
        assert_eq!(add(&mut counts, "b", 5), 3);
        assert_eq!(add(&mut counts, "a", 6), 1, "which begins anew");
        counts.forget_while(|(at, _)| *at < 4);
        assert_eq!(counts.counters.len(), 2);
        assert_eq!(counts.order.len(), 2);
        assert_eq!(add(&mut counts, "d", 7), 2);
        counts.forget_while(|_| true);
        assert!(counts.counters.is_empty() && counts.order.is_empty());
    }
}
