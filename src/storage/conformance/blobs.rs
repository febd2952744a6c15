//! The part of the suite that every [`Blobs`] implementation runs, beside its [`MetadataStore`].

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::{
    models::{Integrity, PackageName, Revision, TarballName},
    storage::{
        Blobs, Created, Doomed, Expected, MetadataStore, Seen, StorageError, TemporaryBlob,
        TemporaryFolder,
    },
};

/// A backend, empty.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) temporary: TemporaryFolder,
    pub(crate) metadata: Arc<dyn MetadataStore>,
    pub(crate) blobs: Arc<dyn Blobs>,
}

/// Runs the whole contract of blobs.
pub(crate) async fn blobs(backend: Backend) {
    create_is_exclusive(&backend).await;
    parts_are_parts(&backend).await;
    deleted_blobs_are_gone_and_may_come_again(&backend).await;
    a_late_deleter_deletes_nothing_new(&backend).await;
    one_of_many_replaces(&backend).await;
    what_is_set_aside_is_gone(&backend).await;
    everything_is_listed(&backend).await;
    publishers_and_deleters_lose_nothing(&backend).await;
}

impl Backend {
    async fn blob(&self, bytes: impl Into<Bytes>) -> TemporaryBlob<()> {
        let mut blob = self.temporary.create(()).await.unwrap();
        blob.write(bytes.into()).await.unwrap();
        blob.finish().await.unwrap();
        blob
    }

    async fn create(&self, at: &Place, bytes: impl Into<Bytes>) -> Created {
        let blob = self.blob(bytes).await;
        let created = self.blobs.create(&at.name, &at.file, blob.finished());
        created.await.unwrap()
    }

    async fn replace(&self, at: &Place, seen: &Seen, bytes: impl Into<Bytes>) -> bool {
        let blob = self.blob(bytes).await;
        let replaced = self
            .blobs
            .replace(&at.name, &at.file, seen, blob.finished());
        replaced.await.unwrap()
    }

    async fn bytes(&self, at: &Place) -> Option<Bytes> {
        let blob = self.blobs.open(&at.name, &at.file).await.unwrap()?;
        Some(blob.into_bytes().await.unwrap())
    }

    async fn doom(&self, at: &Place) -> Doomed {
        let doomed = self.blobs.doom(&at.name, vec![at.file.clone()]);
        doomed.await.unwrap()
    }

    /// Writes the manifest, whatever it says now.
    async fn touch(&self, name: &PackageName, text: &str) -> Revision {
        let document = match self.metadata.get(name).await {
            // Somewhere it is known that there was one.
            Err(StorageError::Lost { .. }) => None,
            read => read.unwrap(),
        };
        let expected = Expected::from_read(document.as_ref());
        let json = Bytes::from(format!("{{\"text\":\"{text}\"}}"));
        self.metadata.put(name, json, expected).await.unwrap()
    }
}

#[derive(Clone, Debug)]
struct Place {
    name: PackageName,
    file: TarballName,
}

fn place(name: &str) -> Place {
    let name: PackageName = name.parse().unwrap();
    let file = format!("{}-1.0.0.tgz", name.base()).parse().unwrap();
    Place { name, file }
}

async fn create_is_exclusive(backend: &Backend) {
    let at = place("@scope/exclusive");
    assert!(backend.bytes(&at).await.is_none());
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..16_u8 {
        let (backend, at) = (backend.clone(), at.clone());
        tasks.spawn(async move {
            let created = backend.create(&at, vec![writer; 100]).await;
            (created == Created::New).then_some(writer)
        });
    }
    let winners: Vec<u8> = tasks.join_all().await.into_iter().flatten().collect();
    let [winner] = winners.as_slice() else {
        panic!("{winners:?} have all created it");
    };
    assert_eq!(backend.bytes(&at).await.unwrap(), vec![*winner; 100]);
}

