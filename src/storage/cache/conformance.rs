//! What every tier of the cache has to do.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sha2::Digest as _;

use super::{Amount, CacheBounds, CachedDocument, Freshness, Kind, Place, Tier, prune::Pass};
use crate::{
    models::{ContentCoding, Digest, Integrity, PackageName, Timestamp, UplinkName},
    storage::{FinishedBlob, TemporaryFolder},
};

fn document(text: &str, at: i64) -> CachedDocument {
    let freshness = Freshness {
        fetched_at: Timestamp::from_unix_millis(at),
        etag: Some(format!("tag-{at}")),
        last_modified: None,
    };
    let body = Bytes::copy_from_slice(text.as_bytes());
    // What is kept is not looked into.
    CachedDocument::new(body, ContentCoding::Gzip, freshness)
}

fn digest_of(bytes: &[u8]) -> Digest {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(sha2::Sha512::digest(bytes));
    let integrity: Integrity = format!("sha512-{text}").parse().unwrap();
    integrity.strongest().clone()
}

async fn shown(tier: &dyn Tier, place: &Place) -> Option<(String, i64)> {
    let document = tier.document(place).await.unwrap()?;
    let text = String::from_utf8(document.body.to_vec()).unwrap();
    Some((text, document.freshness.fetched_at.unix_millis()))
}

async fn count(tier: &dyn Tier) -> usize {
    let folders: Vec<_> = tier.folders().try_collect().await.unwrap();
    let entries = folders.iter().flat_map(|folder| &folder.entries);
    entries.filter(|entry| entry.kind != Kind::Leftover).count()
}

/// The suite. `tier` is empty.
pub(in crate::storage) async fn tier(tier: &dyn Tier, temporary: &TemporaryFolder) {
    let name: PackageName = "@s/n__m".parse().unwrap();
    let uplink: UplinkName = "a.b".parse().unwrap();
    documents(tier, &name, &uplink).await;
    tarballs(tier, &name, temporary).await;
    bounds(tier, &name, &uplink).await;
}

async fn documents(tier: &dyn Tier, name: &PackageName, uplink: &UplinkName) {
    let place = Place::packument(name, uplink);
    assert!(tier.document(&place).await.unwrap().is_none());
    assert!(tier.freshness(&place).await.unwrap().is_none());
    tier.remove_document(&place).await.unwrap();
    let first = document("{\"one\":1}", 1);
    tier.put_document(&place, first.clone()).await.unwrap();
    assert_eq!(
        shown(tier, &place).await.unwrap(),
        ("{\"one\":1}".into(), 1)
    );
    // Upstream has confirmed it.
    let confirmed = document("{\"one\":1}", 2);
    let refresh = |document| tier.refresh_document(&place, document);
    refresh(confirmed.clone()).await.unwrap();
    let known = tier.freshness(&place).await.unwrap().unwrap();
    assert_eq!(known, (first.digest, confirmed.freshness.clone()));
    assert_eq!(shown(tier, &place).await.unwrap().1, 2);
    // It has another one, and what was there before is gone.
    tier.put_document(&place, document("{}", 3)).await.unwrap();
    assert_eq!(shown(tier, &place).await.unwrap(), ("{}".into(), 3));
    refresh(confirmed.clone()).await.unwrap();
    assert_eq!(
        shown(tier, &place).await.unwrap(),
        ("{\"one\":1}".into(), 2)
    );
    tier.remove_document(&place).await.unwrap();
    assert!(tier.document(&place).await.unwrap().is_none());
    refresh(confirmed).await.unwrap();
    assert!(tier.document(&place).await.unwrap().is_some());
    let side = Place::document(uplink, "/-/npm/v1/keys?a=b");
    tier.put_document(&side, document("null", 4)).await.unwrap();
    assert_eq!(shown(tier, &side).await.unwrap(), ("null".into(), 4));

    let folders: Vec<_> = tier.folders().try_collect().await.unwrap();
    let names: Vec<&str> = folders.iter().map(|folder| &*folder.name).collect();
    assert_eq!(names, ["packages/@s%2fn__m", "documents/a.b"]);
    for folder in &folders {
        assert_eq!(folder.entries.len(), 1, "{folder:?}");
        assert_eq!(folder.entries[0].kind, Kind::Document("a.b".into()));
        assert!(folder.entries[0].length > 4);
    }
}

async fn tarballs(tier: &dyn Tier, name: &PackageName, temporary: &TemporaryFolder) {
    let small = Bytes::from_static(b"small");
    let place = Place::tarball(name, &digest_of(&small));
    assert!(tier.tarball(&place).await.unwrap().is_none());
    for _ in 0..2 {
        let put = tier.put_small_tarball(&place, small.clone());
        put.await.unwrap();
    }
    let found = tier.tarball(&place).await.unwrap().unwrap();
    assert_eq!(found.into_bytes().await.unwrap(), small);
    tier.note_use(&place).await.unwrap();

    // Larger than one part of an upload.
    let large = Bytes::from(vec![7; 6 * 1024 * 1024]);
    let place = Place::tarball(name, &digest_of(&large));
    let mut blob = temporary.create(()).await.unwrap();
    blob.write(large.clone()).await.unwrap();
    blob.finish().await.unwrap();
    for _ in 0..2 {
        let finished = FinishedBlob {
            path: blob.path(),
            length: blob.written(),
        };
        tier.put_tarball(&place, finished).await.unwrap();
    }
    let open = tier.tarball(&place).await.unwrap().unwrap();
    assert_eq!(open.length, 6 * 1024 * 1024);
    assert!(open.into_bytes().await.unwrap() == large);
    assert_eq!(count(tier).await, 4);
}

async fn bounds(tier: &dyn Tier, name: &PackageName, uplink: &UplinkName) {
    assert!(tier.takes_turn(Duration::ZERO).await.unwrap());
    let size = |max_size| CacheBounds {
        max_size: Some(max_size),
        max_age: None,
    };
    let pass = Pass::new(tier, size(1 << 30), 1 << 30, || false);
    let pruned = pass.run().await.unwrap();
    assert_eq!((pruned.removed.files, pruned.kept.files), (0, 4));
    // All of them were used just now: nothing is older than anything else.
    let limit = pruned.kept.bytes - 1;
    let pass = Pass::new(tier, size(limit), limit, || false);
    let pruned = pass.run().await.unwrap();
    assert!(pruned.removed.files >= 1 && pruned.kept.bytes <= limit);
    assert_eq!(
        count(tier).await,
        usize::try_from(pruned.kept.files).unwrap()
    );
    let place = Place::packument(name, uplink);
    tier.put_document(&place, document("{}", 5)).await.unwrap();

    // Two days later, and then forty.
    let month = CacheBounds {
        max_size: None,
        max_age: Some(Duration::from_hours(30 * 24)),
    };
    for (days, is_left) in [(2, true), (40, false)] {
        let mut pass = Pass::new(tier, month, u64::MAX, || false);
        pass.now = pass.now.plus(Duration::from_hours(days * 24));
        let pruned = pass.run().await.unwrap();
        assert_eq!(pruned.kept != Amount::default(), is_left, "{pruned:?}");
    }
    let folders: Vec<_> = tier.folders().try_collect().await.unwrap();
    assert!(folders.is_empty(), "{folders:?}");
}
