//! Reading packuments, versions and dist-tags.

use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;

use super::{
    Registry, Rendering, document,
    documents::Found,
    hosted_documents::Sight,
    packument::{Form, View, render, render_version},
    rendered::Wanted,
    signatures::Checked,
};
use crate::{
    error::RegistryError,
    lifecycle::compute,
    models::{Action, BaseUrl, Caller, ContentCoding, PackageName, VersionKey},
};

/// A document as a client gets it.
#[derive(Clone, Debug)]
pub struct Document {
    /// The body.
    pub rendering: Rendering,
    /// Whether any of it was published here.
    pub is_hosted: bool,
    /// Whether upstream could not be asked whether it is still current.
    pub is_stale: bool,
    /// Whether those who check signatures get another one.
    pub depends_on_checks: bool,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Full or abbreviated.
    pub form: Form,
    /// Under which address it sees the registry.
    pub base: &'a BaseUrl,
    /// How the body is to be compressed.
    pub coding: ContentCoding,
    /// Whether it is about to check signatures.
    pub checks_signatures: bool,
}

impl Registry {
    /// The packument of `name`.
    #[tracing::instrument(name = "registry.packument", skip_all, fields(package.name = %name))]
    pub async fn packument(
        &self,
        caller: &Caller,
        name: &PackageName,
        asked: Asked<'_>,
    ) -> Result<Document, RegistryError> {
        let found = self.visible(caller, name).await?;
        // Clients check what full packuments say.
        let checked = if asked.form == Form::Full && asked.checks_signatures {
            Checked::Everything
        } else {
            Checked::Nothing
        };
        let wanted = Wanted {
            form: asked.form,
            base: asked.base,
            coding: asked.coding,
            signing: self.signing(&found.document, checked).await,
        };
        let rendering = self.renderings.get(name, &found.document, wanted).await?;
        let depends_on_checks =
            asked.form == Form::Full && found.document.unsigned_from().is_some();
        Ok(Document {
            depends_on_checks,
            ..document(&found, rendering)
        })
    }

    /// The packument as its editors need it: what is hosted, and nothing of upstream's under it.
    /// A name that is not hosted shows what upstream has. Whoever may read it may have it: a star
    /// needs no more, and what is written is checked when it comes.
    #[tracing::instrument(name = "registry.packument_for_writing", skip_all, fields(package.name = %name))]
    pub async fn packument_for_writing(
        &self,
        caller: &Caller,
        name: &PackageName,
        base: &BaseUrl,
    ) -> Result<Document, RegistryError> {
        // What is shown is what was decided by.
        let (action, sight) = (Action::Access, Sight::Current);
        let hosted = self.authorised_by(caller, action, name, sight).await?;
        let found = match self.documents.hosted_alone(name, hosted).await? {
            Some(found) => found,
            None => self.visible(caller, name).await?,
        };
        let signing = self.signing(&found.document, Checked::Nothing).await;
        let (name, base) = (name.clone(), base.clone());
        let shown = Arc::clone(&found.document);
        // Editors are few: what they get is not kept, and would push out what readers get.
        let work = move || {
            let view = View {
                name: &name,
                base: &base,
                signing: signing.as_ref(),
                ours: &shown.ours,
            };
            let body = render(&shown.packument, Form::Full, view);
            let content_type = Form::Full.content_type();
            Rendering::new(body.into(), content_type, shown.packument.modified())
        };
        let rendering = compute(work).await;
        Ok(document(
            &found,
            rendering.map_err(RegistryError::internal)?,
        ))
    }

    /// The manifest of one version, by number or dist-tag.
    #[tracing::instrument(name = "registry.version", skip_all, fields(package.name = %name))]
    pub async fn version(
        &self,
        caller: &Caller,
        name: &PackageName,
        key: &VersionKey,
        base: &BaseUrl,
    ) -> Result<Document, RegistryError> {
        let mut found = self.visible(caller, name).await?;
        let is_missing = found.document.packument.resolve(key.as_str()).is_none();
        if is_missing && self.documents.hosted.look_again(name) {
            found = self.visible(caller, name).await?;
        }
        let packument = &found.document.packument;
        let raw = packument
            .resolve(key.as_str())
            .and_then(|version| Some((version, packument.version(version)?)));
        let Some((version, raw)) = raw else {
            return Err(RegistryError::no_such_version(key));
        };
        let signing = self
            .signing(&found.document, Checked::Version(version))
            .await;
        let view = View {
            name,
            base,
            signing: signing.as_ref(),
            ours: &found.document.ours,
        };
        let body: Bytes = render_version(raw, version, view).into();
        let published = packument.published(version);
        let rendering = Rendering::new(body, Form::Full.content_type(), published);
        Ok(document(&found, rendering))
    }

    /// All dist-tags of `name`.
    #[tracing::instrument(name = "registry.dist_tags", skip_all, fields(package.name = %name))]
    pub async fn dist_tags(
        &self,
        caller: &Caller,
        name: &PackageName,
    ) -> Result<IndexMap<String, String>, RegistryError> {
        let found = self.visible(caller, name).await?;
        Ok(found.document.packument.dist_tags().clone())
    }

    /// The version that one dist-tag of `name` points at.
    #[tracing::instrument(name = "registry.dist_tag", skip_all, fields(package.name = %name))]
    pub async fn dist_tag(
        &self,
        caller: &Caller,
        name: &PackageName,
        tag: &str,
    ) -> Result<Option<String>, RegistryError> {
        let tags = self.dist_tags(caller, name).await?;
        if let Some(version) = tags.get(tag) {
            return Ok(Some(version.clone()));
        }
        if !self.documents.hosted.look_again(name) {
            return Ok(None);
        }
        let tags = self.dist_tags(caller, name).await?;
        Ok(tags.get(tag).cloned())
    }

    /// What `caller` may see of `name`. Every read of a document or a tarball comes through here
    /// or through [`Registry::visible_part`], so that a rule about versions has one place.
    pub(super) async fn visible(
        &self,
        caller: &Caller,
        name: &PackageName,
    ) -> Result<Found, RegistryError> {
        let mut found = self.found_now(caller, name).await?;
        if found.is_none() && self.documents.hosted.look_again(name) {
            found = self.found_now(caller, name).await?;
        }
        let found = found.ok_or_else(RegistryError::no_such_package)?;
        if found.is_stale {
            self.metrics.stale_answer();
        }
        Ok(Found {
            document: Self::visible_part(caller, found.document),
            ..found
        })
    }

    async fn found_now(
        &self,
        caller: &Caller,
        name: &PackageName,
    ) -> Result<Option<Found>, RegistryError> {
        // Clients believe a document, and would not ask for what it lacks.
        let (action, sight) = (Action::Access, Sight::Current);
        let hosted = self.authorised_by(caller, action, name, sight).await?;
        self.documents.find_beside(name, hosted).await
    }

    /// The part of `document` that `caller` may see: all of it.
    pub(super) fn visible_part(
        _caller: &Caller,
        document: Arc<document::Document>,
    ) -> Arc<document::Document> {
        document
    }
}

fn document(found: &Found, rendering: Rendering) -> Document {
    Document {
        rendering,
        is_hosted: found.document.is_hosted(),
        is_stale: found.is_stale,
        depends_on_checks: false,
    }
}
