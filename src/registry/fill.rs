//! [`Fills`]: tarballs on their way from upstream to the cache. All who want one follow one
//! download, and read the file as it grows.

use std::{collections::HashMap, fs::File, io, sync::Arc};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::Instrument as _;
use url::Url;

use super::{
    small_tarballs::{Promised, SMALL, SmallTarballs},
    upstream_documents::warn_of_cache,
};
use crate::{
    error::RegistryError,
    lifecycle::{Hops, Lifecycle, SharedClock, Watch, compute_on, elsewhere, following},
    models::{Digest, Integrity, PackageName, TarballName, Verifier},
    storage::{FileBlob, Pieces, StorageError, Store, TemporaryBlob},
    uplink::{Uplink, UplinkError},
};

/// Why a download failed; shared by all who follow it.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum FillError {
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    #[error("the tarball is not what the packument says: {found} instead of {expected}")]
    Mismatch { expected: String, found: String },
    #[error("the cache failed")]
    Storage(#[source] Arc<StorageError>),
    #[error("the download was given up")]
    Lost,
}

impl From<FillError> for RegistryError {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Uplink(error) => error.into(),
            FillError::Mismatch { .. } => Self::UpstreamBadGateway {
                message: "the uplink's tarball does not have the integrity that its packument \
                          promises"
                    .to_owned(),
                source: error.into(),
            },
            FillError::Storage(_) => Self::StorageUnavailable(error.into()),
            FillError::Lost => Self::internal(error),
        }
    }
}

/// How far a download is.
#[derive(Clone, Debug)]
enum Progress {
    /// Nothing has come.
    Asked,
    /// Upstream does not have it.
    Missing,
    /// All bytes of a small one are there and verified.
    Whole(Bytes),
    /// This many bytes may be read.
    Growing {
        file: Arc<File>,
        length: Option<u64>,
        readable: u64,
    },
    /// All bytes are there and verified.
    Done { file: Arc<File>, length: u64 },
    /// It failed.
    Failed(FillError),
}

/// A tarball that upstream has.
pub(super) enum Followed {
    /// All of it.
    Whole(Bytes),
    /// It is being downloaded, or was a moment ago.
    Growing(Following),
}

/// A tarball that is being downloaded, or was a moment ago.
pub(super) struct Following {
    pub(super) length: Option<u64>,
    progress: watch::Receiver<Progress>,
}

/// Which tarball, and with which bytes; for whom, if only those may share it who came the same way.
type Key = (PackageName, TarballName, Digest, Option<Hops>);

/// A download that is under way.
#[derive(Clone, Debug)]
struct Fill {
    progress: watch::Receiver<Progress>,
    watch: Watch,
    /// What the request came through that began it.
    hops: Hops,
}

/// Downloads that are under way.
#[derive(Debug)]
pub(super) struct Fills {
    store: Store,
    small_tarballs: SmallTarballs,
    clock: SharedClock,
    lifecycle: Lifecycle,
    under_way: Arc<Mutex<HashMap<Key, Fill>>>,
}

impl Fills {
    pub(super) fn new(
        store: Store,
        small_tarballs: SmallTarballs,
        clock: SharedClock,
        lifecycle: Lifecycle,
    ) -> Self {
        Self {
            store,
            small_tarballs,
            clock,
            lifecycle,
            under_way: Arc::default(),
        }
    }

    /// Joins the download of this tarball, or starts it. Returns when its first bytes can be
    /// read; `None` if upstream does not have it. A circle is one for those who came the same way as
    /// whoever began it; others ask again.
    pub(super) async fn follow(
        &self,
        name: &PackageName,
        file: &TarballName,
        integrity: &Integrity,
        uplink: &Arc<Uplink>,
        url: Url,
    ) -> Result<Option<Followed>, FillError> {
        let (digest, hops) = (integrity.strongest(), Hops::current());
        let key = |hops| (name.clone(), file.clone(), digest.clone(), hops);
        let fill = self.join(key(None), integrity, uplink, url.clone());
        let is_anothers = fill.hops != hops;
        match fill.begun().await {
            Err(FillError::Uplink(error)) if error.is_circle() && is_anothers => {
                let fill = self.join(key(Some(hops)), integrity, uplink, url);
                fill.begun().await
            }
            begun => begun,
        }
    }

