//! Fetching one tarball: streamed to the disk, hashed as it passes, put in its place when it is right.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use url::Url;

use super::{
    Place, Source, Target,
    place::{Pieces, Refusal},
};
use crate::{
    error::{RegistryError, explain},
    lifecycle::SharedClock,
    lifecycle::crash_point,
    models::{Integrity, PackageName, TarballName, Verifier},
    registry::{
        packument::{Digests, Hosted},
        publish::hashing::{TarballDigests, TarballHasher},
    },
    storage::{Created, MetadataStoreExt as _, Observer, Seen, StorageError, TemporaryBlob},
    uplink::UplinkError,
};

/// How every gzip stream starts (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A tarball that is to be here.
#[derive(Debug)]
pub(super) struct Wanted<'w> {
    pub(super) source: &'w Place,
    pub(super) target: &'w Target,
    pub(super) clock: &'w SharedClock,
    pub(super) name: &'w PackageName,
    pub(super) version: &'w str,
    pub(super) file: &'w TarballName,
    /// Where the source says it is.
    pub(super) address: &'w str,
    /// What the source says of its bytes.
    pub(super) promised: Option<&'w Integrity>,
    /// Whether something lies in its place.
    pub(super) is_taken: bool,
}

/// How a tarball came here.
pub(super) struct Fetched {
    pub(super) digests: Digests,
    /// How many bytes were downloaded; `None` where it was here.
    pub(super) downloaded: Option<u64>,
}

/// Why a tarball did not come here.
pub(super) enum Trouble {
    /// The source does not have it.
    Missing,
    /// It has other bytes than it says.
    Damaged(String),
    /// The source did not give it.
    Source(Refusal),
    /// It could not be stored.
    Storage(StorageError),
    /// It was changed at the same time, or the work was broken off.
    Other(String),
}

impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// What sees the bytes as they pass.
struct Looking {
    hasher: TarballHasher,
    promised: Option<Verifier>,
    start: Vec<u8>,
}

impl Looking {
    fn new(promised: Option<&Integrity>) -> Self {
        Self {
            hasher: TarballHasher::default(),
            promised: promised.map(Integrity::verifier),
            start: Vec::new(),
        }
    }

    /// The digests, where the bytes are those that were promised.
    fn finish(&self) -> Result<TarballDigests, String> {
        let digests = self.hasher.clone().finish();
        match self.promised.clone().map(Verifier::finish) {
            Some(Err(found)) => return Err(format!("its bytes have {found}")),
            Some(Ok(_)) => {}
            // With nothing to compare it with, it must at least be what tarballs are.
            None if self.start == GZIP => {}
            None => return Err("it is no gzip file, and nothing says what it should be".to_owned()),
        }
        Ok(digests)
    }
}

impl Observer for Looking {
    fn observe(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        if let Some(promised) = &mut self.promised {
            promised.update(bytes);
        }
        let lacks = GZIP.len() - self.start.len();
        self.start.extend(bytes.iter().take(lacks));
    }
}

fn shown(digests: &TarballDigests) -> Digests {
    Digests {
        sha512: Some(digests.sha512.to_string()),
        shasum: Some(digests.sha1.to_hex()),
    }
}

