//! [`Document`]: what is known of a name at one moment, and where its tarballs come from.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use super::{
    hosted_documents::HostedDocument,
    packument::{Dist, Hosted, Ours, Packument, merge},
    upstream_documents::UpstreamDocument,
};
use crate::models::{Integrity, PackageName, TarballName, UplinkName};

/// Where a tarball comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TarballSource {
    /// A blob of ours.
    Hosted,
    /// The uplink, at this address.
    Upstream { uplink: UplinkName, address: String },
}

/// A tarball that a document lists.
#[derive(Clone, Debug)]
pub(super) struct ListedTarball {
    pub(super) integrity: Option<Integrity>,
    /// A strong entity tag with its quotes; `None` for an old document without integrity.
    pub(super) etag: Option<Arc<str>>,
    pub(super) source: TarballSource,
}

impl ListedTarball {
    fn new(integrity: Option<Integrity>, source: TarballSource) -> Self {
        let etag = integrity.as_ref().map(|integrity| {
            let digest = integrity.strongest();
            format!("\"{}-{}\"", digest.algorithm.as_str(), digest.to_hex()).into()
        });
        Self {
            integrity,
            etag,
            source,
        }
    }
}

/// Everything that is known of a name, at one moment. What takes a look at each version is found
/// out when somebody first asks for it.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) packument: Arc<Packument>,
    /// Names this state of the document.
    pub(super) generation: Arc<str>,
    /// Which versions were published here.
    pub(super) ours: Ours,
    pub(super) length: usize,
    name: PackageName,
    hosted: Option<Arc<Hosted>>,
    upstream: Option<(UplinkName, Arc<Packument>)>,
    tarballs: OnceLock<HashMap<TarballName, Arc<ListedTarball>>>,
    /// Those that were asked for.
    asked: Mutex<HashMap<TarballName, Arc<ListedTarball>>>,
    has_unsigned_of_ours: OnceLock<bool>,
    has_unsigned_of_upstream: OnceLock<bool>,
}

impl Document {
    /// What `hosted` and `upstream` say of `name` together.
    pub(super) fn of(
        name: PackageName,
        hosted: Option<HostedDocument>,
        upstream: Option<Arc<UpstreamDocument>>,
        generation: Arc<str>,
    ) -> Self {
        let length = hosted.as_ref().map_or(0, |hosted| hosted.length)
            + upstream.as_ref().map_or(0, |upstream| upstream.length);
        let hosted = hosted.map(|hosted| hosted.manifest);
        let upstream =
            upstream.map(|upstream| (upstream.uplink.clone(), Arc::clone(&upstream.packument)));
        let (packument, ours) = match (&hosted, &upstream) {
            (Some(hosted), Some((_, upstream))) => {
                let own = hosted.packument();
                let versions = own.versions().map(|(version, _)| version.to_owned());
                let ours = Ours::These(versions.collect::<HashSet<_>>());
                (Arc::new(merge(own, upstream)), ours)
            }
            (Some(hosted), None) => (Arc::new(hosted.packument().clone()), Ours::All),
            (None, Some((_, upstream))) => (Arc::clone(upstream), Ours::None),
            (None, None) => (Arc::default(), Ours::None),
        };
        Self {
            packument,
            generation,
            ours,
            length,
            name,
            hosted,
            upstream,
            tarballs: OnceLock::new(),
            asked: Mutex::default(),
            has_unsigned_of_ours: OnceLock::new(),
            has_unsigned_of_upstream: OnceLock::new(),
        }
    }

    /// Whether any of it was published here.
    pub(super) fn is_hosted(&self) -> bool {
        self.hosted.is_some()
    }

    /// Where what is not ours comes from.
    pub(super) fn uplink(&self) -> Option<&UplinkName> {
        self.upstream.as_ref().map(|(uplink, _)| uplink)
    }

    /// Whether a version of ours is not signed.
    pub(super) fn has_unsigned_of_ours(&self) -> bool {
        let has_unsigned = || {
            let hosted = self.hosted.as_ref();
            hosted.is_some_and(|hosted| has_unsigned(hosted.packument()))
        };
        *self.has_unsigned_of_ours.get_or_init(has_unsigned)
    }

    /// The uplink, if it has not signed all of its versions.
    pub(super) fn unsigned_from(&self) -> Option<&UplinkName> {
        let (uplink, packument) = self.upstream.as_ref()?;
        let has_unsigned = || has_unsigned(packument);
        let has_unsigned = *self.has_unsigned_of_upstream.get_or_init(has_unsigned);
        has_unsigned.then_some(uplink)
    }

    /// The uplink of `version`, if that comes from there and is not signed.
    pub(super) fn unsigned_version_from(&self, version: &str) -> Option<&UplinkName> {
        let (uplink, packument) = self.upstream.as_ref()?;
        let raw = packument.version(version)?;
        Dist::is_unsigned(raw).then_some(uplink)
    }

    /// The tarball `file`; ours, where there are two.
    pub(super) fn tarball(&self, file: &TarballName) -> Option<Arc<ListedTarball>> {
        if let Some(known) = self.asked.lock().get(file) {
            return Some(Arc::clone(known));
        }
        let found = match self.by_convention(file) {
            Some(found) => Arc::new(found),
            None => {
                let tarballs = self.tarballs.get_or_init(|| self.all_tarballs());
                Arc::clone(tarballs.get(file)?)
            }
        };
        self.asked.lock().insert(file.clone(), Arc::clone(&found));
        Some(found)
    }

    /// The same, without a look at each version, where the file has the usual name and only one
    /// side has any.
    fn by_convention(&self, file: &TarballName) -> Option<ListedTarball> {
        let rest = file.as_str().strip_prefix(self.name.base())?;
        let version = rest.strip_prefix('-')?.strip_suffix(".tgz")?;
        let (packument, uplink) = match (&self.hosted, &self.upstream) {
            (Some(hosted), None) => (hosted.packument(), None),
            (None, Some((uplink, upstream))) => (&**upstream, Some(uplink)),
            _ => return None,
        };
        let dist = Dist::of(packument.version(version)?)?;
        (dist.file(&self.name, version)? == *file).then(|| listed(uplink, dist))
    }

    fn all_tarballs(&self) -> HashMap<TarballName, Arc<ListedTarball>> {
        let mut tarballs = HashMap::new();
        let mut list = |packument: &Packument, uplink: Option<&UplinkName>| {
            for (version, raw) in packument.versions() {
                let dist = Dist::of(raw);
                let file = dist
                    .as_ref()
                    .and_then(|dist| dist.file(&self.name, version));
                if let (Some(dist), Some(file)) = (dist, file) {
                    let listed = || Arc::new(listed(uplink, dist));
                    tarballs.entry(file).or_insert_with(listed);
                }
            }
        };
        if let Some(hosted) = &self.hosted {
            list(hosted.packument(), None);
        }
        if let Some((uplink, upstream)) = &self.upstream {
            list(upstream, Some(uplink));
        }
        tarballs
    }
}

/// A tarball of `uplink`, or of ours.
fn listed(uplink: Option<&UplinkName>, dist: Dist) -> ListedTarball {
    let source = match uplink {
        None => TarballSource::Hosted,
        Some(uplink) => TarballSource::Upstream {
            uplink: uplink.clone(),
            address: dist.tarball,
        },
    };
    ListedTarball::new(dist.integrity, source)
}

fn has_unsigned(packument: &Packument) -> bool {
    packument.versions().any(|(_, raw)| Dist::is_unsigned(raw))
}