    fn join(&self, key: Key, integrity: &Integrity, uplink: &Arc<Uplink>, url: Url) -> Fill {
        let mut under_way = self.under_way.lock();
        if let Some(fill) = under_way.get(&key) {
            return fill.clone();
        }
        let (sender, progress) = watch::channel(Progress::Asked);
        let fill = Fill {
            progress,
            watch: Watch::new(),
            hops: Hops::current(),
        };
        under_way.insert(key.clone(), fill.clone());
        let download = Download {
            store: self.store.clone(),
            small_tarballs: self.small_tarballs.clone(),
            clock: Arc::clone(&self.clock),
            name: key.0.clone(),
            integrity: integrity.clone(),
            uplink: Arc::clone(uplink),
            url,
            progress: sender,
            _landing: Landing {
                key,
                under_way: Arc::clone(&self.under_way),
            },
        };
        let run = download.run().in_current_span();
        self.lifecycle.spawn(fill.watch.over_task(run));
        fill
    }
}

impl Fill {
    /// Returns when the first bytes can be read. The download's own work until then counts as that
    /// of the request that waits.
    async fn begun(self) -> Result<Option<Followed>, FillError> {
        let Self {
            mut progress,
            watch,
            hops: _,
        } = self;
        loop {
            let length = match &*progress.borrow_and_update() {
                Progress::Asked => None,
                Progress::Missing => return Ok(None),
                Progress::Whole(bytes) => return Ok(Some(Followed::Whole(bytes.clone()))),
                Progress::Growing { length, .. } => Some(*length),
                Progress::Done { length, .. } => Some(Some(*length)),
                Progress::Failed(error) => return Err(error.clone()),
            };
            if let Some(length) = length {
                return Ok(Some(Followed::Growing(Following { length, progress })));
            }
            if following(&watch, progress.changed()).await.is_err() {
                return Err(FillError::Lost);
            }
        }
    }
}

impl Following {
    /// The bytes as they come; an error where the download fails, never a short end.
    pub(super) fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let reading = Reading {
            progress: self.progress,
            pieces: None,
            at: 0,
        };
        // What has failed once has no next piece.
        stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(reading))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

/// How far somebody has read a file that grows.
struct Reading {
    progress: watch::Receiver<Progress>,
    pieces: Option<Pieces>,
    at: u64,
}

impl Reading {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let readable = match &*self.progress.borrow_and_update() {
                Progress::Growing { file, readable, .. } if *readable > self.at => {
                    Some((Arc::clone(file), *readable))
                }
                Progress::Done { file, length } if *length > self.at => {
                    Some((Arc::clone(file), *length))
                }
                Progress::Done { .. } => return Ok(None),
                Progress::Failed(error) => return Err(io::Error::other(error.clone())),
                Progress::Missing => return Err(io::Error::other(FillError::Lost)),
                Progress::Asked | Progress::Whole(_) | Progress::Growing { .. } => None,
            };
            if let Some((file, end)) = readable {
                let pieces = self.pieces.get_or_insert_with(|| Pieces::of(file));
                let piece = pieces.next(self.at..end).await?;
                self.at += u64::try_from(piece.len()).unwrap_or(u64::MAX);
                return Ok(Some(piece));
            }
            if self.progress.changed().await.is_err() {
                return Err(io::Error::other(FillError::Lost));
            }
        }
    }
}

/// Takes a download off the board, also when its task panics.
struct Landing {
    key: Key,
    under_way: Arc<Mutex<HashMap<Key, Fill>>>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.key);
    }
}

/// How a download ended.
enum Downloaded {
    Missing,
    /// Somebody had kept it already.
    Kept(FileBlob),
    /// The same, of a small one.
    KeptSmall(Bytes),
    /// A small one has come, and is right.
    Small(Bytes),
    /// It has come, and is right.
    New(Arc<File>, Box<TemporaryBlob<Verifier>>),
}

struct Download {
    store: Store,
    small_tarballs: SmallTarballs,
    clock: SharedClock,
    name: PackageName,
    integrity: Integrity,
    uplink: Arc<Uplink>,
    url: Url,
    progress: watch::Sender<Progress>,
    _landing: Landing,
}

