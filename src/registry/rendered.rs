//! [`Renderings`]: bodies as clients get them, rendered, hashed and compressed once for each state
//! of a document.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use moka::sync::Cache;
use parking_lot::Mutex;
use sha2::Digest as _;

use super::{
    compress::{Compressor, Effort, compress},
    document::Document,
    flight::Flights,
    packument::{Form, Signing, View, render_pieces},
};
use crate::{
    error::RegistryError,
    lifecycle::{Lifecycle, compute_on},
    models::{BaseUrl, ContentCoding, PackageName, Timestamp, http_date},
    telemetry::{Cached, Metrics},
};

/// Memory for rendered bodies in bytes.
const MAX_MEMORY: u64 = 128 * 1024 * 1024;
/// Addresses of this registry whose bodies are kept, for each package. Clients choose `Host`
/// freely; more of them cost time and no memory.
const MAX_BASES: usize = 8;
const BASES_KEPT_FOR: Duration = Duration::from_secs(600);
/// Who has been asked for so often will be asked for again.
const OFTEN: u32 = 8;

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
    /// The same as `Last-Modified` has it.
    pub last_modified: Option<Arc<str>>,
}

impl Rendering {
    /// `body`, uncompressed.
    pub(super) fn new(
        body: Bytes,
        content_type: &'static str,
        modified: Option<Timestamp>,
    ) -> Self {
        let digest = sha2::Sha256::digest(&body);
        Self {
            etag: etag(&digest, ContentCoding::Identity),
            body,
            coding: ContentCoding::Identity,
            content_type,
            modified,
            last_modified: modified.map(|modified| http_date(modified).into()),
        }
    }

    fn compressed(&self, coding: ContentCoding, effort: Effort) -> io::Result<Self> {
        let Some(token) = coding.token() else {
            return Ok(self.clone());
        };
        Ok(Self {
            body: compress(&self.body, coding, effort)?,
            coding,
            etag: format!("\"{}-{token}\"", self.etag.trim_matches('"')).into(),
            ..self.clone()
        })
    }
}

