//! Reading tarballs: hosted, cached, or on their way from upstream.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_core::Stream;
use url::Url;

use super::{
    Registry,
    document::{ListedTarball, TarballSource},
    documents::Found,
    fill::{Followed, Following},
    hosted_documents::{HostedDocument, Sight},
    small_tarballs::{Promised, SMALL},
    upstream_documents::warn_of_cache,
};
use crate::{
    error::RegistryError,
    models::{Action, Caller, PackageName, TarballName, UplinkName},
    storage::{Blob, StorageError},
    telemetry::Cached,
    uplink::UplinkError,
};

/// A tarball as a client gets it.
pub struct Tarball {
    /// The bytes.
    pub bytes: TarballBytes,
    /// A strong entity tag with its quotes; `None` for an old document without integrity.
    pub etag: Option<Arc<str>>,
    /// Whether it was published here.
    pub is_hosted: bool,
}

/// The bytes of a tarball.
pub enum TarballBytes {
    /// The client has them.
    Unwanted,
    /// All of them.
    Whole(Bytes),
    /// All of them, on disk.
    Stored(Blob),
    /// All of them, at another address that is good for a few minutes.
    Elsewhere(Url),
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
    /// Opens the tarball `file` of `name`, unless the client has the one with this entity tag.
    #[tracing::instrument(name = "registry.tarball", skip_all, fields(package.name = %name, file = %file))]
    pub async fn tarball(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        file: &TarballName,
        has: impl Fn(&str) -> bool,
    ) -> Result<Tarball, RegistryError> {
        let hosted = self.authorised(caller, Action::Access, name).await?;
        let listed = self.listed(caller, name, file, hosted).await?;
        let is_hosted = listed.source == TarballSource::Hosted;
        let promised = listed.integrity.as_ref().map(|integrity| Promised {
            name,
            is_hosted,
            integrity,
        });
        let known = promised.and_then(|promised| self.known(promised));
        let bytes = match (known, &listed.source) {
            _ if listed.etag.as_deref().is_some_and(has) => TarballBytes::Unwanted,
            (_, TarballSource::Hosted) if self.store.redirects() => {
                Box::pin(self.redirected(name, file)).await?
            }
            (Some(bytes), _) => {
                if !is_hosted {
                    self.metrics.looked(Cached::Tarball, true);
                }
                TarballBytes::Whole(bytes)
            }
            (None, TarballSource::Hosted) => Box::pin(self.stored(name, file, promised)).await?,
            (None, TarballSource::Upstream { uplink, address }) => {
                let promised = promised.ok_or_else(unverifiable)?;
                Box::pin(self.fetched(promised, file, uplink, address)).await?
            }
        };
        Ok(Tarball {
            bytes,
            etag: listed.etag.clone(),
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
        hosted: Option<HostedDocument>,
    ) -> Result<Arc<ListedTarball>, RegistryError> {
        if let Some(found) = self.documents.at_hand(name, hosted).await? {
            let Found { document, is_stale } = found;
            let document = Self::visible_part(caller, document);
            if let Some(listed) = document.tarball(file) {
                if is_stale {
                    self.revalidate(name);
                }
                return Ok(listed);
            }
        }
        let found = Box::pin(self.visible(caller, name)).await?;
        let mut listed = found.document.tarball(file);
        if listed.is_none() && self.documents.hosted.look_again(name) {
            let found = Box::pin(self.visible(caller, name)).await?;
            listed = found.document.tarball(file);
        }
        listed.ok_or_else(no_such_file)
    }

    /// A small one that is in memory. One of upstream's is put back into the cache if it is gone from
    /// there.
    fn known(self: &Arc<Self>, promised: Promised<'_>) -> Option<Bytes> {
        if promised.is_hosted {
            return self.small_tarballs.get(promised);
        }
        let (bytes, is_due) = self.small_tarballs.get_cached(promised, self.clock.now())?;
        if is_due {
            let (cache, kept) = (self.store.cache().clone(), bytes.clone());
            let (name, digest) = (
                promised.name.clone(),
                promised.integrity.strongest().clone(),
            );
            self.lifecycle.spawn(async move {
                let kept = async {
                    if cache.tarball(&name, &digest).await?.is_none() {
                        cache.put_small_tarball(&name, &digest, kept).await?;
                    }
                    Ok(())
                };
                if let Err(error) = kept.await {
                    warn_of_cache(&name, &error);
                }
            });
        }
        Some(bytes)
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
        promised: Option<Promised<'_>>,
    ) -> Result<TarballBytes, RegistryError> {
        if let Some(blob) = self.store.blobs().open(name, file).await? {
            let Some(promised) = promised.filter(|_| blob.length <= SMALL) else {
                return Ok(TarballBytes::Stored(blob));
            };
            let bytes = blob.into_bytes().await?;
            self.small_tarballs
                .put(promised, &bytes, self.clock.now())
                .map_err(|found| {
                    let what = format!("the tarball `{file}` of `{name}`");
                    let source = io::Error::other(format!(
                        "it is {found} instead of {}; `rustaccio fsck` tells more",
                        promised.integrity
                    ));
                    let source = source.into();
                    StorageError::Damaged { what, source }
                })?;
            return Ok(TarballBytes::Whole(bytes));
        }
        Err(self.missing(name, file).await?)
    }

    /// Where else a client gets `file`.
    async fn redirected(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<TarballBytes, RegistryError> {
        match self.store.blobs().signed_url(name, file).await? {
            Some(url) => Ok(TarballBytes::Elsewhere(url)),
            None => Err(self.missing(name, file).await?),
        }
    }

    /// Why a tarball that a document names is not there.
    async fn missing(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<RegistryError, RegistryError> {
        // It may have been unpublished since the document was read.
        let still_listed = self
            .documents
            .hosted
            .get(name, Sight::Current)
            .await?
            .is_some_and(|hosted| hosted.manifest.files(name).contains(file));
        if still_listed {
            let what = format!("the tarball `{file}` of `{name}`");
            let missing = io::Error::other("its manifest names it and it is not there");
            let source = missing.into();
            return Ok(StorageError::Damaged { what, source }.into());
        }
        Ok(no_such_file())
    }

    pub(super) async fn fetched(
        &self,
        promised: Promised<'_>,
        file: &TarballName,
        uplink: &UplinkName,
        address: &str,
    ) -> Result<TarballBytes, RegistryError> {
        let Promised {
            name, integrity, ..
        } = promised;
        match self.cached(promised).await {
            Ok(Some(bytes)) => {
                self.metrics.looked(Cached::Tarball, true);
                return Ok(bytes);
            }
            Ok(None) => {}
            Err(error) => warn_of_cache(name, &error),
        }
        self.metrics.looked(Cached::Tarball, false);
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
            Some(Followed::Whole(bytes)) => Ok(TarballBytes::Whole(bytes)),
            Some(Followed::Growing(following)) => Ok(TarballBytes::Growing(Download(following))),
            None => Err(no_such_file()),
        }
    }

    /// A tarball that came from upstream before. Nobody made sure that a small one outlives a power
    /// cut: one that is not what it should be is as good as none.
    async fn cached(&self, promised: Promised<'_>) -> Result<Option<TarballBytes>, StorageError> {
        let Promised {
            name, integrity, ..
        } = promised;
        let cache = self.store.cache();
        let Some(blob) = cache.tarball(name, integrity.strongest()).await? else {
            return Ok(None);
        };
        if blob.length > SMALL {
            return Ok(Some(TarballBytes::Stored(blob.into())));
        }
        let bytes = blob.into_bytes().await?;
        if let Err(found) = self.small_tarballs.put(promised, &bytes, self.clock.now()) {
            tracing::warn!(package.name = %name, %found, expected = %integrity, "a cached tarball is damaged; it is fetched again");
            return Ok(None);
        }
        Ok(Some(TarballBytes::Whole(bytes)))
    }
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
