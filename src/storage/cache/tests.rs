//! Damage, sharing, and bounds.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use base64::Engine as _;
use sha2::Digest as _;
use tokio::sync::Semaphore;

use super::{
    document::{HEAD, read_if_there},
    folder::sweep_if_alone,
    shared::{WAITING_WRITES, WRITES},
    *,
};
use crate::{
    lifecycle::{Clock as _, SystemClock},
    models::{ContentCoding, Integrity, Timestamp},
    storage::fs::atomic::{copy_by, replace_by},
};

fn freshness(etag: &str) -> Freshness {
    Freshness {
        fetched_at: Timestamp::from_unix_millis(1),
        etag: Some(etag.to_owned()),
        last_modified: None,
    }
}

#[tokio::test]
async fn what_is_damaged_is_no_document() {
    let folder = tempfile::tempdir().unwrap();
    let cache = UpstreamCache::open(folder.path().join("cache")).unwrap();
    let (name, uplink) = ("@s/n".parse().unwrap(), "default".parse().unwrap());
    let packument = CachedDocument::new("{}".into(), ContentCoding::Identity, freshness("1"));
    cache
        .put_packument(&name, &uplink, packument.clone())
        .await
        .unwrap();
    let read = cache.packument(&name, &uplink).await.unwrap().unwrap();
    assert_eq!((read.body, read.freshness), ("{}".into(), freshness("1")));
    let again = CachedDocument {
        freshness: freshness("2"),
        ..packument
    };
    let refresh = || cache.refresh_packument(&name, &uplink, again.clone());
    refresh().await.unwrap();
    let read = cache.packument(&name, &uplink).await.unwrap().unwrap();
    assert_eq!(read.freshness, freshness("2"));

    let paths = cache
        .local
        .document_paths(&Place::packument(&name, &uplink));
    // Nothing but the head is written where the document is the same.
    let inode = || fs::metadata(&paths.file).unwrap().ino();
    let before = inode();
    refresh().await.unwrap();
    assert_eq!(inode(), before);
    // A power cut may leave any of these.
    let whole = read_if_there(&paths.file).unwrap().unwrap();
    let halves = [0, 1, HEAD - 1, HEAD, whole.len() - 1].map(|length| whole[..length].to_vec());
    let mut torn = whole.clone();
    *torn.last_mut().unwrap() = 0;
    for damage in halves.into_iter().chain([torn, vec![0; whole.len()]]) {
        replace_by(&paths.temporary, &paths.file, &[&damage]).unwrap();
        assert!(cache.packument(&name, &uplink).await.unwrap().is_none());
        let put = cache.put_packument(&name, &uplink, again.clone());
        put.await.unwrap();
        assert!(cache.packument(&name, &uplink).await.unwrap().is_some());
    }
    for damage in [vec![], whole[..HEAD].to_vec(), vec![b' '; whole.len()]] {
        replace_by(&paths.temporary, &paths.file, &[&damage]).unwrap();
        refresh().await.unwrap();
        assert!(cache.packument(&name, &uplink).await.unwrap().is_some());
    }
    fs::remove_file(&paths.file).unwrap();
    refresh().await.unwrap();
    assert!(cache.packument(&name, &uplink).await.unwrap().is_some());
    assert_eq!(fs::read_dir(&paths.temporary).unwrap().count(), 0);
}

#[test]
fn who_is_alone_sweeps() {
    let folder = tempfile::tempdir().unwrap();
    let open = || UpstreamCache::open(folder.path().to_owned()).unwrap();
    let first = open();
    fs::create_dir_all(&first.local.temporary).unwrap();
    let half = first.local.temporary.join("half");
    File::create(&half).unwrap();
    let second = open();
    drop(first);
    assert!(half.exists(), "somebody may still be writing it");
    let third = open();
    drop((second, third));
    open();
    assert!(!half.exists());
}

#[test]
fn a_folder_that_cannot_be_swept_is_used_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    let half = temporary.join("half");
    fs::create_dir_all(&temporary).unwrap();
    File::create(&half).unwrap();
    let without_locks = TryLockError::Error(io::ErrorKind::Unsupported.into());
    sweep_if_alone(Err(without_locks), &temporary).unwrap_err();
    assert!(half.exists(), "somebody may still be writing it");
    fs::create_dir(temporary.join("odd")).unwrap();
    UpstreamCache::open(folder.path().to_owned()).unwrap();
}

#[test]
fn a_copy_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (by, from) = (folder.path().join("tmp"), folder.path().join("from"));
    fs::create_dir(&by).unwrap();
    let to = folder.path().join("to");
    assert!(copy_by(&by, &from, &to).is_err());
    assert!(!to.exists());
    replace_by(&by, &from, &[b"by", b"tes"]).unwrap();
    copy_by(&by, &from, &to).unwrap();
    assert_eq!(fs::read_to_string(&to).unwrap(), "bytes");
    assert_eq!(fs::read_dir(&by).unwrap().count(), 0);
}

