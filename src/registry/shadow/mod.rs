//! Comparing what two registries answer.

mod compare;

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use serde_json::Value;
use sha2::Digest as _;

use compare::{Side, compare_documents, compare_versions};

use super::{
    import::Source,
    packument::{Dist, Packument},
};
use crate::{
    error::explain,
    lifecycle::random_hex,
    models::PackageName,
    uplink::{DirectAnswer, UplinkError},
};

const FULL: &str = "application/json";
const ABBREVIATED: &str = "application/vnd.npm.install-v1+json";
/// The largest answer in bytes that is compared.
const MAX_ANSWER: u64 = 128 * 1024 * 1024;
/// How many differences of a kind a person is shown.
const SHOWN: usize = 20;

/// One registry as it is compared.
#[derive(Debug)]
pub struct Registries {
    /// Asked with the credentials.
    pub known: Source,
    /// Asked without; `None` where there are no credentials.
    pub anonymous: Option<Source>,
}

/// Two registries that should answer alike.
pub struct Shadow<'s> {
    /// The one that is to be matched.
    pub theirs: &'s Registries,
    /// The one that is to match it.
    pub ours: &'s Registries,
    /// Whether tarballs are read and compared.
    pub with_tarballs: bool,
    /// How many packages are worked on at a time.
    pub jobs: usize,
    /// Hears what was done so far, and how many packages there are.
    pub watch: &'s (dyn Fn(&Shadowed, usize) + Sync),
}

/// What has come of comparing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shadowed {
    /// How many packages were compared.
    pub packages: usize,
    /// How many answers were.
    pub answers: usize,
    /// What differs: by kind, what each is about and how.
    pub differences: BTreeMap<&'static str, Vec<String>>,
    /// What could not be compared.
    pub failures: Vec<String>,
}

impl Shadowed {
    /// Whether both answer alike.
    pub fn is_alike(&self) -> bool {
        self.differences.is_empty() && self.failures.is_empty()
    }

    /// Notes a difference.
    fn differ(&mut self, kind: &'static str, what: impl fmt::Display) {
        let of = self.differences.entry(kind).or_default();
        of.push(what.to_string());
    }

    fn add(&mut self, other: Self) {
        self.packages += other.packages;
        self.answers += other.answers;
        for (kind, of) in other.differences {
            self.differences.entry(kind).or_default().extend(of);
        }
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Shadowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, of) in &self.differences {
            writeln!(f, "{kind}: {}", of.len())?;
            for one in of.iter().take(SHOWN) {
                writeln!(f, "  {one}")?;
            }
            if of.len() > SHOWN {
                writeln!(f, "  and {} more; --json names them all", of.len() - SHOWN)?;
            }
        }
        for failure in &self.failures {
            writeln!(f, "could not be compared: {failure}")?;
        }
        write!(
            f,
            "compared {} packages in {} answers",
            self.packages, self.answers
        )
    }
}

