//! What is in the cache of upstream: counted, and listed for whoever may read it.
//!
//! Looking at all of a cache takes its time, so that it is done behind whoever asks, no more often than it is
//! worth, and what was found is remembered: of packages a bounded number, those that were used last.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::{
    Registry,
    flight::{Flights, Lost},
};
use crate::{
    error::RegistryError,
    lifecycle::{Lifecycle, compute},
    models::{Action, Caller, PackageName, Timestamp, UplinkName},
    storage::{CacheStats, CachedPackage, StorageError, Survey},
};

/// How many packages are remembered.
const MAX_PACKAGES: usize = 100_000;
/// How long somebody waits for a look at all of the cache.
const PATIENCE: Duration = Duration::from_secs(2);
/// For how many times as long as a look took, what it found is believed.
const WORTH: u32 = 20;
/// For how long at least what is shared is believed: looking at it costs requests.
const SHARED_WORTH: Duration = Duration::from_mins(15);
/// How many packages one question is about at most, so that whoever may see few of them does not ask about
/// all.
const MAX_LOOKS: usize = 2000;
/// How many manifests are looked at a time.
const AT_ONCE: usize = 8;

/// A part of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CachePart {
    /// What is on this machine.
    Local,
    /// What nodes share.
    Shared,
}

/// What was in a part of the cache when somebody last looked.
#[derive(Debug)]
pub struct Surveyed {
    /// When that was.
    pub at: Timestamp,
    /// How much there was.
    pub stats: CacheStats,
    /// The packages that were used last, the last one first, each with the rule that decides about it.
    packages: Vec<(CachedPackage, Option<usize>)>,
    /// How many others there were.
    others: usize,
    is_good_until: Instant,
}

type Looked = Result<Arc<Surveyed>, Arc<StorageError>>;

/// Looks at the cache.
#[derive(Debug)]
pub(super) struct Surveys {
    flights: Flights<CachePart, Looked>,
    last: Arc<Mutex<HashMap<CachePart, Arc<Surveyed>>>>,
}

impl Surveys {
    pub(super) fn new(lifecycle: Lifecycle) -> Self {
        Self {
            flights: Flights::new(lifecycle),
            last: Arc::default(),
        }
    }
}

/// Where a page of the list begins: behind this package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// When it was used.
    pub used: Timestamp,
    /// Its name.
    pub name: PackageName,
}

/// A page of the list of what is on this machine.
#[derive(Debug)]
pub struct CachedPage {
    /// The packages, what was used last first.
    pub rows: Vec<CachedRow>,
    /// Where the next page begins, if there is one.
    pub more: Option<Behind>,
    /// When somebody looked at all of the cache; `None` where the first look still goes on.
    pub at: Option<Timestamp>,
    /// How many packages are left out, because too many were used later.
    pub others: usize,
    /// Whether it ends before its end, because the caller may see few of those that were looked at.
    pub is_cut: bool,
    /// Whether nodes share a cache, of which this is only what is here.
    pub is_shared: bool,
}

/// A package in that list.
#[derive(Clone, Debug)]
pub struct CachedRow {
    /// What is there of it.
    pub package: CachedPackage,
    /// When upstream last said that its document is current.
    pub fetched_at: Option<Timestamp>,
}

impl Registry {
    /// What is in a part of the cache, as somebody who looked lately has found it; `None` while the first
    /// look goes on.
    pub async fn cache_survey(
        &self,
        part: CachePart,
    ) -> Result<Option<Arc<Surveyed>>, RegistryError> {
        let last = self.surveys.last.lock().get(&part).cloned();
        if let Some(last) = &last
            && Instant::now() < last.is_good_until
        {
            return Ok(Some(Arc::clone(last)));
        }
        let looking = self.surveys.flights.join(part, || self.look(part));
        match timeout(PATIENCE, looking).await {
            Ok(Ok(Ok(found))) => Ok(Some(found)),
            Ok(Ok(Err(error))) => Err(StorageError::shared(&error).into()),
            Ok(Err(Lost)) => Err(RegistryError::internal(Lost)),
            Err(_) => Ok(last),
        }
    }

