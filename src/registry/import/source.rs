//! [`Source`]: the registry that packages are imported from, asked patiently.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use url::Url;

use crate::{
    error::RegistryError,
    lifecycle::{compute, compute_on, jittered},
    models::PackageName,
    uplink::{
        DirectAnswer, PackumentAnswer, Uplink, UplinkError, Validators, decode_packument,
        decoded_length,
    },
};

/// The largest list of packages in bytes.
const MAX_LIST: u64 = 256 * 1024 * 1024;
/// How many packages a page of a search has; Verdaccio gives no more.
const PAGE: usize = 250;
/// A registry that never comes to the end of a search is not believed any more.
const MAX_NAMES: usize = 5_000_000;
const MAX_ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// For longer, somebody is better told than kept waiting.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// Which packages are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// These.
    These(Vec<PackageName>),
    /// Those that a search finds.
    Found(String),
    /// All that the registry lists.
    All,
}

/// Another registry.
#[derive(Debug)]
pub struct Source {
    uplink: Uplink,
    turns: Arc<Semaphore>,
}

impl Source {
    /// The registry behind `uplink`, asked at most `at_once` questions at a time.
    pub fn new(uplink: Uplink, at_once: usize) -> Self {
        Self {
            uplink,
            turns: Arc::new(Semaphore::new(at_once.max(1))),
        }
    }

    /// Asks with `ask` in its turn, again where that may help.
    pub(in crate::registry) async fn patiently<T, F>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, UplinkError>
    where
        F: Future<Output = Result<T, UplinkError>>,
    {
        let mut attempt = 1;
        loop {
            let error = {
                // Never closed.
                let _turn = self.turns.acquire().await;
                match ask().await {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                }
            };
            let pause = pause_before_next(&error, attempt);
            let Some(pause) = pause.filter(|_| attempt < MAX_ATTEMPTS) else {
                return Err(error);
            };
            tracing::debug!(%error, attempt, "asking again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// The packument of `name`; `None` where there is none.
    pub(in crate::registry) async fn packument(
        &self,
        name: &PackageName,
    ) -> Result<Option<Bytes>, UplinkError> {
        let none = Validators::default();
        let answer = self
            .patiently(|| self.uplink.packument(name, &none))
            .await?;
        match answer {
            PackumentAnswer::Found { body, coding, .. } => {
                let length = decoded_length(&body, coding);
                let decoded = compute_on(length, move || decode_packument(&body, coding)).await;
                let decoded =
                    decoded.map_err(|_| UplinkError::BadBody("nobody could decode it"))?;
                decoded.map(Some)
            }
            PackumentAnswer::Missing => Ok(None),
            // Nothing was known that could be current.
            PackumentAnswer::NotModified => Err(UplinkError::BadStatus(304)),
        }
    }

    /// The client that asks.
    pub(in crate::registry) fn uplink(&self) -> &Uplink {
        &self.uplink
    }

    /// The registry's own address of a tarball.
    pub(in crate::registry) fn own_address(&self, name: &PackageName, file: &str) -> Option<Url> {
        let path = format!("{}/-/{file}", name.to_path_segment());
        self.uplink.url_of(&path).ok()
    }

    /// The names that are meant, each once, and texts that can be none.
    pub async fn names(
        &self,
        names: &Names,
    ) -> Result<(Vec<PackageName>, Vec<String>), RegistryError> {
        let found = match names {
            Names::These(names) => return Ok((names.clone(), Vec::new())),
            Names::Found(text) => self.search(text).await?,
            Names::All => self.all().await?,
        };
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for text in found {
            match text.parse() {
                Ok(name) => good.push(name),
                Err(_) => bad.push(text.chars().take(120).collect()),
            }
        }
        good.sort();
        good.dedup();
        Ok((good, bad))
    }

    /// All that the registry lists. Verdaccio's own list comes first, as it has what is hosted alone.
    async fn all(&self) -> Result<Vec<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        type Members = std::collections::BTreeMap<String, Box<RawValue>>;

        let mut has_list = false;
        let listed = self.list::<Vec<Named>>("-/verdaccio/data/packages").await?;
        if let Some(listed) = listed {
            has_list = true;
            if !listed.is_empty() {
                return Ok(listed.into_iter().map(|named| named.name).collect());
            }
        }
        if let Some(listed) = self.list::<Members>("-/all").await? {
            has_list = true;
            let is_package = |raw: &RawValue| raw.get().starts_with('{');
            let names = listed.into_iter().filter(|(_, raw)| is_package(raw));
            let names: Vec<String> = names.map(|(name, _)| name).collect();
            if !names.is_empty() {
                return Ok(names);
            }
        }
        match self.search("").await {
            Err(_) if has_list => Ok(Vec::new()),
            found => found,
        }
    }

    /// A list in JSON; `None` where the registry has none there, or something else.
    async fn list<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
    ) -> Result<Option<T>, RegistryError> {
        let answer = self.direct(path).await?;
        match answer.status.as_u16() {
            200 => {
                let parsed = compute(move || serde_json::from_slice(&answer.body).ok()).await;
                parsed.map_err(RegistryError::internal)
            }
            401 | 403 => Err(refused(answer.status.as_u16())),
            _ => Ok(None),
        }
    }

    async fn direct(&self, path: &str) -> Result<DirectAnswer, RegistryError> {
        let ask = || async {
            let answer = self
                .uplink
                .direct(path, "application/json", MAX_LIST)
                .await?;
            match answer.status.as_u16() {
                429 => Err(UplinkError::RateLimited {
                    retry_after: answer.retry_after.map(Duration::from_secs),
                }),
                status if status >= 500 && status != 501 => Err(UplinkError::BadStatus(status)),
                _ => Ok(answer),
            }
        };
        self.patiently(ask).await.map_err(|error| unusable(&error))
    }

    /// All pages of a search.
    async fn search(&self, text: &str) -> Result<Vec<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            objects: Vec<Object>,
        }
        #[derive(Deserialize)]
        struct Object {
            package: Package,
        }
        #[derive(Deserialize)]
        struct Package {
            name: String,
        }
        let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        let mut found = std::collections::BTreeSet::new();
        let mut from = 0;
        loop {
            let path = format!("-/v1/search?text={text}&size={PAGE}&from={from}");
            let answer = self.direct(&path).await?;
            let status = answer.status.as_u16();
            if matches!(status, 401 | 403) {
                return Err(refused(status));
            }
            let page = serde_json::from_slice::<Page>(&answer.body).ok();
            let Some(page) = page.filter(|_| status == 200) else {
                return Err(RegistryError::Settings {
                    message: format!(
                        "the source cannot be searched and lists no packages (status {status} for \
                         /-/v1/search); is it the address of a registry? Name the packages with \
                         --names or --lockfile"
                    ),
                });
            };
            let (length, before) = (page.objects.len(), found.len());
            found.extend(page.objects.into_iter().map(|object| object.package.name));
            // One that gives the same page again has come to its end too.
            if length == 0 || found.len() == before || found.len() > MAX_NAMES {
                return Ok(found.into_iter().collect());
            }
            from += length;
        }
    }
}

