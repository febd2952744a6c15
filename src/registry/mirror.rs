//! Warming the cache of upstream with what projects have locked.

use std::{fmt, sync::Arc};

use futures_util::StreamExt as _;
use serde::Serialize;
use url::Url;

use super::{
    Registry, TarballBytes,
    document::TarballSource,
    import::Source,
    packument::{Dist, Packument},
    small_tarballs::Promised,
};
use crate::{
    error::{RegistryError, explain},
    models::{PackageName, Version},
};

/// What has come of warming.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mirrored {
    /// How many packages were looked at.
    pub packages: usize,
    /// Tarballs that are at hand now.
    pub tarballs: usize,
    /// Tarballs of those that are hosted here, and need no cache.
    pub hosted: usize,
    /// What could not be had, with the reason.
    pub failures: Vec<String>,
}

impl Mirrored {
    /// Whether all that was asked for is at hand.
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    /// Takes in what has come of other packages.
    pub fn add(&mut self, other: Self) {
        self.packages += other.packages;
        self.tarballs += other.tarballs;
        self.hosted += other.hosted;
        self.failures.extend(other.failures);
    }

    fn fail(&mut self, what: impl fmt::Display, why: impl fmt::Display) {
        self.failures.push(format!("{what}: {why}"));
    }
}

impl fmt::Display for Mirrored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "could not be had: {failure}")?;
        }
        write!(
            f,
            "packages: {}\ntarballs: {} at hand, {} of them hosted here",
            self.packages, self.tarballs, self.hosted
        )
    }
}

impl Registry {
    /// Has the document of `name` and the tarballs of `versions` at hand, as if somebody who may read
    /// everything had asked for them.
    pub async fn warm(self: &Arc<Self>, name: &PackageName, versions: &[Version]) -> Mirrored {
        let mut mirrored = Mirrored {
            packages: 1,
            ..Mirrored::default()
        };
        let found = match self.documents.find(name).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                mirrored.fail(
                    name,
                    "neither this registry nor an uplink of its rule has it",
                );
                return mirrored;
            }
            Err(error) => {
                mirrored.fail(name, explain(&error));
                return mirrored;
            }
        };
        for version in versions {
            let what = format!("{name}@{version}");
            let raw = found.document.packument.version(version.as_str());
            let dist = raw.and_then(|raw| Dist::of(raw));
            let file = dist.and_then(|dist| dist.file(name, version.as_str()));
            let listed = file.and_then(|file| Some((found.document.tarball(&file)?, file)));
            let Some((listed, file)) = listed else {
                mirrored.fail(what, "there is no such version");
                continue;
            };
            let TarballSource::Upstream { uplink, address } = &listed.source else {
                mirrored.hosted += 1;
                mirrored.tarballs += 1;
                continue;
            };
            let Some(integrity) = &listed.integrity else {
                mirrored.fail(what, "the uplink says nothing of its bytes");
                continue;
            };
            let promised = Promised {
                name,
                is_hosted: false,
                integrity,
            };
            let bytes = Box::pin(self.fetched(promised, &file, uplink, address)).await;
            match drain(bytes).await {
                Ok(()) => mirrored.tarballs += 1,
                Err(why) => mirrored.fail(what, why),
            }
        }
        mirrored
    }
}

/// Waits until all of it is here.
async fn drain(bytes: Result<TarballBytes, RegistryError>) -> Result<(), String> {
    match bytes {
        Ok(TarballBytes::Growing(download)) => {
            let mut pieces = std::pin::pin!(download.into_stream());
            while let Some(piece) = pieces.next().await {
                piece.map_err(|error| explain(&error))?;
            }
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(explain(&error)),
    }
}

impl Source {
    /// The same by asking a registry that runs, which keeps what it is asked for.
    pub async fn warm(&self, name: &PackageName, versions: &[Version]) -> Mirrored {
        let mut mirrored = Mirrored {
            packages: 1,
            ..Mirrored::default()
        };
        let packument = match self.packument(name).await {
            Ok(Some(json)) => Packument::parse(&json).map_err(|error| error.to_string()),
            Ok(None) => Err("the registry does not have it".to_owned()),
            Err(error) => Err(explain(&error)),
        };
        let packument = match packument {
            Ok(packument) => packument,
            Err(why) => {
                mirrored.fail(name, why);
                return mirrored;
            }
        };
        for version in versions {
            let what = format!("{name}@{version}");
            let dist = packument
                .version(version.as_str())
                .and_then(|raw| Dist::of(raw));
            let file = dist.and_then(|dist| dist.file(name, version.as_str()));
            let address = file.and_then(|file| self.own_address(name, file.as_str()));
            let Some(address) = address else {
                mirrored.fail(what, "there is no such version");
                continue;
            };
            match self.patiently(|| self.read_through(&address)).await {
                Ok(true) => mirrored.tarballs += 1,
                Ok(false) => mirrored.fail(what, "the registry does not have its tarball"),
                Err(error) => mirrored.fail(what, explain(&error)),
            }
        }
        mirrored
    }

    /// Reads a tarball to its end; whether it is there.
    async fn read_through(&self, address: &Url) -> Result<bool, crate::uplink::UplinkError> {
        let Some(mut response) = self.uplink().tarball(address).await? else {
            return Ok(false);
        };
        while let Some(piece) = response.body.next().await {
            piece?;
        }
        Ok(true)
    }
}