    /// Looks at all of it, and remembers what it finds.
    fn look(&self, part: CachePart) -> impl Future<Output = Looked> + Send + 'static {
        let (cache, clock) = (self.store.cache().clone(), Arc::clone(&self.clock));
        let (policy, uplinks) = (
            Arc::clone(&self.policy),
            Arc::clone(&self.documents.uplinks),
        );
        let last = Arc::clone(&self.surveys.last);
        async move {
            let (at, began) = (clock.now(), Instant::now());
            // The one that whoever asks for the name gets.
            let choose = {
                let policy = Arc::clone(&policy);
                move |name: &PackageName, sources: &[&str]| -> Option<UplinkName> {
                    let proxied = policy.proxies_of(name).iter();
                    let mut proxied = proxied.filter_map(|uplink| uplinks.get(uplink));
                    let first = proxied.find(|uplink| sources.contains(&uplink.name().as_str()));
                    first.map(|uplink| uplink.name().clone())
                }
            };
            let survey = match part {
                CachePart::Local => cache.survey(MAX_PACKAGES, choose).await?,
                CachePart::Shared => Survey {
                    stats: cache.survey_shared().await?.unwrap_or_default(),
                    ..Survey::default()
                },
            };
            let with_rules = compute(move || {
                let packages = survey.packages.into_iter().map(|package| {
                    let rule = policy.rule_of(&package.name);
                    (package, rule)
                });
                (packages.collect(), survey.stats, survey.others)
            });
            let (packages, stats, others) = with_rules
                .await
                .map_err(|error| StorageError::backend("looking at the cache", error))?;
            let worth = began.elapsed().saturating_mul(WORTH);
            let worth = match part {
                CachePart::Local => worth,
                CachePart::Shared => worth.max(SHARED_WORTH),
            };
            let surveyed = Arc::new(Surveyed {
                at,
                stats,
                packages,
                others,
                is_good_until: Instant::now() + worth,
            });
            last.lock().insert(part, Arc::clone(&surveyed));
            Ok(surveyed)
        }
    }

    /// The packages of upstream that are on this machine and that `caller` may read, at most `most` of them
    /// from `behind` on, what was used last first.
    #[tracing::instrument(name = "registry.cached_packages", skip_all)]
    pub async fn cached_packages(
        &self,
        caller: &Caller,
        behind: Option<&Behind>,
        most: usize,
    ) -> Result<CachedPage, RegistryError> {
        let is_shared = self.store.cache().is_shared();
        let Some(surveyed) = self.cache_survey(CachePart::Local).await? else {
            return Ok(CachedPage {
                rows: Vec::new(),
                more: None,
                at: None,
                others: 0,
                is_cut: false,
                is_shared,
            });
        };
        let (mut found, is_cut) = self
            .readable_cached(caller, &surveyed, behind, most)
            .await?;
        let has_more = found.len() > most;
        found.truncate(most);
        let last = found.last().filter(|_| has_more || is_cut);
        let more = last.map(|last| Behind {
            used: last.used,
            name: last.name.clone(),
        });
        let rows = stream::iter(found).map(|package| async move {
            let fetched = self.store.cache();
            let fetched = fetched.fetched_at(&package.name, &package.uplink).await;
            CachedRow {
                // One that cannot be read is fetched again by whoever wants it.
                fetched_at: fetched.unwrap_or_default(),
                package,
            }
        });
        Ok(CachedPage {
            rows: rows.buffered(AT_ONCE).collect().await,
            more: more.filter(|_| has_more),
            at: Some(surveyed.at),
            others: surveyed.others,
            is_cut: is_cut && !has_more,
            is_shared,
        })
    }

    /// The first of those packages, one more than `most` where there are more, and whether there may be
    /// others that were not looked at.
    async fn readable_cached(
        &self,
        caller: &Caller,
        surveyed: &Surveyed,
        behind: Option<&Behind>,
        most: usize,
    ) -> Result<(Vec<CachedPackage>, bool), RegistryError> {
        let start = behind.map_or(0, |behind| surveyed.start(behind));
        let rest = surveyed.packages.get(start..).unwrap_or_default();
        // Decided here, or about many at a time by others.
        let readable = self.policy.readable(caller);
        let is_readable = |entry: &&(CachedPackage, Option<usize>)| {
            let (package, rule) = entry;
            readable
                .as_ref()
                .is_none_or(|readable| readable.covers(&package.name, *rule))
        };
        let mut candidates = rest.iter().filter(is_readable).map(|(package, _)| package);
        let (mut found, mut looks) = (Vec::new(), 0);
        while found.len() <= most {
            if looks >= MAX_LOOKS {
                return Ok((found, candidates.next().is_some()));
            }
            let stride = match &readable {
                Some(_) => most + 1 - found.len(),
                None => self.policy.stride(),
            };
            let next: Vec<CachedPackage> = candidates.by_ref().take(stride).cloned().collect();
            if next.is_empty() {
                break;
            }
            looks += next.len();
            let may_read = match &readable {
                Some(_) => vec![true; next.len()],
                None => {
                    let names: Vec<&PackageName> = next.iter().map(|it| &it.name).collect();
                    self.policy.readable_of(caller, &names).await?
                }
            };
            let mut looks_at = Vec::with_capacity(next.len());
            for (package, may_read) in next.into_iter().zip(may_read) {
                if may_read {
                    looks_at.push(self.unless_hidden(caller, package));
                }
            }
            let mut looked = stream::iter(looks_at).buffered(AT_ONCE);
            while let Some(package) = looked.try_next().await? {
                found.extend(package);
            }
        }
        found.truncate(most + 1);
        Ok((found, false))
    }

    /// `package`, if `caller` gets it who asks for it.
    async fn unless_hidden(
        &self,
        caller: &Caller,
        package: CachedPackage,
    ) -> Result<Option<CachedPackage>, RegistryError> {
        let is_shown = self.is_shown_as_cached(caller, &package.name).await?;
        Ok(is_shown.then_some(package))
    }

    /// Whether `caller`, whom the rules let read `name`, gets something of upstream when she asks for it: it
    /// may be hosted too.
    async fn is_shown_as_cached(
        &self,
        caller: &Caller,
        name: &PackageName,
    ) -> Result<bool, RegistryError> {
        let Some(hosted) = self.documents.hosted(name).await? else {
            return Ok(true);
        };
        if !self.documents.merges(name, Some(&hosted)) {
            return Ok(false);
        }
        let restrictions = hosted.manifest.restrictions();
        let owners = || hosted.manifest.packument().maintainers();
        let within = caller.within_limits(name);
        Ok(restrictions.is_empty() || restrictions.allow(&within, Action::Access, &owners()))
    }
}

impl Surveyed {
    /// The place of the first package behind that one, which need not be there any more.
    fn start(&self, behind: &Behind) -> usize {
        self.packages.partition_point(|(package, _)| {
            package.used > behind.used
                || (package.used == behind.used && package.name <= behind.name)
        })
    }
}