impl Download {
    #[tracing::instrument(name = "registry.fill", skip_all, fields(package.name = %self.name))]
    async fn run(self) {
        match self.download().await {
            Ok(Downloaded::Missing) => {
                self.progress.send_replace(Progress::Missing);
            }
            Ok(Downloaded::Kept(blob)) => {
                self.progress.send_replace(Progress::Done {
                    length: blob.length,
                    file: Arc::new(blob.file),
                });
            }
            Ok(Downloaded::KeptSmall(bytes)) => {
                self.progress.send_replace(Progress::Whole(bytes));
            }
            Ok(Downloaded::Small(bytes)) => {
                self.progress.send_replace(Progress::Whole(bytes.clone()));
                if self.uplink.keeps_tarballs()
                    && let Err(error) = self.keep_small(bytes).await
                {
                    warn_of_cache(&self.name, &error);
                }
            }
            Ok(Downloaded::New(file, blob)) => {
                self.progress.send_replace(Progress::Done {
                    file,
                    length: blob.written(),
                });
                // Nobody waits for this, and whoever asks meanwhile has it from here.
                if self.uplink.keeps_tarballs()
                    && let Err(error) = self.keep(blob).await
                {
                    warn_of_cache(&self.name, &error);
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "download failed, nothing is kept"
                );
                self.progress.send_replace(Progress::Failed(error));
            }
        }
    }

    async fn download(&self) -> Result<Downloaded, FillError> {
        // Somebody may have kept it between the look at the cache and this download.
        if let Ok(Some(kept)) = self.kept().await {
            return Ok(kept);
        }
        if let Some(downloaded) = self.download_shared().await? {
            return Ok(downloaded);
        }
        if let Some(kept) = self.take_over().await {
            return Ok(kept);
        }
        let Some(response) = self.uplink.tarball(&self.url).await? else {
            return Ok(Downloaded::Missing);
        };
        let body = response.body.map_err(FillError::from);
        self.receive(response.length, Box::pin(body)).await
    }

    /// What Verdaccio has downloaded, in a folder of its.
    async fn take_over(&self) -> Option<Downloaded> {
        let (cache, file) = (self.store.cache(), &self._landing.key.1);
        let taken = async {
            if cache
                .take_over_tarball(&self.name, file, &self.integrity)
                .await?
            {
                return self.kept().await;
            }
            Ok(None)
        };
        taken.await.unwrap_or_else(|error| {
            warn_of_cache(&self.name, &error);
            None
        })
    }

    /// What another node has downloaded, where nodes share a cache. `None`: upstream is to be asked.
    async fn download_shared(&self) -> Result<Option<Downloaded>, FillError> {
        let (cache, digest) = (self.store.cache(), self.integrity.strongest());
        let Some(blob) = cache.shared_tarball(&self.name, digest).await else {
            return Ok(None);
        };
        let length = blob.length;
        let body = blob.into_stream(0..length).map_err(|error| {
            let error = StorageError::io("reading the shared cache", error);
            FillError::Storage(Arc::new(error))
        });
        let error = match self.receive(Some(length), Box::pin(body)).await {
            Ok(downloaded) => return Ok(Some(downloaded)),
            Err(error) => error,
        };
        tracing::warn!(package.name = %self.name, error = &error as &dyn std::error::Error, "a tarball of the shared cache cannot be used; it comes from upstream");
        if matches!(error, FillError::Mismatch { .. })
            && let Err(error) = cache.remove_shared_tarball(&self.name, digest).await
        {
            warn_of_cache(&self.name, &error);
        }
        // Whoever has read a part of it must not get the rest of something else.
        if matches!(*self.progress.borrow(), Progress::Growing { .. }) {
            return Err(error);
        }
        Ok(None)
    }

