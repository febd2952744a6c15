//! Reading tarballs: hosted, cached, or on their way from upstream.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_core::Stream;

use super::{
    Registry,
    documents::{Found, ListedTarball, TarballSource},
    fill::Following,
    upstream_documents::warn_of_cache,
};
use crate::{
    error::RegistryError,
    models::{Action, Caller, Integrity, PackageName, TarballName, UplinkName},
    storage::{Blob, StorageError},
    uplink::UplinkError,
};

/// A tarball as a client gets it.
pub struct Tarball {
    /// The bytes.
    pub bytes: TarballBytes,
    /// A strong entity tag with its quotes; `None` for an old document without integrity.
    pub etag: Option<String>,
    /// Whether it was published here.
    pub is_hosted: bool,
}

/// The bytes of a tarball.
pub enum TarballBytes {
    /// All of them, on disk.
    Stored(Blob),
    /// They are still coming.
    Growing(Download),
}

/// A download that may be followed.
pub struct Download(Following);

impl Download {
    /// The length in bytes, if upstream announced it.
    pub fn length(&self) -> Option<u64> {
        self.0.length
    }

    /// The bytes as they come. An error where the download fails or is not what the packument
    /// promises; never a short end.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        self.0.into_stream()
    }
}

impl Registry {
    /// Opens the tarball `file` of `name`.
    #[tracing::instrument(name = "registry.tarball", skip_all, fields(package.name = %name, file = %file))]
    pub async fn tarball(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Tarball, RegistryError> {
        self.authorise(caller, Action::Access, name).await?;
        let listed = self.listed(caller, name, file).await?;
        let etag = listed.integrity.as_ref().map(|integrity| {
            let digest = integrity.strongest();
            format!("\"{}-{}\"", digest.algorithm.as_str(), digest.to_hex())
        });
        let (bytes, is_hosted) = match listed.source {
            TarballSource::Hosted => (self.stored(name, file).await?, true),
            TarballSource::Upstream { uplink, address } => {
                let integrity = listed.integrity.ok_or_else(unverifiable)?;
                let wanted = Wanted {
                    name,
                    file,
                    integrity: &integrity,
                };
                (self.fetched(wanted, &uplink, &address).await?, false)
            }
        };
        Ok(Tarball {
            bytes,
            etag,
            is_hosted,
        })
    }

    /// What the document says about `file`. One that is at hand will do, even if it is old: its
    /// integrity is what counts. Upstream is asked behind the client's back then.
    async fn listed(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<ListedTarball, RegistryError> {
        if let Some(found) = self.documents.at_hand(name).await? {
            let Found { document, is_stale } = found;
            let document = Self::visible_part(caller, document);
            if let Some(listed) = document.tarball(file) {
                if is_stale {
                    self.revalidate(name);
                }
                return Ok(listed.clone());
            }
        }
        let found = self.visible(caller, name).await?;
        let listed = found.document.tarball(file).cloned();
        listed.ok_or_else(no_such_file)
    }

    fn revalidate(self: &Arc<Self>, name: &PackageName) {
        let (registry, name) = (Arc::clone(self), name.clone());
        self.lifecycle.spawn(async move {
            if let Err(error) = registry.documents.find(&name).await {
                tracing::debug!(package.name = %name, error = &error as &dyn std::error::Error, "cannot revalidate");
            }
        });
    }

    async fn stored(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<TarballBytes, RegistryError> {
        if let Some(blob) = self.store.blobs().open(name, file).await? {
            return Ok(TarballBytes::Stored(blob));
        }
        // It may have been unpublished since the document was read.
        let still_listed = self
            .documents
            .hosted_only(name)
            .await?
            .is_some_and(|found| {
                found
                    .document
                    .tarball(file)
                    .is_some_and(|listed| listed.source == TarballSource::Hosted)
            });
        if still_listed {
            let what = format!("the tarball `{file}` of `{name}`");
            let missing = io::Error::other("its manifest names it and it is not there");
            let source = missing.into();
            return Err(StorageError::Damaged { what, source }.into());
        }
        Err(no_such_file())
    }

    async fn fetched(
        &self,
        wanted: Wanted<'_>,
        uplink: &UplinkName,
        address: &str,
    ) -> Result<TarballBytes, RegistryError> {
        let Wanted {
            name,
            file,
            integrity,
        } = wanted;
        let cached = self.store.cache().tarball(name, integrity.strongest());
        match cached.await {
            Ok(Some(blob)) => return Ok(TarballBytes::Stored(blob)),
            Ok(None) => {}
            Err(error) => warn_of_cache(name, &error),
        }
        let uplink = self.documents.uplinks.get(uplink);
        let uplink = uplink.ok_or_else(|| RegistryError::Unavailable {
            message: "the uplink of this tarball is no longer configured".to_owned(),
        })?;
        let url = match address.parse() {
            Ok(url) => url,
            Err(_) => uplink.url_of(&format!("{}/-/{file}", name.to_path_segment()))?,
        };
        let following = self.fills.follow(name, file, integrity, uplink, url).await;
        match following? {
            Some(following) => Ok(TarballBytes::Growing(Download(following))),
            None => Err(no_such_file()),
        }
    }
}

/// Which tarball, with which bytes.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    name: &'a PackageName,
    file: &'a TarballName,
    integrity: &'a Integrity,
}

fn no_such_file() -> RegistryError {
    RegistryError::not_found("no such file available")
}

fn unverifiable() -> RegistryError {
    let error = UplinkError::BadBody("the packument gives no integrity for this tarball");
    RegistryError::UpstreamBadGateway {
        message: "the uplink's packument gives no integrity for this tarball".to_owned(),
        source: error.into(),
    }
}