async fn parts_are_parts(backend: &Backend) {
    let at = place("parts");
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    assert_eq!(backend.create(&at, bytes.clone()).await, Created::New);
    for part in [0..300_000, 0..1, 5..9, 299_999..300_000, 7..7] {
        let blob = backend.blobs.open(&at.name, &at.file).await.unwrap();
        let blob = blob.unwrap();
        assert_eq!(blob.length, 300_000);
        let pieces: Vec<Bytes> = blob.into_stream(part.clone()).try_collect().await.unwrap();
        let range = usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap();
        assert_eq!(pieces.concat(), bytes[range], "{part:?}");
    }
    let integrity = |bytes: &[u8]| {
        use base64::Engine as _;
        use sha2::Digest as _;
        let digest = base64::engine::general_purpose::STANDARD.encode(sha2::Sha512::digest(bytes));
        format!("sha512-{digest}").parse::<Integrity>().unwrap()
    };
    let (right, wrong) = (integrity(&bytes), integrity(b"other"));
    let verify = |integrity| backend.blobs.verify(&at.name, &at.file, integrity);
    assert!(verify(&right).await.unwrap().unwrap().is_ok());
    assert!(verify(&wrong).await.unwrap().unwrap().is_err());
    let missing = place("missing");
    let verified = backend.blobs.verify(&missing.name, &missing.file, &right);
    assert!(verified.await.unwrap().is_none());
}

async fn deleted_blobs_are_gone_and_may_come_again(backend: &Backend) {
    let at = place("@scope/again");
    backend.touch(&at.name, "named").await;
    for round in 0..3 {
        let bytes = "the same bytes each time";
        match backend.create(&at, bytes).await {
            Created::New => {}
            Created::Taken(seen) => {
                backend.touch(&at.name, &format!("touched {round}")).await;
                assert!(backend.replace(&at, &seen, bytes).await);
            }
        }
        assert_eq!(backend.bytes(&at).await.unwrap(), bytes);
        let doomed = backend.doom(&at).await;
        let revision = backend.touch(&at.name, &format!("gone {round}")).await;
        let deleted = backend.blobs.delete(&at.name, doomed, &revision);
        assert!(deleted.await.unwrap());
        assert!(backend.bytes(&at).await.is_none());
        assert!(backend.blobs.list(&at.name).await.unwrap().is_empty());
        let missing = backend.doom(&at).await;
        let deleted = backend.blobs.delete(&at.name, missing, &revision);
        assert!(deleted.await.unwrap());
    }
}

/// It has seen the blob, the manifest has let go of it, and then it was slow.
async fn a_late_deleter_deletes_nothing_new(backend: &Backend) {
    let at = place("late");
    let bytes = "what is published again is the same to the last byte";
    backend.touch(&at.name, "named").await;
    assert_eq!(backend.create(&at, bytes).await, Created::New);
    let mut late = Vec::new();
    for round in 0..3 {
        let doomed = backend.doom(&at).await;
        let gone = backend.touch(&at.name, &format!("gone {round}")).await;
        late.push((doomed, gone));
        // Somebody publishes it again meanwhile.
        let Created::Taken(seen) = backend.create(&at, bytes).await else {
            panic!("what was not deleted is still there");
        };
        backend.touch(&at.name, &format!("touched {round}")).await;
        assert!(backend.replace(&at, &seen, bytes).await);
        backend.touch(&at.name, &format!("named {round}")).await;
        for (doomed, gone) in &late {
            let deleted = backend.blobs.delete(&at.name, doomed.clone(), gone);
            deleted.await.unwrap();
            assert_eq!(backend.bytes(&at).await.unwrap(), bytes, "round {round}");
        }
    }
}

async fn one_of_many_replaces(backend: &Backend) {
    let at = place("replaced");
    backend.touch(&at.name, "empty").await;
    assert_eq!(backend.create(&at, "orphan").await, Created::New);
    // Each does what a publish does; a revision lets one of them commit.
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8_u8 {
        let (backend, at) = (backend.clone(), at.clone());
        tasks.spawn(async move { publish(&backend, &at, &[writer; 50]).await });
    }
    tasks.join_all().await;
    let named = backend.metadata.get(&at.name).await.unwrap().unwrap();
    let bytes = backend.bytes(&at).await.unwrap();
    assert_eq!(named.json, naming(&bytes));
}

async fn what_is_set_aside_is_gone(backend: &Backend) {
    let at = place("@scope/aside");
    backend.touch(&at.name, "named").await;
    assert_eq!(backend.create(&at, "orphan").await, Created::New);
    let doomed = backend.doom(&at).await;
    let revision = backend.touch(&at.name, "touched").await;
    let aside = backend.blobs.set_aside(&at.name, doomed, &revision);
    assert!(aside.await.unwrap());
    assert!(backend.bytes(&at).await.is_none());
    assert!(backend.blobs.list(&at.name).await.unwrap().is_empty());
}

