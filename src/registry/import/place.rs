//! [`Place`]: what packages are imported from: a registry that answers, or what another program has stored.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};

use super::{Names, Source, source::CREDENTIALS};
use crate::{
    error::{RegistryError, explain},
    models::{Origin, PackageName, TarballName},
    registry::packument::Hosted,
    storage::{Blobs, MetadataStore, StorageError},
    uplink::UplinkError,
};

/// Where packages come from.
#[derive(Debug)]
pub enum Place {
    /// Another registry.
    Registry(Box<Source>),
    /// A folder that another program has made, which is only read.
    Folder {
        /// Its manifests.
        metadata: Arc<dyn MetadataStore>,
        /// Its tarballs.
        blobs: Arc<dyn Blobs>,
    },
}

/// Why the source did not give something.
#[derive(Debug)]
pub(super) enum Refusal {
    Registry(UplinkError),
    Folder(StorageError),
}

impl Refusal {
    /// Whether the source would give nothing else either.
    pub(super) fn concerns_all(&self) -> bool {
        match self {
            Self::Registry(error) => error.concerns_all(),
            Self::Folder(_) => false,
        }
    }

    /// Why, and what to do.
    pub(super) fn explain(&self) -> String {
        match self {
            Self::Registry(error @ UplinkError::BadStatus(401 | 403)) => {
                format!("{}; {CREDENTIALS}", explain(error))
            }
            Self::Registry(error) => explain(error),
            Self::Folder(error) => explain(error),
        }
    }
}

/// Bytes of a tarball as they come.
pub(super) type Pieces = BoxStream<'static, Result<Bytes, Refusal>>;

impl Place {
    /// The names that are meant, each once, and texts that can be none.
    pub async fn names(
        &self,
        names: &Names,
    ) -> Result<(Vec<PackageName>, Vec<String>), RegistryError> {
        match self {
            Self::Registry(source) => source.names(names).await,
            Self::Folder { metadata, .. } => match names {
                Names::These(names) => Ok((names.clone(), Vec::new())),
                Names::Found(_) => Err(RegistryError::Settings {
                    message: "a folder cannot be searched; name packages with --names".to_owned(),
                }),
                Names::All => {
                    let mut names: Vec<PackageName> = metadata.list().try_collect().await?;
                    names.sort();
                    names.dedup();
                    Ok((names, Vec::new()))
                }
            },
        }
    }

    /// The document of `name`; `None` where there is none.
    pub(super) async fn packument(&self, name: &PackageName) -> Result<Option<Bytes>, Refusal> {
        match self {
            Self::Registry(source) => source.packument(name).await.map_err(Refusal::Registry),
            Self::Folder { metadata, .. } => {
                let document = metadata.get(name).await.map_err(Refusal::Folder)?;
                Ok(document.map(|document| document.json))
            }
        }
    }

    /// Whose the name in this document is, as far as that is known.
    pub(super) fn origin(&self, json: &Bytes) -> Option<Origin> {
        match self {
            Self::Registry(_) => None,
            Self::Folder { .. } => Some(Hosted::parse(json).ok()?.origin()),
        }
    }

    /// A tarball in a folder.
    pub(super) async fn stored(
        blobs: &dyn Blobs,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Option<Pieces>, Refusal> {
        let Some(blob) = blobs.open(name, file).await.map_err(Refusal::Folder)? else {
            return Ok(None);
        };
        let whole = 0..blob.length;
        let failed = |error| Refusal::Folder(StorageError::io("reading a tarball", error));
        let pieces = blob.into_stream(whole);
        Ok(Some(pieces.map(move |piece| piece.map_err(failed)).boxed()))
    }
}