/// How long to wait before another attempt; `None` where it would not help.
fn pause_before_next(error: &UplinkError, attempt: u32) -> Option<Duration> {
    let growing = jittered(FIRST_PAUSE * 2_u32.saturating_pow(attempt));
    match error {
        UplinkError::RateLimited { retry_after } => {
            let pause = retry_after.unwrap_or(growing * 4);
            (pause <= LONGEST_RETRY_AFTER).then_some(pause)
        }
        UplinkError::Timeout(_) | UplinkError::Unreachable(_) | UplinkError::Truncated { .. } => {
            Some(growing)
        }
        UplinkError::BadStatus(status) => {
            (matches!(status, 408 | 500 | 502..=504)).then_some(growing)
        }
        _ => None,
    }
}

/// What is said where credentials are missing or wrong.
pub(super) const CREDENTIALS: &str = "set RUSTACCIO_IMPORT_TOKEN (or RUSTACCIO_IMPORT_USERNAME and \
    RUSTACCIO_IMPORT_PASSWORD), or name a file with credentials for it with --npmrc";

fn refused(status: u16) -> RegistryError {
    RegistryError::Settings {
        message: format!("the source answers {status}: {CREDENTIALS}"),
    }
}

/// The source cannot be used at all.
fn unusable(error: &UplinkError) -> RegistryError {
    RegistryError::Settings {
        message: format!(
            "the source cannot be used: {}",
            crate::error::explain(error)
        ),
    }
}