impl Wanted<'_> {
    /// Has it here when it returns.
    pub(super) async fn fetch(&self) -> Result<Fetched, Trouble> {
        // The rest of an import that was killed, if it is what it should be.
        if self.is_taken
            && self.promised.is_some()
            && let Some(Ok(digests)) = self.read_stored(self.promised).await?
        {
            return Ok(Fetched {
                digests: shown(&digests),
                downloaded: None,
            });
        }
        let (blob, digests) = self.download().await?;
        let finished = blob.finished();
        let blobs = &self.target.blobs;
        let digests_here = shown(&digests);
        if let Created::Taken(seen) = blobs.create(self.name, self.file, finished).await? {
            let own = digests.sha512.to_string().parse::<Integrity>().ok();
            let is_right = matches!(self.read_stored(own.as_ref()).await?, Some(Ok(_)));
            if !is_right {
                self.replace(&seen, &blob).await?;
            }
        }
        crash_point("tarball-imported");
        Ok(Fetched {
            digests: digests_here,
            downloaded: Some(digests.length),
        })
    }

    /// Puts `blob` in the place of something that no version names, see [`crate::storage::Blobs::replace`].
    async fn replace(&self, seen: &Seen, blob: &TemporaryBlob<Looking>) -> Result<(), Trouble> {
        let now = self.clock.now();
        let touched = self.target.metadata.update(self.name, |document| {
            let Some(document) = document else {
                return Ok::<_, RegistryError>(None);
            };
            let mut hosted = Hosted::parse(&document.json).map_err(RegistryError::internal)?;
            hosted.touch(now);
            Ok(Some(hosted.to_json()))
        });
        touched
            .await
            .map_err(|error| Trouble::Other(explain(&error)))?;
        let (blobs, finished) = (&self.target.blobs, blob.finished());
        if blobs.replace(self.name, self.file, seen, finished).await? {
            return Ok(());
        }
        Err(Trouble::Other(
            "somebody else wrote its tarball at the same time".to_owned(),
        ))
    }

    /// What is stored, with its digests if it is what it should be; `None` if nothing is.
    async fn read_stored(
        &self,
        promised: Option<&Integrity>,
    ) -> Result<Option<Result<TarballDigests, String>>, Trouble> {
        let Some(blob) = self.target.blobs.open(self.name, self.file).await? else {
            return Ok(None);
        };
        let whole = 0..blob.length;
        let mut looking = Looking::new(promised);
        let mut pieces = blob.into_stream(whole);
        while let Some(piece) = pieces.next().await {
            let operation = || format!("reading {} of {}", self.file, self.name);
            let piece = piece.map_err(|error| StorageError::io(operation(), error))?;
            looking = looked(looking, piece).await?;
        }
        Ok(Some(looking.finish()))
    }

    async fn download(&self) -> Result<Downloaded, Trouble> {
        match self.source {
            Place::Registry(source) => self.download_from_registry(source).await,
            Place::Folder { blobs, .. } => {
                let file = TarballName::at(self.address, self.name, self.version);
                let file = file.as_ref().unwrap_or(self.file);
                let pieces = Place::stored(&**blobs, self.name, file).await;
                match pieces.map_err(Trouble::Source)? {
                    Some(pieces) => self.write(pieces).await,
                    None => Err(Trouble::Missing),
                }
            }
        }
    }

    async fn download_from_registry(&self, source: &Source) -> Result<Downloaded, Trouble> {
        let own = source.own_address(self.name, self.file.as_str());
        let named = Url::parse(self.address).ok();
        let other = own.filter(|own| Some(own) != named.as_ref());
        let mut trouble = Trouble::Missing;
        // A registry behind a proxy may not know its own address.
        for address in named.into_iter().chain(other) {
            let downloaded = source.patiently(|| async {
                let Some(response) = source.uplink().tarball(&address).await? else {
                    return Ok(Err(Trouble::Missing));
                };
                let pieces = response.body.map_err(Refusal::Registry).boxed();
                match self.write(pieces).await {
                    // Worth another attempt.
                    Err(Trouble::Source(Refusal::Registry(error))) => Err(error),
                    done => Ok(done),
                }
            });
            match downloaded.await {
                Ok(Err(Trouble::Missing)) => {}
                Ok(done) => return done,
                Err(error @ (UplinkError::Refused { .. } | UplinkError::Unresolved { .. })) => {
                    trouble = Trouble::Source(Refusal::Registry(error));
                }
                Err(error) => return Err(Trouble::Source(Refusal::Registry(error))),
            }
        }
        Err(trouble)
    }

    /// Writes what comes to a temporary file, which is right when it returns.
    async fn write(&self, mut pieces: Pieces) -> Result<Downloaded, Trouble> {
        let Some(folder) = &self.target.temporary else {
            let nowhere = "nothing is written on a dry run".to_owned();
            return Err(Trouble::Other(nowhere));
        };
        let mut blob = folder.create(Looking::new(self.promised)).await?;
        while let Some(piece) = pieces.next().await {
            blob.write(piece.map_err(Trouble::Source)?).await?;
        }
        blob.finish().await?;
        match blob.observer().map(Looking::finish) {
            Some(Ok(digests)) => Ok((blob, digests)),
            Some(Err(why)) => Err(Trouble::Damaged(why)),
            None => Err(Trouble::Other("it was not written".to_owned())),
        }
    }
}

/// A tarball that is right, in a temporary file.
type Downloaded = (TemporaryBlob<Looking>, TarballDigests);

/// Hashes a piece where that keeps nobody waiting.
async fn looked(mut looking: Looking, piece: Bytes) -> Result<Looking, Trouble> {
    let work = move || {
        looking.observe(&piece);
        looking
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Trouble::Other("nobody could hash it".to_owned()))
}
