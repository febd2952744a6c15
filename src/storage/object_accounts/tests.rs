//! A bucket through the conformance suites: one in memory, and a real one.

use std::sync::Arc;

use object_store::{ObjectStore, memory::InMemory, path::Path};

use super::{ObjectAccounts, ObjectKeys, ObjectSessions, Records};
use crate::storage::{
    AccountStore, AccountStoreExt as _, KeyStore as _, Leases, Secrets, SessionStore, SigningKeys,
    accounts, object::Bucket, sessions,
};

fn records(store: Arc<dyn ObjectStore>, prefix: &str) -> Records {
    Records::new(Bucket::of(store, prefix)).unwrap()
}

fn accounts_in(records: Records) -> ObjectAccounts {
    ObjectAccounts::new(records, Leases::none())
}

async fn conforms(store: Arc<dyn ObjectStore>, prefix: &str) {
    let two = || [(); 2].map(|()| records(Arc::clone(&store), prefix));
    let stores = two().map(|it| Arc::new(accounts_in(it)) as Arc<dyn AccountStore>);
    accounts::conformance::account_store(stores).await;
    let stores = two().map(|it| Arc::new(ObjectSessions::new(it)) as Arc<dyn SessionStore>);
    sessions::conformance::session_store(stores).await;
    let started = futures_util::future::join_all((0..6).map(|_| {
        let keys = ObjectKeys::new(records(Arc::clone(&store), prefix));
        async move {
            let secrets = Secrets::open(&keys, None).await.unwrap();
            let signing = SigningKeys::open(&keys, &secrets).await.unwrap();
            (secrets.seal("seed", b"text"), secrets, signing)
        }
    }));
    let started = started.await;
    for (sealed, _, signing) in &started {
        assert_eq!(started[0].1.unseal("seed", sealed).unwrap(), b"text");
        assert_eq!(signing.keyid(), started[0].2.keyid());
    }
    let keys = ObjectKeys::new(records(store, prefix));
    assert!(!keys.write("secret.key", b"x", None).await.unwrap());
    assert!(!keys.write("secret.key", b"x", Some(b"y")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_in_memory_conforms() {
    conforms(Arc::new(InMemory::new()), "some/prefix/").await;
}

#[cfg(all(feature = "test-services", feature = "s3"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_real_bucket_conforms() {
    use crate::{config::Env, lifecycle::random_hex};
    let env = Env::of_process();
    let variable = |name: &str| {
        let value = env.get(name).map(str::to_owned);
        value.expect("RUSTACCIO_S3_IT_* is not set: run this through ./scripts/test")
    };
    let bucket = env.get("RUSTACCIO_S3_IT_BUCKET").unwrap_or("rustaccio-it");
    let store = object_store::aws::AmazonS3Builder::new()
        .with_endpoint(variable("RUSTACCIO_S3_IT_ENDPOINT"))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(bucket)
        .with_access_key_id(variable("RUSTACCIO_S3_IT_ACCESS_KEY"))
        .with_secret_access_key(variable("RUSTACCIO_S3_IT_SECRET_KEY"))
        .build()
        .unwrap();
    conforms(Arc::new(store), &format!("accounts-{}/", random_hex::<8>())).await;
}

#[tokio::test]
async fn listing_the_tokens_of_one_reads_nobody_elses() {
    use accounts::{TokenKind, conformance::token};
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let accounts = accounts_in(records(Arc::clone(&store), ""));
    for (key, user) in [("1", "alice"), ("2", "bob"), ("3", "a%2Fb"), ("4", "..")] {
        accounts
            .add_token(token(key, user, TokenKind::Npm, None))
            .await
            .unwrap();
    }
    // What cannot be read would be an error.
    let other = Path::from(format!(".rustaccio/accounts/tokens/{:0>64}", 2));
    store
        .put_opts(&other, "{".into(), object_store::PutOptions::default())
        .await
        .unwrap();
    let own = accounts.tokens_of(&"alice".parse().unwrap()).await.unwrap();
    assert_eq!(own.len(), 1);
    let own = accounts.tokens_of(&"..".parse().unwrap()).await.unwrap();
    assert_eq!(own.len(), 1);
}
