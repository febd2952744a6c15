//! [`Hops`]: which registries a request came through, so that none ends up asking itself.

use std::sync::Arc;

use super::{Errand, RequestId};

/// The most registries that may stand in a row.
const MAX_HOPS: usize = 8;

/// The registries that a request came through, the present one included, by their instances' names.
///
/// They belong to a task as its span does: what it spawns through [`super::Lifecycle::spawn`]
/// inherits them, and what is asked upstream on its behalf names them. Anybody may invent some, so
/// that what they lead to holds for those who came the same way, and for nobody else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hops(Option<Arc<str>>);

/// The request has been here before, or came through more registries than stand in any row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request goes round in circles")]
pub struct Circle;

impl Hops {
    /// The header that carries them, with commas between names.
    pub const HEADER: &str = "x-rustaccio-hops";

    /// What a request with this header has come through once it is at `instance`.
    pub fn arrived(header: Option<&str>, instance: &Arc<str>) -> Result<Self, Circle> {
        let Some(header) = header else {
            return Ok(Self(Some(Arc::clone(instance))));
        };
        let instance: &str = instance;
        let mut hops: Vec<&str> = header
            .split(',')
            .map(str::trim)
            .filter(|name| is_name(name))
            .collect();
        if hops.contains(&instance) || hops.len() >= MAX_HOPS {
            return Err(Circle);
        }
        hops.push(instance);
        Ok(Self(Some(hops.join(",").into())))
    }

    /// Those of the present task.
    pub fn current() -> Self {
        Errand::look(|errand| errand.hops.clone())
    }

    /// The text of the header; `None` for work that no request asked for.
    pub fn as_header(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// `task` on behalf of a request that came through these.
    pub fn scope<F: Future>(self, task: F) -> impl Future<Output = F::Output> {
        let request = RequestId::current();
        let hops = self;
        Errand { hops, request }.scope(task)
    }
}

/// Whether a text is the name of an instance: what others write is not passed on.
fn is_name(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{Lifecycle, random_hex};

    #[test]
    fn a_circle_is_seen_by_whoever_is_in_it() {
        let [a, b]: [Arc<str>; 2] = [random_hex::<8>().into(), random_hex::<8>().into()];
        let at_a = Hops::arrived(None, &a).unwrap();
        // Nearly every request: nothing is made for it.
        assert!(at_a.0.as_ref().is_some_and(|hops| Arc::ptr_eq(hops, &a)));
        let at_b = Hops::arrived(at_a.as_header(), &b).unwrap();
        assert_eq!(at_b.as_header(), Some(format!("{a},{b}").as_str()));
        for header in [at_a, at_b] {
            assert_eq!(Hops::arrived(header.as_header(), &a), Err(Circle));
        }
        let rubbish = Hops::arrived(Some("x, , \"y\""), &a).unwrap();
        assert_eq!(rubbish.as_header(), Some(&*a));
        let many = [&*b; MAX_HOPS].join(",");
        assert_eq!(Hops::arrived(Some(&many), &a), Err(Circle));
    }

    #[tokio::test]
    async fn spawned_work_inherits_them() {
        let lifecycle = Lifecycle::new();
        assert_eq!(Hops::current(), Hops::default());
        let hops = Hops::arrived(None, &random_hex::<8>().into()).unwrap();
        let spawned = hops.clone().scope(async {
            let task = lifecycle.spawn(async { Hops::current() });
            task.await.unwrap()
        });
        assert_eq!(spawned.await, hops);
    }
}
