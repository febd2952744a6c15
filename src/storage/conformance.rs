//! One suite that every [`MetadataStore`] implementation runs, and one for blobs.

mod blobs;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::TryStreamExt as _;

pub(crate) use blobs::{Backend, blobs};

use super::{Document, Expected, MetadataStore, MetadataStoreExt as _, Stamp, StorageError};
use crate::models::PackageName;

/// Runs the whole contract against `store`, which must be empty.
pub(crate) async fn metadata_store(store: Arc<dyn MetadataStore>) {
    create_is_exclusive(&store).await;
    stale_writers_lose(&store).await;
    stamps_follow_documents(&store).await;
    names_do_not_collide(&store).await;
    surveys_tell_what_has_changed(&store).await;
    no_update_is_lost(&store).await;
}

async fn surveys_tell_what_has_changed(store: &Arc<dyn MetadataStore>) {
    let [changed, same]: [PackageName; 2] =
        ["@scope/changed", "same"].map(|name| name.parse().unwrap());
    let survey = async || {
        let found: HashMap<PackageName, Stamp> = store.survey().try_collect().await.unwrap();
        (found.get(&changed).copied(), found.get(&same).copied())
    };
    for name in [&changed, &same] {
        let json = Bytes::from(format!("{{\"name\":\"{name}\"}}"));
        store.put(name, json, Expected::Absent).await.unwrap();
    }
    let mut before = survey().await;
    assert!(before.0.is_some() && before.1.is_some());
    for round in 0..3 {
        let document = store.get(&changed).await.unwrap().unwrap();
        let json = Bytes::from(format!("{{\"name\":\"{changed}\",\"round\":{round}}}"));
        let expected = Expected::Exactly(document.revision);
        store.put(&changed, json, expected).await.unwrap();
        let now = survey().await;
        assert!(now.0.is_some() && now.0 != before.0, "round {round}");
        assert_eq!(now.1, before.1);
        before = now;
    }
    let document = store.get(&changed).await.unwrap().unwrap();
    store.delete(&changed, &document.revision).await.unwrap();
    let now = survey().await;
    assert_ne!(now.0, before.0);
    assert_eq!(now.1, before.1);
}

async fn create_is_exclusive(store: &Arc<dyn MetadataStore>) {
    let name: PackageName = "create".parse().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (store, name) = (Arc::clone(store), name.clone());
        tasks.spawn(async move {
            store
                .put(&name, "{}".into(), Expected::Absent)
                .await
                .is_ok()
        });
    }
    let wins = tasks.join_all().await.into_iter().filter(|&won| won);
    assert_eq!(wins.count(), 1);
}

async fn stale_writers_lose(store: &Arc<dyn MetadataStore>) {
    let name: PackageName = "@scope/stale".parse().unwrap();
    let first = store
        .put(&name, "1".into(), Expected::Absent)
        .await
        .unwrap();
    let second = store
        .put(&name, "2".into(), Expected::Exactly(first.clone()))
        .await
        .unwrap();
    let late = store
        .put(&name, "3".into(), Expected::Exactly(first.clone()))
        .await;
    assert!(matches!(late, Err(StorageError::Conflict(_))));
    let deleted = store.delete(&name, &first).await;
    assert!(matches!(deleted, Err(StorageError::Conflict(_))));
    assert_eq!(store.get(&name).await.unwrap().unwrap().json, "2");
    store.delete(&name, &second).await.unwrap();
    assert!(store.get(&name).await.unwrap().is_none());
    assert!(store.stamp(&name).await.unwrap().is_none());
    let gone = store
        .put(&name, "4".into(), Expected::Exactly(second))
        .await;
    assert!(matches!(gone, Err(StorageError::Conflict(_))));
}

async fn stamps_follow_documents(store: &Arc<dyn MetadataStore>) {
    let name: PackageName = "stamps".parse().unwrap();
    let mut revision = store
        .put(&name, "0".into(), Expected::Absent)
        .await
        .unwrap();
    let mut seen = BTreeSet::new();
    for round in 1..=20_u32 {
        let document = store.get(&name).await.unwrap().unwrap();
        assert_eq!(Some(document.stamp), store.stamp(&name).await.unwrap());
        assert_eq!(document.revision, revision);
        assert!(
            seen.insert(document.stamp.0),
            "round {round} has a stamp of before"
        );
        let next = Bytes::from(round.to_string());
        revision = store
            .put(&name, next, Expected::Exactly(revision))
            .await
            .unwrap();
    }
}

async fn names_do_not_collide(store: &Arc<dyn MetadataStore>) {
    let names: Vec<PackageName> = [
        "@a/b",
        "a__b",
        "@a/b__c",
        "@a__b/c",
        "JSONStream",
        "jsonstream",
    ]
    .iter()
    .map(|name| name.parse().unwrap())
    .collect();
    for name in &names {
        let json = Bytes::from(format!("{{\"name\":\"{name}\"}}"));
        store.put(name, json, Expected::Absent).await.unwrap();
    }
    for name in &names {
        let document = store.get(name).await.unwrap().unwrap();
        assert_eq!(document.json, format!("{{\"name\":\"{name}\"}}"));
    }
    let listed: BTreeSet<PackageName> = store.list().try_collect().await.unwrap();
    for name in &names {
        assert!(listed.contains(name), "{name} is not listed");
    }
}

async fn no_update_is_lost(store: &Arc<dyn MetadataStore>) {
    let name: PackageName = "counter".parse().unwrap();
    let increment = |document: Option<&Document>| {
        let count: u32 = document.map_or(0, |document| {
            std::str::from_utf8(&document.json)
                .unwrap()
                .parse()
                .unwrap()
        });
        Ok::<_, StorageError>(Some(Bytes::from((count + 1).to_string())))
    };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (store, name) = (Arc::clone(store), name.clone());
        tasks.spawn(async move {
            for _ in 0..5 {
                store.update(&name, increment).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(store.get(&name).await.unwrap().unwrap().json, "80");
}
