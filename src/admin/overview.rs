//! [`Overview`]: what an administrator sees at a glance. Each part fails for itself, and none takes long.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{Administration, Progress, Reindexing, StorageReport};
use crate::{
    error::RegistryError,
    models::{Caller, Timestamp},
    registry::{CachePart, Surveyed},
    storage::Care,
    uplink::Standing,
};

/// How long is waited for one part.
const PATIENCE: Duration = Duration::from_secs(3);
/// Users on a page.
const USERS: usize = 50;
/// Lines of the trail of audit.
const LINES: usize = 50;

/// What an administrator sees at a glance.
#[derive(Debug)]
pub struct Overview {
    /// Whether storage answers.
    pub storage: Result<(), RegistryError>,
    /// The report on storage.
    pub report: Progress<StorageReport>,
    /// Reindexing.
    pub reindexing: Progress<Reindexing>,
    /// The uplinks, in the order of the settings.
    pub uplinks: Vec<Standing>,
    /// The cache of upstream.
    pub cache: CacheOverview,
    /// The users that are kept here.
    pub users: Result<UsersPage, RegistryError>,
    /// Whether others keep users too.
    pub are_users_elsewhere: bool,
    /// The last lines of the trail of audit, the newest first; `None` where there is no trail.
    pub trail: Option<Result<Vec<String>, String>>,
}

/// How much is in the cache of upstream, and how it is kept in its bounds.
#[derive(Debug)]
pub struct CacheOverview {
    /// Its folder on this machine.
    pub folder: PathBuf,
    /// How this node keeps it in its bounds.
    pub care: Care,
    /// What is on this machine; `None` while it is counted for the first time.
    pub local: Result<Option<Arc<Surveyed>>, RegistryError>,
    /// The same of what nodes share, if they do.
    pub shared: Option<Result<Option<Arc<Surveyed>>, RegistryError>>,
}

/// Some users.
#[derive(Clone, Debug)]
pub struct UsersPage {
    /// Those on this page.
    pub users: Vec<UserSummary>,
    /// The last of them, where there are more.
    pub more: Option<String>,
    /// How many there are.
    pub count: usize,
}

/// A user in short.
#[derive(Clone, Debug)]
pub struct UserSummary {
    /// Her name.
    pub name: String,
    /// When she registered.
    pub created: Timestamp,
    /// Whether a second factor protects her account.
    pub has_second_factor: bool,
}

impl Administration {
    /// What there is to see, with the users behind the one of this name; for those who may look.
    #[tracing::instrument(name = "admin.overview", skip_all)]
    pub async fn overview(
        &self,
        caller: &Caller,
        users_after: Option<&str>,
    ) -> Result<Overview, RegistryError> {
        self.require_to_look(caller)?;
        let (storage, cache, users, trail) = tokio::join!(
            in_time(self.registry.check_storage()),
            self.cache(),
            in_time(self.users(users_after)),
            self.events.last_lines(LINES),
        );
        Ok(Overview {
            storage,
            report: self.reporting.progress(),
            reindexing: self.reindexing.progress(),
            uplinks: self.registry.uplinks(),
            cache,
            users,
            are_users_elsewhere: !self.auth.knows_all_users(),
            trail: trail.map(|lines| lines.map_err(|error| error.to_string())),
        })
    }

    async fn cache(&self) -> CacheOverview {
        let cache = self.registry.cache();
        let shared = async {
            if !cache.is_shared() {
                return None;
            }
            Some(in_time(self.registry.cache_survey(CachePart::Shared)).await)
        };
        let local = in_time(self.registry.cache_survey(CachePart::Local));
        let (local, shared) = tokio::join!(local, shared);
        CacheOverview {
            folder: cache.folder().to_owned(),
            care: cache.care(),
            local,
            shared,
        }
    }

    async fn users(&self, after: Option<&str>) -> Result<UsersPage, RegistryError> {
        let accounts = self.auth.accounts();
        let count = accounts.user_count().await?;
        let mut users = accounts.users_after(after, USERS + 1).await?;
        let has_more = users.len() > USERS;
        users.truncate(USERS);
        let more = users.last().filter(|_| has_more);
        Ok(UsersPage {
            more: more.map(|(name, _)| name.clone()),
            users: users
                .into_iter()
                .map(|(name, user)| UserSummary {
                    name,
                    created: user.created,
                    has_second_factor: user
                        .second_factor
                        .as_ref()
                        .is_some_and(|factor| !factor.pending),
                })
                .collect(),
            count,
        })
    }
}

/// What comes of a part of the overview; the failure of one that takes too long.
async fn in_time<T>(
    part: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, RegistryError> {
    let done = timeout(PATIENCE, part).await.unwrap_or_else(|_| {
        Err(RegistryError::Unavailable {
            message: "it does not answer in time".to_owned(),
        })
    });
    if let Err(error) = &done {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "a part of the overview is missing"
        );
    }
    done
}
