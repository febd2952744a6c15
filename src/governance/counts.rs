//! [`Counts`]: a bounded number of counters, of which the oldest goes first.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Counters by key, each with its beginning `B`. All last equally long, so that the oldest is the
/// first that is over.
#[derive(Debug)]
pub(super) struct Counts<B, T> {
    counters: HashMap<Arc<str>, T>,
    /// Each key once, oldest counter first.
    order: VecDeque<(B, Arc<str>)>,
    max_keys: usize,
}

impl<B, T> Counts<B, T> {
    /// At most `max_keys` counters.
    pub(super) fn new(max_keys: usize) -> Self {
        Self {
            counters: HashMap::new(),
            order: VecDeque::new(),
            max_keys: max_keys.max(1),
        }
    }

    /// Drops the oldest counters, as long as those are over that began then.
    pub(super) fn forget_while(&mut self, is_over: impl Fn(&B) -> bool) {
        while let Some((_, key)) = self.order.pop_front_if(|(begun, _)| is_over(begun)) {
            self.counters.remove(&key);
        }
    }

    /// What `change` does to the counter of `key`, which is made where there is none and has then
    /// `begun`. Where there are too many the oldest goes.
    pub(super) fn with<R>(
        &mut self,
        key: &str,
        begun: B,
        make: impl FnOnce() -> T,
        change: impl FnOnce(&mut T) -> R,
    ) -> R {
        if let Some(counter) = self.counters.get_mut(key) {
            return change(counter);
        }
        let mut counter = make();
        let result = change(&mut counter);
        while self.order.len() >= self.max_keys
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.counters.remove(&oldest);
        }
        let key: Arc<str> = key.into();
        self.order.push_back((begun, Arc::clone(&key)));
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
        let add = |counts: &mut Counts<u32, u32>, key: &str, at: u32| {
            let count = |count: &mut u32| {
                *count += 1;
                *count
            };
            counts.with(key, at, || 0, count)
        };
        for (at, key) in (1..).zip(["a", "b", "c"]) {
            assert_eq!(add(&mut counts, key, at), 1);
            assert_eq!(add(&mut counts, key, at), 2);
        }
        assert_eq!(add(&mut counts, "d", 4), 1, "the fourth takes the first's");
        assert_eq!(add(&mut counts, "b", 5), 3);
        assert_eq!(add(&mut counts, "a", 6), 1, "which begins anew");
        counts.forget_while(|at| *at < 4);
        assert_eq!(counts.counters.len(), 2);
        assert_eq!(counts.order.len(), 2);
        assert_eq!(add(&mut counts, "d", 7), 2);
        counts.forget_while(|_| true);
        assert!(counts.counters.is_empty() && counts.order.is_empty());
    }
}
