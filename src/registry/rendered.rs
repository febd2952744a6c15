//! [`Renderings`]: bodies as clients get them, rendered, hashed and compressed once for each state
//! of a document.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use moka::sync::Cache;
use parking_lot::Mutex;
use sha2::Digest as _;

use super::{
    compress::compress,
    documents::Document,
    flight::Flights,
    packument::{Form, Signing, View, render},
};
use crate::{
    error::RegistryError,
    lifecycle::{Lifecycle, compute},
    models::{BaseUrl, ContentCoding, PackageName, Timestamp},
};

/// Memory for rendered bodies in bytes.
const MAX_MEMORY: u64 = 256 * 1024 * 1024;
/// Addresses of this registry whose bodies are kept, for each package. Clients choose `Host`
/// freely; more of them cost time and no memory.
const MAX_BASES: usize = 8;
const BASES_KEPT_FOR: Duration = Duration::from_secs(600);

/// A body with what identifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// The bytes, in `coding`.
    pub body: Bytes,
    /// How `body` is compressed.
    pub coding: ContentCoding,
    /// The exact content type.
    pub content_type: &'static str,
    /// A strong entity tag with its quotes; differs between codings.
    pub etag: Arc<str>,
    /// When the document last changed.
    pub modified: Option<Timestamp>,
}

impl Rendering {
    /// `body`, uncompressed.
    pub(super) fn new(
        body: Bytes,
        content_type: &'static str,
        modified: Option<Timestamp>,
    ) -> Self {
        let hash = sha2::Sha256::digest(&body);
        let short = hash.get(..16).unwrap_or_default();
        Self {
            etag: format!("\"{}\"", hex::encode(short)).into(),
            body,
            coding: ContentCoding::Identity,
            content_type,
            modified,
        }
    }

    fn compressed(&self, coding: ContentCoding) -> Result<Self, RegistryError> {
        let Some(token) = coding.token() else {
            return Ok(self.clone());
        };
        Ok(Self {
            body: compress(&self.body, coding).map_err(RegistryError::internal)?,
            coding,
            etag: format!("\"{}-{token}\"", self.etag.trim_matches('"')).into(),
            ..self.clone()
        })
    }
}

/// Which body of a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    name: PackageName,
    form: Form,
    coding: ContentCoding,
    base: BaseUrl,
    signed_by: Option<SignedBy>,
}

/// What a client wants to get.
pub(super) struct Wanted<'a> {
    pub(super) form: Form,
    pub(super) base: &'a BaseUrl,
    pub(super) coding: ContentCoding,
    pub(super) signing: Option<Signing>,
}

/// What a rendering depends on of how it was signed: the key, and whether upstream's versions are.
type SignedBy = (Arc<str>, bool);

/// A body, and the state of the document that it shows.
#[derive(Clone, Debug)]
struct Kept {
    generation: Arc<str>,
    rendering: Rendering,
}

type Outcome = Result<Rendering, Arc<RegistryError>>;

/// Bodies that were asked for.
#[derive(Debug)]
pub(super) struct Renderings {
    kept: Cache<Key, Kept>,
    bases: Cache<PackageName, Arc<Mutex<Vec<BaseUrl>>>>,
    flights: Flights<(Key, Arc<str>), Outcome>,
}

impl Renderings {
    pub(super) fn new(lifecycle: Lifecycle) -> Self {
        let weight = |_: &Key, kept: &Kept| {
            u32::try_from(kept.rendering.body.len().saturating_add(512)).unwrap_or(u32::MAX)
        };
        Self {
            kept: Cache::builder()
                .max_capacity(MAX_MEMORY)
                .weigher(weight)
                .build(),
            bases: Cache::builder()
                .max_capacity(100_000)
                .time_to_live(BASES_KEPT_FOR)
                .build(),
            flights: Flights::new(lifecycle),
        }
    }

    /// The body of `document` for clients that see the registry at `base`.
    pub(super) async fn get(
        &self,
        name: &PackageName,
        document: &Arc<Document>,
        wanted: Wanted<'_>,
    ) -> Result<Rendering, RegistryError> {
        let Wanted {
            form,
            base,
            coding,
            signing,
        } = wanted;
        let signed_by =
            |signing: &Signing| (Arc::clone(signing.keys.keyid()), signing.signs_upstream);
        let key = Key {
            name: name.clone(),
            form,
            coding,
            base: base.clone(),
            signed_by: signing.as_ref().map(signed_by),
        };
        if let Some(rendering) = self.known(&key, document) {
            return Ok(rendering);
        }
        let identity = (coding != ContentCoding::Identity)
            .then(|| {
                let coding = ContentCoding::Identity;
                self.known(
                    &Key {
                        coding,
                        ..key.clone()
                    },
                    document,
                )
            })
            .flatten();
        let flight = (key.clone(), Arc::clone(&document.generation));
        let job = Job {
            key: key.clone(),
            document: Arc::clone(document),
            signing,
            identity,
            kept: self.is_admitted(name, base).then(|| self.kept.clone()),
        };
        let outcome = self.flights.join(flight, || job.run()).await;
        outcome
            .map_err(RegistryError::internal)?
            .map_err(RegistryError::internal)
    }

    fn known(&self, key: &Key, document: &Document) -> Option<Rendering> {
        let kept = self.kept.get(key)?;
        (kept.generation == document.generation).then_some(kept.rendering)
    }

    /// Whether bodies with this base are kept.
    fn is_admitted(&self, name: &PackageName, base: &BaseUrl) -> bool {
        let bases = self.bases.get_with(name.clone(), Arc::default);
        let mut bases = bases.lock();
        let is_new = !bases.contains(base);
        if is_new && bases.len() < MAX_BASES {
            bases.push(base.clone());
            return true;
        }
        !is_new
    }
}

/// Renders and compresses on the blocking pool.
struct Job {
    key: Key,
    document: Arc<Document>,
    signing: Option<Signing>,
    identity: Option<Rendering>,
    kept: Option<Cache<Key, Kept>>,
}

impl Job {
    async fn run(self) -> Outcome {
        let done = compute(move || self.render()).await;
        done.map_err(RegistryError::internal)
            .and_then(|outcome| outcome)
            .map_err(Arc::new)
    }

    fn render(self) -> Result<Rendering, RegistryError> {
        let Key {
            name, form, base, ..
        } = &self.key;
        let identity = self.identity.clone().unwrap_or_else(|| {
            let packument = &self.document.packument;
            let view = View {
                name,
                base,
                signing: self.signing.as_ref(),
                ours: &self.document.ours,
            };
            let body = render(packument, *form, view);
            let rendering = Rendering::new(body.into(), form.content_type(), packument.modified());
            self.keep(ContentCoding::Identity, &rendering);
            rendering
        });
        let rendering = identity.compressed(self.key.coding)?;
        if self.key.coding != ContentCoding::Identity {
            self.keep(self.key.coding, &rendering);
        }
        Ok(rendering)
    }

    fn keep(&self, coding: ContentCoding, rendering: &Rendering) {
        if let Some(kept) = &self.kept {
            let key = Key {
                coding,
                ..self.key.clone()
            };
            let generation = Arc::clone(&self.document.generation);
            let rendering = rendering.clone();
            kept.insert(
                key,
                Kept {
                    generation,
                    rendering,
                },
            );
        }
    }
}
