//! [`Registry::put`]: one route, five meanings. Each is decided by the document and then asks for
//! the permission of what it means.

use std::sync::Arc;

use bytes::Bytes;
use futures_core::Stream;

use super::{
    intent::{Intent, Route, classify},
    receive::{Received, receive},
};
use crate::{
    error::RegistryError,
    models::{Action, Caller, PackageName},
    registry::{Registry, hosted_documents::Sight},
};

/// What a `PUT` has done, as clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The first version of a package was published.
    Created,
    /// The package was changed.
    Changed,
}

impl Done {
    /// The text that clients show.
    pub fn message(self) -> &'static str {
        match self {
            Self::Created => "created new package",
            Self::Changed => "package changed",
        }
    }
}

/// A document as a client sends it.
#[derive(Debug)]
pub struct Sent<S> {
    /// The revision in the address; without it no version is ever removed.
    pub revision: Option<String>,
    /// Whether an `access` in it was asked for by the user. Some clients send one always, which
    /// must not change who may read a package.
    pub means_access: bool,
    /// The document.
    pub body: S,
}

impl Registry {
    /// Takes a document for `name` as it comes from the wire, and does what it means.
    #[tracing::instrument(name = "registry.put", skip_all, fields(package.name = %name))]
    pub async fn put<S>(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        sent: Sent<S>,
    ) -> Result<Done, RegistryError>
    where
        S: Stream<Item = Result<Bytes, RegistryError>> + Send,
    {
        let Sent {
            revision,
            means_access,
            body,
        } = sent;
        self.require_any_change(caller, name).await?;
        let received = receive(body, self.store.temporary(), &self.room).await;
        let is_change = revision.is_some();
        let received = match received {
            Ok(received) => received,
            Err(error) => return Err(self.unless_missing(name, is_change, error).await),
        };
        let route = if revision.is_some() {
            Route::Rev
        } else {
            Route::Plain
        };
        let Received {
            body,
            attachments,
            taken: _taken,
        } = received;
        let intent = match classify(name, route, body) {
            Ok(intent) => intent,
            Err(error) => return Err(self.unless_missing(name, is_change, error).await),
        };
        match intent {
            Intent::Publish(mut publish) => {
                publish.access = publish.access.filter(|_| means_access);
                let (mut tarball, mut bundle) = (None, None);
                let bundle_key = publish.bundle.as_ref().map(|bundle| &bundle.key);
                for (key, blob) in attachments {
                    if key == publish.tarball.key {
                        tarball = Some(blob);
                    } else if Some(&key) == bundle_key {
                        bundle = Some(blob);
                    }
                }
                let tarball =
                    tarball.ok_or_else(|| RegistryError::bad_request("the tarball has no data"))?;
                self.publish_version(caller, *publish, tarball, bundle)
                    .await
            }
            Intent::UpdateMetadata(update) => {
                self.update_metadata(caller, name, update).await?;
                Ok(Done::Changed)
            }
            Intent::RemoveVersions(update) => {
                self.remove_versions(caller, name, update, revision).await?;
                Ok(Done::Changed)
            }
            Intent::Star { users, .. } => {
                self.star(caller, name, &users).await?;
                Ok(Done::Changed)
            }
            Intent::Owners {
                maintainers,
                revision,
            } => {
                self.set_owners(caller, name, &maintainers, revision)
                    .await?;
                Ok(Done::Changed)
            }
        }
    }

    /// What is wrong with a document, unless it would change what is not there: of a package that is
    /// hidden nobody hears what is wrong with it either.
    async fn unless_missing(
        &self,
        name: &PackageName,
        is_change: bool,
        error: impl Into<RegistryError>,
    ) -> RegistryError {
        let error = error.into();
        if !is_change || !error.status().is_client_error() {
            return error;
        }
        match self.documents.hosted.get(name, Sight::Strict).await {
            Ok(Some(hosted)) if !hosted.manifest.is_gone() => error,
            Ok(_) => RegistryError::no_such_package(),
            Err(failed) => failed,
        }
    }

    /// Refuses a caller who may do none of what a `PUT` can mean, before megabytes are read.
    async fn require_any_change(
        &self,
        caller: &Caller,
        name: &PackageName,
    ) -> Result<(), RegistryError> {
        let can_star = !caller.is_anonymous();
        for (action, counts) in [(Action::Unpublish, true), (Action::Star, can_star)] {
            if counts && self.may(caller, action, name).await? {
                return Ok(());
            }
        }
        self.authorise(caller, Action::Publish, name).await
    }
}
