//! [`Hook`]: Verdaccio's `notify`, a request in words of the operator for each publish and removal.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use handlebars::Handlebars;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use regex::Regex;
use serde_json::{Map, Value, json};
use url::Url;

use super::{Event, EventsError, Failure};
use crate::{
    config::{EventsConfig, HookConfig},
    lifecycle::RequestId,
    models::{Caller, PackageName},
    net::Service,
};

const X_REQUEST_ID: HeaderName = HeaderName::from_static(RequestId::HEADER);
/// The name of the only template of each hook.
const CONTENT: &str = "content";
/// Groups that everybody has who is signed in, and who is not, as Verdaccio lists them.
const SIGNED_IN: [&str; 5] = ["$all", "$authenticated", "@all", "@authenticated", "all"];
const NOT_SIGNED_IN: [&str; 4] = ["$all", "$anonymous", "@all", "@anonymous"];
/// What of a version's document the document of its package says too.
const SHOWN: [&str; 9] = [
    "description",
    "readme",
    "keywords",
    "author",
    "license",
    "homepage",
    "repository",
    "bugs",
    "maintainers",
];

/// What hooks are told of. It is put into words, which are more than this, when it is sent.
#[derive(Debug)]
pub(super) struct Publication {
    caller: Caller,
    name: PackageName,
    event: Event,
}

/// One hook.
#[derive(Debug)]
pub(super) struct Hook {
    /// Its path in the file.
    pub(super) path: String,
    service: Service,
    endpoint: Url,
    method: Method,
    headers: HeaderMap,
    template: Handlebars<'static>,
}

/// A hook and the packages that it is about.
pub(super) fn open(
    config: &HookConfig,
    events: &EventsConfig,
) -> Result<(Hook, Option<Regex>), EventsError> {
    let mut template = Handlebars::new();
    template.register_template(CONTENT, config.content.clone());
    let mut headers = config.headers.clone();
    headers
        .entry(header::CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/json"));
    let hook = Hook {
        path: config.path.clone(),
        service: Service::new(&config.endpoint, events.timeout)?,
        endpoint: config.endpoint.clone(),
        method: config.method.clone(),
        headers,
        template,
    };
    Ok((hook, config.packages.clone()))
}

impl Hook {
    pub(super) async fn deliver(&self, publication: &Publication) -> Result<(), Failure> {
        let context = publication.context();
        // The texts of errors tell of the template, and not of what it was filled with.
        let content = self.template.render(CONTENT, &context);
        let content = content.map_err(|error| Failure::Refused(error.reason().to_string()))?;
        let mut url = self.endpoint.clone();
        let body = if self.method == Method::GET {
            url.query_pairs_mut()
                .extend_pairs(url::form_urlencoded::parse(content.trim().as_bytes()));
            Bytes::new()
        } else {
            content.into()
        };
        let mut headers = self.headers.clone();
        if let Ok(id) = HeaderValue::from_str(&publication.caller.request.id)
            && !id.is_empty()
        {
            headers.entry(X_REQUEST_ID).or_insert(id);
        }
        let told = self.service.tell(self.method.clone(), url, body, headers);
        Failure::of(told.await)
    }
}

impl Publication {
    /// `None` for events that hooks are not told of.
    pub(super) fn of(caller: &Caller, name: &PackageName, event: &Event) -> Option<Arc<Self>> {
        let is_told = matches!(
            event,
            Event::Published { .. } | Event::PackageRemoved { .. } | Event::TarballRemoved { .. }
        );
        is_told.then(|| {
            Arc::new(Self {
                caller: caller.clone(),
                name: name.clone(),
                event: event.clone(),
            })
        })
    }

    /// How many bytes it keeps in memory, about.
    pub(super) fn size(&self) -> usize {
        match &self.event {
            Event::Published { manifest, .. } => manifest.len(),
            Event::PackageRemoved { versions, .. } => versions.iter().map(String::len).sum(),
            _ => 0,
        }
    }

    fn context(&self) -> Value {
        context(&self.caller, &self.name, &self.event)
    }
}

/// What templates are filled with: the document as it was published, and who did it.
fn context(caller: &Caller, name: &PackageName, event: &Event) -> Value {
    let (versions, tags, what) = match event {
        Event::Published {
            version,
            tags,
            manifest,
            ..
        } => {
            let manifest = serde_json::from_slice(manifest).unwrap_or(Value::Null);
            let tags = tags.iter().map(|tag| (tag.as_str(), version.as_str()));
            let versions = Map::from_iter([(version.clone(), manifest)]);
            (versions, tags.collect(), "publish")
        }
        Event::PackageRemoved { versions, .. } => {
            (removed(name, versions), BTreeMap::new(), "unpublish")
        }
        Event::TarballRemoved { version, .. } => {
            let versions = removed(name, std::slice::from_ref(version));
            (versions, BTreeMap::new(), "unpublish")
        }
        _ => return Value::Null,
    };
    let published = match (versions.len(), versions.keys().next()) {
        (1, Some(version)) => format!("{name}@{version}"),
        _ => name.to_string(),
    };
    let identity = caller.identity.as_deref();
    let real: Vec<&str> = identity
        .map(|identity| identity.groups.iter().map(String::as_str).collect())
        .unwrap_or_default();
    let everybodys: &[&str] = if caller.is_anonymous() {
        &NOT_SIGNED_IN
    } else {
        &SIGNED_IN
    };
    let groups = [&real[..], everybodys].concat();
    let mut context = json!({
        "_id": name.as_str(),
        "name": name.as_str(),
        "dist-tags": tags,
        "publisher": {
            "name": identity.and_then(|identity| identity.primary_name()),
            "groups": groups,
            "real_groups": real,
        },
        "publishedPackage": published,
        "publishType": what,
    });
    if let Some(context) = context.as_object_mut() {
        let manifest = versions.values().next();
        for field in SHOWN {
            if let Some(value) = manifest.and_then(|manifest| manifest.get(field)) {
                context.insert(field.to_owned(), value.clone());
            }
        }
        context.insert("versions".to_owned(), Value::Object(versions));
    }
    context
}

/// Versions of which no more is left than their names.
fn removed(name: &PackageName, versions: &[String]) -> Map<String, Value> {
    let documents = versions.iter().map(|version| {
        let document = json!({ "name": name.as_str(), "version": version });
        (version.clone(), document)
    });
    documents.collect()
}
