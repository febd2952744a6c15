//! One suite that every [`SessionStore`] implementation runs.

use std::{collections::BTreeSet, sync::Arc};

use super::{Claim, SessionRecord, SessionStore};
use crate::models::{AskedBy, SessionPurpose, Timestamp, Username};

type Stores = [Arc<dyn SessionStore>; 2];

/// Runs the whole contract against two handles of one empty store, as two nodes have them.
pub(crate) async fn session_store(stores: Stores) {
    one_answers_and_one_takes(&stores).await;
    neither_name_tells_the_other(&stores).await;
    a_flood_from_one_network_drowns_only_itself(&stores).await;
    passes_are_found_on_all_nodes(&stores).await;
    the_first_claim_counts(&stores).await;
    what_has_ended_is_forgotten(&stores).await;
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1000)
}

fn session(purpose: SessionPurpose, address: &str, expires: Timestamp) -> SessionRecord {
    let id = || uuid::Uuid::new_v4().to_string();
    SessionRecord {
        page: id(),
        done: id(),
        purpose,
        asked_by: AskedBy {
            client: "npm \u{0} \u{1f980}".to_owned(),
            machine: None,
            address: address.parse().ok(),
        },
        expires,
        is_answered: false,
        token: None,
    }
}

/// Begins a login that lives for two minutes.
pub(crate) async fn login(
    store: &dyn SessionStore,
    address: &str,
    now: Timestamp,
) -> SessionRecord {
    let purpose = SessionPurpose::Login {
        wants_account: false,
    };
    let expires = now.plus(std::time::Duration::from_secs(120));
    let session = session(purpose, address, expires);
    assert!(store.begin(session.clone(), now).await.unwrap());
    session
}

async fn one_answers_and_one_takes(stores: &Stores) {
    let [one, other] = stores;
    let begun = login(&**one, "192.0.2.1", at(0)).await;
    assert_eq!(
        other.of_page(&begun.page).await.unwrap(),
        Some(begun.clone())
    );
    assert_eq!(
        other.of_client(&begun.done).await.unwrap(),
        Some(begun.clone())
    );
    assert_eq!(other.take(&begun.done).await.unwrap(), None);
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..8 {
        let (store, page) = (Arc::clone(&stores[index % 2]), begun.page.clone());
        tasks.spawn(async move {
            let token = Some(format!("sealed{index}"));
            let answered = store.answer(&page, token.clone(), at(300)).await.unwrap();
            answered.then_some(token).flatten()
        });
    }
    let tokens: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(tokens.len(), 1);
    let answered = one.of_client(&begun.done).await.unwrap().unwrap();
    assert!(answered.is_answered);
    assert_eq!(
        (answered.token.as_ref(), answered.expires),
        (tokens.first(), at(300))
    );
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..8 {
        let (store, done) = (Arc::clone(&stores[index % 2]), begun.done.clone());
        tasks.spawn(async move { store.take(&done).await.unwrap() });
    }
    let taken: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(taken, [answered]);
    assert_eq!(one.of_page(&begun.page).await.unwrap(), None);
    assert_eq!(other.of_client(&begun.done).await.unwrap(), None);
}

async fn neither_name_tells_the_other([one, other]: &Stores) {
    let begun = login(&**one, "192.0.2.1", at(0)).await;
    assert_eq!(other.of_page(&begun.done).await.unwrap(), None);
    assert_eq!(other.of_client(&begun.page).await.unwrap(), None);
    assert!(!other.answer(&begun.done, None, at(9)).await.unwrap());
    assert!(other.answer(&begun.page, None, at(9)).await.unwrap());
    assert_eq!(other.take(&begun.page).await.unwrap(), None);
    assert!(one.take(&begun.done).await.unwrap().is_some());
}

async fn a_flood_from_one_network_drowns_only_itself([one, _]: &Stores) {
    let other = login(&**one, "192.0.2.1", at(0)).await;
    let answered = login(&**one, "2001:db8::1", at(0)).await;
    assert!(one.answer(&answered.page, None, at(500)).await.unwrap());
    let first = login(&**one, "2001:db8::1", at(0)).await;
    for host in 0..130 {
        login(&**one, &format!("2001:db8::{host:x}"), at(1)).await;
    }
    let is_there = |session: SessionRecord| async move {
        one.of_client(&session.done).await.unwrap().is_some()
    };
    assert!(!is_there(first).await);
    assert!(is_there(other).await && is_there(answered).await);
}

async fn passes_are_found_on_all_nodes([one, other]: &Stores) {
    let alice: Username = "alice".parse().unwrap();
    one.add_pass("hash", &alice, at(300)).await.unwrap();
    let pass = other.pass("hash").await.unwrap();
    assert_eq!(pass, Some((alice, at(300))));
    assert_eq!(other.pass("other").await.unwrap(), None);
}

async fn the_first_claim_counts(stores: &Stores) {
    assert_eq!(stores[0].claimed("alice/code/1").await.unwrap(), None);
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..8 {
        let store = Arc::clone(&stores[index % 2]);
        tasks.spawn(async move {
            let claim = Claim {
                by: format!("token{index}"),
                at: at(i64::try_from(index).unwrap()),
            };
            let first = store.claim("alice/code/1", claim, at(4000)).await.unwrap();
            (first.by, first.at)
        });
    }
    let firsts: BTreeSet<_> = tasks.join_all().await.into_iter().collect();
    assert_eq!(firsts.len(), 1, "{firsts:?}");
    let claimed = stores[1].claimed("alice/code/1").await.unwrap().unwrap();
    assert!(firsts.contains(&(claimed.by, claimed.at)));
    assert_eq!(stores[0].claimed("alice/code/2").await.unwrap(), None);
}

async fn what_has_ended_is_forgotten([one, other]: &Stores) {
    let late = login(&**one, "192.0.2.7", at(0)).await;
    one.prune(at(60)).await.unwrap();
    assert!(other.of_client(&late.done).await.unwrap().is_some());
    assert!(other.pass("hash").await.unwrap().is_some());
    one.prune(at(10_000)).await.unwrap();
    // The next one to begin sees to it where nothing else does.
    login(&**one, "192.0.2.7", at(10_000)).await;
    assert_eq!(other.of_client(&late.done).await.unwrap(), None);
    assert_eq!(other.pass("hash").await.unwrap(), None);
}