    /// Takes in a tarball as it comes, and compares it with what the packument promises.
    async fn receive(
        &self,
        length: Option<u64>,
        mut body: impl Stream<Item = Result<Bytes, FillError>> + Unpin,
    ) -> Result<Downloaded, FillError> {
        let mut begun = Vec::new();
        let is_large = length.is_some_and(|length| length > SMALL);
        if !is_large && gather(&mut body, &mut begun).await? {
            return self.verified(&begun).await.map(Downloaded::Small);
        }
        let storage = |error| FillError::Storage(Arc::new(error));
        let temporary = self.store.temporary();
        let mut blob = temporary
            .create(self.integrity.verifier())
            .await
            .map_err(storage)?;
        let file = Arc::new(blob.reader().map_err(storage)?);
        // The last chunk is held back until the whole is verified: whoever has all the bytes
        // believes that they are right.
        let mut held: Option<Bytes> = None;
        let mut body = stream::iter(begun.into_iter().map(Ok)).chain(body);
        while let Some(chunk) = elsewhere(body.next()).await {
            if let Some(earlier) = held.replace(chunk?) {
                blob.write(earlier).await.map_err(storage)?;
                self.progress.send_replace(Progress::Growing {
                    file: Arc::clone(&file),
                    length,
                    readable: blob.written(),
                });
            }
        }
        if let Some(last) = held {
            blob.write(last).await.map_err(storage)?;
        }
        blob.flush().await.map_err(storage)?;
        self.verify(&blob)?;
        Ok(Downloaded::New(file, Box::new(blob)))
    }

    /// What the cache has by now. A small one that is not what it should be does not count.
    async fn kept(&self) -> Result<Option<Downloaded>, StorageError> {
        let cache = self.store.cache();
        let digest = self.integrity.strongest();
        let Some(blob) = cache.tarball(&self.name, digest).await? else {
            return Ok(None);
        };
        if blob.length > SMALL {
            return Ok(Some(Downloaded::Kept(blob)));
        }
        let bytes = blob.into_bytes().await?;
        let is_right = self
            .small_tarballs
            .put(self.promised(), &bytes, self.clock.now())
            .is_ok();
        Ok(is_right.then_some(Downloaded::KeptSmall(bytes)))
    }

    fn promised(&self) -> Promised<'_> {
        Promised {
            name: &self.name,
            is_hosted: false,
            integrity: &self.integrity,
        }
    }

    /// The whole of a small tarball, if it is right.
    async fn verified(&self, chunks: &[Bytes]) -> Result<Bytes, FillError> {
        let bytes: Bytes = match chunks {
            [only] => only.clone(),
            _ => chunks.concat().into(),
        };
        let (mut verifier, checked) = (self.integrity.verifier(), bytes.clone());
        let work = move || {
            verifier.update(&checked);
            verifier.finish()
        };
        let found = compute_on(bytes.len(), work).await;
        found
            .map_err(|_| FillError::Lost)?
            .map_err(|found| self.mismatch(&found))?;
        Ok(bytes)
    }

    fn mismatch(&self, found: &Digest) -> FillError {
        FillError::Mismatch {
            expected: self.integrity.to_string(),
            found: found.to_string(),
        }
    }

    /// Puts a small one into the cache, where it is looked at again before it is believed.
    async fn keep_small(&self, bytes: Bytes) -> Result<(), StorageError> {
        self.small_tarballs
            .put_verified(self.promised(), bytes.clone(), self.clock.now());
        let digest = self.integrity.strongest();
        let cache = self.store.cache();
        cache.put_small_tarball(&self.name, digest, bytes).await
    }

    /// Puts it into the cache, where nobody looks at its bytes again: they are durable first.
    async fn keep(&self, mut blob: Box<TemporaryBlob<Verifier>>) -> Result<(), StorageError> {
        blob.finish().await?;
        let digest = self.integrity.strongest();
        let cache = self.store.cache();
        cache.put_tarball(&self.name, digest, &blob).await
    }

    fn verify(&self, blob: &TemporaryBlob<Verifier>) -> Result<(), FillError> {
        let verifier = blob.observer().cloned().ok_or(FillError::Lost)?;
        let found = verifier.finish().map(drop);
        found.map_err(|found| self.mismatch(&found))
    }
}

/// Takes the first chunks of `body`, as long as they make a small tarball. Whether that is all.
async fn gather(
    body: &mut (impl Stream<Item = Result<Bytes, FillError>> + Unpin),
    chunks: &mut Vec<Bytes>,
) -> Result<bool, FillError> {
    let mut length = 0_u64;
    while length <= SMALL {
        let Some(chunk) = elsewhere(body.next()).await else {
            return Ok(true);
        };
        let chunk = chunk?;
        length += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        chunks.push(chunk);
    }
    Ok(false)
}