/// A tarball of `length` bytes that was used so many minutes ago.
async fn tarball_used(cache: &UpstreamCache, name: &str, length: usize, minutes: u64) -> Digest {
    let name = name.parse().unwrap();
    let bytes = Bytes::from(vec![7; length]);
    let text = base64::engine::general_purpose::STANDARD.encode(sha2::Sha512::digest(&bytes));
    let integrity: Integrity = format!("sha512-{text}").parse().unwrap();
    let digest = integrity.strongest().clone();
    cache
        .put_small_tarball(&name, &digest, bytes)
        .await
        .unwrap();
    let file = File::open(cache.local.path(&Place::tarball(&name, &digest))).unwrap();
    let since_epoch = u64::try_from(SystemClock.now().unix_millis()).unwrap();
    let used = Duration::from_millis(since_epoch - 60_000 * minutes);
    file.set_modified(std::time::UNIX_EPOCH + used).unwrap();
    digest
}

#[tokio::test]
async fn a_cache_is_pruned_by_last_use_down_to_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let cache = UpstreamCache::open(folder.path().to_owned()).unwrap();
    let mut digests = Vec::new();
    for (name, minutes) in [("a", 300), ("b", 100), ("c", 200), ("d", 50), ("e", 200)] {
        digests.push((name, tarball_used(&cache, name, 1000, minutes).await));
    }
    // A use counts, and is noted at once where the last one is long ago.
    let (name, digest) = &digests[0];
    let open = cache.tarball(&name.parse().unwrap(), digest).await.unwrap();
    std::os::unix::fs::symlink("/etc/passwd", cache.local.root.join("packages/d/link.json"))
        .unwrap();
    let size = |max| CacheBounds {
        max_size: Some(max),
        max_age: None,
    };
    let pruned = cache.prune(size(5000)).await.unwrap()[0];
    assert_eq!((pruned.removed.files, pruned.kept.files), (0, 5));
    // `c` and `e` are equal, and one is enough.
    let pruned = cache.prune(size(4000)).await.unwrap()[0];
    assert_eq!((pruned.removed.files, pruned.kept.bytes), (1, 4000));
    let pruned = cache.prune(size(2999)).await.unwrap()[0];
    assert_eq!((pruned.removed.files, pruned.kept.bytes), (2, 2000));
    for (name, digest) in &digests {
        let is_there = cache.tarball(&name.parse().unwrap(), digest).await.unwrap();
        assert_eq!(is_there.is_some(), ["a", "d"].contains(name), "{name}");
    }
    let removed = cache.clear(Selection::default()).await.unwrap()[0].removed;
    assert_eq!(removed.files, 2);
    // Whoever has it open reads on.
    assert_eq!(open.unwrap().into_bytes().await.unwrap().len(), 1000);
    assert!(fs::symlink_metadata(cache.local.root.join("packages/d/link.json")).is_ok());
}

#[tokio::test]
async fn a_use_is_not_written_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let cache = UpstreamCache::open(folder.path().to_owned()).unwrap();
    let digest = tarball_used(&cache, "a", 10, 5).await;
    let name = "a".parse().unwrap();
    let noted = || {
        let path = cache.local.path(&Place::tarball(&name, &digest));
        fs::metadata(path).unwrap().modified().unwrap()
    };
    let before = noted();
    cache.tarball(&name, &digest).await.unwrap().unwrap();
    assert_eq!(noted(), before);
    tarball_used(&cache, "a", 10, 30).await;
    let before = noted();
    cache.tarball(&name, &digest).await.unwrap().unwrap();
    assert!(noted() > before);
}

#[tokio::test]
async fn a_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = crate::storage::TemporaryFolder::open(&folder.path().join("tmp")).unwrap();
    let tier = FolderTier::open(folder.path().join("cache")).unwrap();
    conformance::tier(&tier, &temporary).await;
}

#[tokio::test]
async fn no_more_waits_to_be_written_than_there_is_room_for() {
    let folder = tempfile::tempdir().unwrap();
    let tier = FolderTier::open(folder.path().join("cache")).unwrap();
    let shared = Arc::new(Shared::new(Arc::new(tier)));
    let (begun, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let mut writes = tokio::task::JoinSet::new();
    for _ in 0..WRITES + WAITING_WRITES {
        let (shared, begun, gate) = (Arc::clone(&shared), Arc::clone(&begun), Arc::clone(&gate));
        writes.spawn(async move {
            let work = async {
                begun.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok(())
            };
            shared.write(work).await.unwrap();
        });
    }
    while shared.waiting_writes.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let mut is_written = false;
    let mut write = async || {
        let work = async {
            is_written = true;
            Ok(())
        };
        shared.write(work).await.unwrap();
        is_written
    };
    assert!(!write().await, "one more than there is room for");
    assert_eq!(begun.load(Ordering::SeqCst), WRITES);
    gate.add_permits(WRITES + WAITING_WRITES);
    writes.join_all().await;
    assert_eq!(begun.load(Ordering::SeqCst), WRITES + WAITING_WRITES);
    assert!(write().await);
}