impl Shadow<'_> {
    /// Compares the answers for `names`, and for names that nobody has.
    pub async fn run(&self, names: &[PackageName]) -> Shadowed {
        let mut shadowed = Shadowed::default();
        self.compare_missing(&mut shadowed).await;
        let compared = stream::iter(names).map(|name| async move {
            let mut of_one = Shadowed {
                packages: 1,
                ..Shadowed::default()
            };
            if let Err(error) = self.compare_package(name, &mut of_one).await {
                of_one.failures.push(format!("{name}: {}", explain(&error)));
            }
            of_one
        });
        let mut compared = compared.buffer_unordered(self.jobs.max(1));
        while let Some(of_one) = compared.next().await {
            shadowed.add(of_one);
            (self.watch)(&shadowed, names.len());
        }
        for of in shadowed.differences.values_mut() {
            of.sort();
        }
        shadowed
    }

    /// What is not there is not there in the same way.
    async fn compare_missing(&self, shadowed: &mut Shadowed) {
        let name = format!("missing-{}", random_hex::<8>());
        let scoped = format!("@{name}%2f{name}");
        for path in [
            name.clone(),
            scoped,
            format!("{name}/1.0.0"),
            format!("{name}/-/{name}-1.0.0.tgz"),
        ] {
            if let Err(error) = self.compare_status(&path, shadowed).await {
                let text = format!("a name that nobody has: {}", explain(&error));
                shadowed.failures.push(text);
                return;
            }
        }
    }

    /// The statuses of both, with the credentials and without; both answers where both are well.
    async fn compare_status(
        &self,
        path: &str,
        shadowed: &mut Shadowed,
    ) -> Result<Option<(Bytes, Bytes)>, UplinkError> {
        if let (Some(theirs), Some(ours)) = (&self.theirs.anonymous, &self.ours.anonymous) {
            let theirs = ask(theirs, path, FULL).await?.status;
            let ours = ask(ours, path, FULL).await?.status;
            shadowed.answers += 1;
            if theirs != ours {
                let (theirs, ours) = (theirs.as_u16(), ours.as_u16());
                let text = format!("/{path} without credentials: {theirs} there, {ours} here");
                shadowed.differ("status", text);
            }
        }
        self.compare_answers(path, FULL, shadowed).await
    }

    async fn compare_answers(
        &self,
        path: &str,
        accept: &'static str,
        shadowed: &mut Shadowed,
    ) -> Result<Option<(Bytes, Bytes)>, UplinkError> {
        let theirs = ask(&self.theirs.known, path, accept).await?;
        let ours = ask(&self.ours.known, path, accept).await?;
        shadowed.answers += 1;
        if theirs.status != ours.status {
            let (theirs, ours) = (theirs.status.as_u16(), ours.status.as_u16());
            shadowed.differ("status", format!("/{path}: {theirs} there, {ours} here"));
            return Ok(None);
        }
        let is_well = theirs.status.is_success();
        Ok(is_well.then_some((theirs.body, ours.body)))
    }

    async fn compare_package(
        &self,
        name: &PackageName,
        shadowed: &mut Shadowed,
    ) -> Result<(), UplinkError> {
        let segment = name.to_path_segment();
        let Some((theirs, ours)) = self.compare_status(&segment, shadowed).await? else {
            return Ok(());
        };
        let Some((full_theirs, full_ours)) = parse(name, &theirs, &ours, shadowed) else {
            return Ok(());
        };
        compare_documents(name, &full_theirs, &full_ours, Side::Full, shadowed);
        if let Some((theirs, ours)) = self
            .compare_answers(&segment, ABBREVIATED, shadowed)
            .await?
            && let Some((theirs, ours)) = parse(name, &theirs, &ours, shadowed)
        {
            compare_documents(name, &theirs, &ours, Side::Abbreviated, shadowed);
        }
        let tags = format!("-/package/{segment}/dist-tags");
        if let Some((theirs, ours)) = self.compare_answers(&tags, FULL, shadowed).await?
            && let Some((theirs, ours)) = parse(name, &theirs, &ours, shadowed)
            && theirs != ours
        {
            shadowed.differ("dist-tags", format!("{name}: {theirs} there, {ours} here"));
        }
        let latest = format!("{segment}/latest");
        if let Some((theirs, ours)) = self.compare_answers(&latest, FULL, shadowed).await?
            && let Some((theirs, ours)) = parse(name, &theirs, &ours, shadowed)
        {
            compare_versions(&format!("{name}/latest"), &theirs, &ours, shadowed);
        }
        if self.with_tarballs {
            self.compare_tarballs(name, &theirs, &ours, shadowed)
                .await?;
        }
        Ok(())
    }

    async fn compare_tarballs(
        &self,
        name: &PackageName,
        theirs: &Bytes,
        ours: &Bytes,
        shadowed: &mut Shadowed,
    ) -> Result<(), UplinkError> {
        let (Ok(theirs), Ok(ours)) = (Packument::parse(theirs), Packument::parse(ours)) else {
            return Ok(());
        };
        for (version, raw) in theirs.versions() {
            let file = |raw: &Bytes| Dist::of(raw)?.file(name, version);
            let other = ours.version(version);
            let (Some(there), Some(here)) = (file(raw), other.and_then(file)) else {
                continue;
            };
            let there = digest(&self.theirs.known, name, there.as_str()).await?;
            let here = digest(&self.ours.known, name, here.as_str()).await?;
            shadowed.answers += 1;
            if there != here {
                let text = |digest: Option<String>| digest.unwrap_or_else(|| "none".to_owned());
                let (there, here) = (text(there), text(here));
                let text = format!("{name}@{version}: {there} there, {here} here");
                shadowed.differ("bytes of tarballs", text);
            }
        }
        Ok(())
    }
}

/// Both as JSON. What is none is no difference of values.
fn parse(
    name: &PackageName,
    theirs: &Bytes,
    ours: &Bytes,
    shadowed: &mut Shadowed,
) -> Option<(Value, Value)> {
    let of = |body: &Bytes| serde_json::from_slice::<Value>(body).ok();
    match (of(theirs), of(ours)) {
        (Some(theirs), Some(ours)) => Some((theirs, ours)),
        (theirs, _) => {
            let side = if theirs.is_none() {
                "the other registry"
            } else {
                "this registry"
            };
            let text = format!("{name}: {side} answered with something that is no JSON");
            shadowed.failures.push(text);
            None
        }
    }
}

async fn ask(
    source: &Source,
    path: &str,
    accept: &'static str,
) -> Result<DirectAnswer, UplinkError> {
    let uplink = source.uplink();
    source
        .patiently(|| async {
            let answer = uplink.direct(path, accept, MAX_ANSWER).await?;
            if answer.status.as_u16() == 429 {
                let retry_after = answer.retry_after.map(std::time::Duration::from_secs);
                return Err(UplinkError::RateLimited { retry_after });
            }
            Ok(answer)
        })
        .await
}

/// The digest of a tarball at the registry's own address of it; `None` where there is none.
async fn digest(
    source: &Source,
    name: &PackageName,
    file: &str,
) -> Result<Option<String>, UplinkError> {
    let Some(address) = source.own_address(name, file) else {
        return Ok(None);
    };
    let read = || async {
        let Some(mut response) = source.uplink().tarball(&address).await? else {
            return Ok(None);
        };
        let mut hash = sha2::Sha512::new();
        while let Some(piece) = response.body.next().await {
            hash.update(&piece?);
        }
        Ok(Some(hex::encode(hash.finalize())))
    };
    source.patiently(read).await
}