async fn everything_is_listed(backend: &Backend) {
    let files = ["listed-1.0.0.tgz", "listed-1.0.1.tgz", "listed-2.0.0.tgz"];
    let name: PackageName = "@scope/listed".parse().unwrap();
    for (length, file) in files.iter().enumerate() {
        let file = file.parse().unwrap();
        let at = Place {
            name: name.clone(),
            file,
        };
        assert_eq!(backend.create(&at, vec![7; length + 1]).await, Created::New);
    }
    let listed = backend.blobs.list(&name).await.unwrap();
    let shown: Vec<(&str, u64)> = listed
        .iter()
        .map(|blob| (blob.file.as_str(), blob.length))
        .collect();
    assert_eq!(shown, [(files[0], 1), (files[1], 2), (files[2], 3)]);
    let lost: BTreeSet<PackageName> = backend.blobs.perhaps_lost().try_collect().await.unwrap();
    assert!(lost.contains(&name));
    backend.touch(&name, "named").await;
    let lost: BTreeSet<PackageName> = backend.blobs.perhaps_lost().try_collect().await.unwrap();
    assert!(!lost.contains(&name));
    let all: BTreeSet<PackageName> = backend.blobs.packages().try_collect().await.unwrap();
    assert!(all.contains(&name) && all.contains(&"parts".parse().unwrap()));
}

/// Whatever the order, the manifest never names bytes that are not there.
async fn publishers_and_deleters_lose_nothing(backend: &Backend) {
    let at = place("@scope/busy");
    backend.touch(&at.name, "empty").await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..4_u8 {
        let (backend, at) = (backend.clone(), at.clone());
        tasks.spawn(async move {
            for _ in 0..4 {
                // The bytes are the same each time: a state may look like one of before.
                publish(&backend, &at, &[writer; 80]).await;
                unpublish(&backend, &at).await;
            }
        });
    }
    tasks.join_all().await;
    publish(backend, &at, b"the last").await;
    let named = backend.metadata.get(&at.name).await.unwrap().unwrap();
    let bytes = backend.bytes(&at).await.unwrap();
    assert_eq!(named.json, naming(&bytes));
}

/// What a manifest says that names these bytes.
fn naming(bytes: &[u8]) -> Bytes {
    Bytes::from(format!("{{\"named\":\"{}\"}}", hex::encode(bytes)))
}

/// As the registry does it: until the manifest names these bytes, or others.
async fn publish(backend: &Backend, at: &Place, bytes: &[u8]) {
    let mut may_replace = None;
    loop {
        let document = backend.metadata.get(&at.name).await.unwrap().unwrap();
        if document.json.starts_with(b"{\"named") {
            return;
        }
        let expected = || Expected::Exactly(document.revision.clone());
        let is_replaced = match may_replace.take() {
            Some(seen) => backend.replace(at, &seen, bytes.to_vec()).await,
            None => false,
        };
        let created = if is_replaced {
            Created::New
        } else {
            backend.create(at, bytes.to_vec()).await
        };
        let json = match &created {
            Created::New => naming(bytes),
            Created::Taken(_) => {
                let nonce = crate::lifecycle::random_hex::<8>();
                Bytes::from(format!("{{\"touched\":\"{nonce}\"}}"))
            }
        };
        match backend.metadata.put(&at.name, json, expected()).await {
            Ok(_) => match created {
                Created::New => return,
                Created::Taken(seen) => may_replace = Some(seen),
            },
            Err(StorageError::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn unpublish(backend: &Backend, at: &Place) {
    loop {
        let document = backend.metadata.get(&at.name).await.unwrap().unwrap();
        if !document.json.starts_with(b"{\"named") {
            return;
        }
        // What is named is there, or the manifest has changed since.
        if backend.bytes(at).await.is_none() {
            let now = backend.metadata.get(&at.name).await.unwrap().unwrap();
            assert_ne!(now.revision, document.revision, "a named blob is lost");
            continue;
        }
        let doomed = backend.doom(at).await;
        let nonce = crate::lifecycle::random_hex::<8>();
        let json = Bytes::from(format!("{{\"gone\":\"{nonce}\"}}"));
        let expected = Expected::Exactly(document.revision);
        match backend.metadata.put(&at.name, json, expected).await {
            Ok(revision) => {
                let deleted = backend.blobs.delete(&at.name, doomed, &revision);
                deleted.await.unwrap();
                return;
            }
            Err(StorageError::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