/// The tag is that of the content, with this SHA-256, and the coding: nobody gets parts of a body,
/// so that it need not tell how well that was compressed.
fn etag(digest: &[u8], coding: ContentCoding) -> Arc<str> {
    let short = hex::encode(digest.get(..16).unwrap_or_default());
    match coding.token() {
        Some(token) => format!("\"{short}-{token}\"").into(),
        None => format!("\"{short}\"").into(),
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
    /// How often it was asked for while it is compressed quickly; `None` once it is well.
    asked: Option<Arc<AtomicU32>>,
}

type Outcome = Result<Rendering, Arc<RegistryError>>;

/// Bodies that were asked for.
#[derive(Debug)]
pub(super) struct Renderings {
    lifecycle: Lifecycle,
    metrics: Metrics,
    kept: Cache<Key, Kept>,
    bases: Cache<PackageName, Arc<Mutex<Vec<BaseUrl>>>>,
    flights: Flights<(Key, Arc<str>), Outcome>,
}

impl Renderings {
    pub(super) fn new(lifecycle: Lifecycle, metrics: Metrics) -> Self {
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
            flights: Flights::new(lifecycle.clone()),
            lifecycle,
            metrics,
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
        let known = self.known(&key, document, signing.as_ref());
        self.metrics.looked(Cached::Rendered, known.is_some());
        if let Some(rendering) = known {
            return Ok(rendering);
        }
        Box::pin(self.make(key, document, signing)).await
    }

    /// Renders what is not there yet, once for all who ask for it.
    async fn make(
        &self,
        key: Key,
        document: &Arc<Document>,
        signing: Option<Signing>,
    ) -> Result<Rendering, RegistryError> {
        let flight = (key.clone(), Arc::clone(&document.generation));
        let is_admitted = self.is_admitted(&key.name, &key.base);
        let job = Job {
            identity: self.identity(&key, document),
            document: Arc::clone(document),
            signing,
            effort: Effort::Quick,
            kept: is_admitted.then(|| self.kept.clone()),
            key,
        };
        let outcome = self.flights.join(flight, || job.run()).await;
        outcome
            .map_err(RegistryError::internal)?
            .map_err(RegistryError::internal)
    }

    /// The body that is there. One that many ask for is compressed again, and better, behind their
    /// backs.
    fn known(
        &self,
        key: &Key,
        document: &Arc<Document>,
        signing: Option<&Signing>,
    ) -> Option<Rendering> {
        let kept = self.kept.get(key)?;
        if kept.generation != document.generation {
            return None;
        }
        if let Some(asked) = kept.asked
            && asked.fetch_add(1, Ordering::Relaxed) == OFTEN
        {
            self.improve(key.clone(), document, signing.cloned());
        }
        Some(kept.rendering)
    }

    fn improve(&self, key: Key, document: &Arc<Document>, signing: Option<Signing>) {
        let job = Job {
            identity: self.identity(&key, document),
            key,
            document: Arc::clone(document),
            signing,
            effort: Effort::Thorough,
            kept: Some(self.kept.clone()),
        };
        self.lifecycle.spawn_untracked(async move {
            if let Err(error) = job.run().await {
                tracing::warn!(error = &*error as &dyn std::error::Error, "cannot compress");
            }
        });
    }

    /// The body that `key` is a compressed form of, if it is there.
    fn identity(&self, key: &Key, document: &Document) -> Option<Rendering> {
        let key = Key {
            coding: ContentCoding::Identity,
            ..key.clone()
        };
        let kept = self.kept.get(&key)?;
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
    effort: Effort,
    kept: Option<Cache<Key, Kept>>,
}

impl Job {
    async fn run(self) -> Outcome {
        let length = match self.effort {
            Effort::Quick => self.document.length,
            Effort::Thorough => usize::MAX,
        };
        let done = compute_on(length, move || self.render()).await;
        done.map_err(RegistryError::internal)
            .and_then(|outcome| outcome)
            .map_err(Arc::new)
    }

    fn render(self) -> Result<Rendering, RegistryError> {
        let rendering = match &self.identity {
            Some(identity) => identity.compressed(self.key.coding, self.effort),
            None => self.render_anew(),
        };
        let rendering = rendering.map_err(RegistryError::internal)?;
        self.keep(&rendering);
        Ok(rendering)
    }

    /// Compresses and hashes what is rendered as it comes: the whole of it, uncompressed, is ten
    /// times as large, and hardly anybody wants it.
    fn render_anew(&self) -> io::Result<Rendering> {
        let Key {
            name,
            form,
            base,
            coding,
            ..
        } = &self.key;
        let packument = &self.document.packument;
        if *form == Form::Full {
            // Its answers tell caches of it: to be found out here and not on the way out.
            let _ = self.document.unsigned_from();
        }
        let view = View {
            name,
            base,
            signing: self.signing.as_ref(),
            ours: &self.document.ours,
        };
        let mut hasher = sha2::Sha256::new();
        let mut compressor = Compressor::new(*coding, self.effort, self.document.length)?;
        render_pieces(packument, *form, view, |piece| {
            hasher.update(piece);
            compressor.write(piece)
        })?;
        let modified = packument.modified();
        Ok(Rendering {
            body: compressor.finish()?,
            coding: *coding,
            content_type: form.content_type(),
            etag: etag(&hasher.finalize(), *coding),
            modified,
            last_modified: modified.map(|modified| http_date(modified).into()),
        })
    }

    fn keep(&self, rendering: &Rendering) {
        let Some(kept) = &self.kept else {
            return;
        };
        let is_improvable =
            self.key.coding != ContentCoding::Identity && self.effort == Effort::Quick;
        kept.insert(
            self.key.clone(),
            Kept {
                generation: Arc::clone(&self.document.generation),
                rendering: rendering.clone(),
                asked: is_improvable.then(Arc::default),
            },
        );
    }
}
