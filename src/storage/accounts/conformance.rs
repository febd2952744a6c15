//! One suite that every [`AccountStore`] implementation runs.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::TryStreamExt as _;

use super::{
    AccountEntry, AccountStore, AccountStoreExt as _, AccountsError, Profile, Role, TeamRecord,
    TokenKind, TokenRecord, UserRecord,
};
use crate::models::{Organisation, Timestamp, Username};

type Stores = [Arc<dyn AccountStore>; 2];

/// Runs the whole contract against two handles of one empty store, as two nodes have them.
pub(crate) async fn account_store(stores: Stores) {
    one_gets_the_name(&stores).await;
    there_are_no_more_users_than_allowed(&stores).await;
    no_edit_is_lost(&stores).await;
    refused_edits_change_nothing(&stores).await;
    tokens_work_on_all_nodes_until_they_are_removed(&stores).await;
    a_new_password_ends_logins_alone(&stores).await;
    ended_tokens_are_pruned(&stores).await;
    organisations_give_groups(&stores).await;
    users_come_a_page_at_a_time(&stores).await;
    everything_can_be_moved(&stores).await;
}

fn name(text: &str) -> Username {
    text.parse().unwrap()
}

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(milliseconds)
}

/// A user whose texts are hard to keep.
pub(crate) fn user() -> UserRecord {
    UserRecord {
        password_hash: "$argon2id$".to_owned(),
        created: at(1),
        updated: None,
        password_changed: None,
        disabled: None,
        second_factor: None,
        profile: Profile {
            fullname: "Ada \u{0} \u{1f980} \\ \" '".to_owned(),
            ..Profile::default()
        },
    }
}

/// A token of `user` with this `key`, filled up to the length of a hash.
pub(crate) fn token(key: &str, user: &str, kind: TokenKind, expires: Option<i64>) -> TokenRecord {
    TokenRecord {
        key: hash(key),
        user: user.to_owned(),
        kind,
        prefix: "rca_abcd".to_owned(),
        name: Some("ci".to_owned()),
        readonly: true,
        bypass_second_factor: false,
        cidr: Vec::new(),
        packages: Vec::new(),
        scopes: vec!["@a".to_owned()],
        created: at(2),
        expires: expires.map(at),
    }
}

fn hash(key: &str) -> String {
    format!("{key:0>64}")
}

async fn one_gets_the_name(stores: &Stores) {
    let alice = name("__proto__");
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..16 {
        let (store, alice) = (Arc::clone(&stores[index % 2]), alice.clone());
        tasks.spawn(async move { store.create_user(&alice, user(), None).await });
    }
    let outcomes = tasks.join_all().await;
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(won, 1);
    let lost = |outcome: &Result<(), AccountsError>| {
        matches!(outcome, Ok(()) | Err(AccountsError::UserExists))
    };
    assert!(outcomes.iter().all(lost), "{outcomes:?}");
    for store in stores {
        assert_eq!(*store.user(&alice).await.unwrap().unwrap(), user());
        assert!(store.user(&name("__PROTO__")).await.unwrap().is_none());
        assert_eq!(store.user_count().await.unwrap(), 1);
    }
}

async fn there_are_no_more_users_than_allowed(stores: &Stores) {
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..12 {
        let store = Arc::clone(&stores[index % 2]);
        tasks.spawn(async move {
            let name = name(&format!("many{index}"));
            store.create_user(&name, user(), Some(3)).await
        });
    }
    let outcomes = tasks.join_all().await;
    let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(stores[1].user_count().await.unwrap(), made + 1);
    assert!(made <= 2, "{outcomes:?}");
    let one_more = |index: usize| {
        let store = &stores[index];
        async move { store.create_user(&name("more"), user(), Some(1)).await }
    };
    for index in 0..2 {
        let refused = one_more(index).await;
        assert!(matches!(refused, Err(AccountsError::TooManyUsers)));
    }
}

async fn no_edit_is_lost(stores: &Stores) {
    let counted = name("a.b+c@example.org");
    let store = &stores[0];
    store.create_user(&counted, user(), None).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..8 {
        let (store, counted) = (Arc::clone(&stores[index % 2]), counted.clone());
        tasks.spawn(async move {
            for _ in 0..5 {
                let edited = store.change_user(&counted, at(3), |user| {
                    user.profile.email.push('x');
                    Ok(user.profile.email.len())
                });
                edited.await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    for store in stores {
        let user = store.user(&counted).await.unwrap().unwrap();
        assert_eq!(user.profile.email.len(), 40);
        assert_eq!(user.updated, Some(at(3)));
    }
}

async fn refused_edits_change_nothing(stores: &Stores) {
    let refused = name("refused");
    let store = &stores[0];
    store.create_user(&refused, user(), None).await.unwrap();
    let edited = store.change_user(&refused, at(3), |user| {
        user.profile.email.push('x');
        Err::<(), _>(AccountsError::Refused("no".to_owned()))
    });
    assert!(matches!(edited.await, Err(AccountsError::Refused(_))));
    assert_eq!(*stores[1].user(&refused).await.unwrap().unwrap(), user());
    let (nobody, hash) = (name("nobody"), "x".to_owned());
    let edited = store.change_user(&nobody, at(3), |_| Ok(())).await;
    assert!(matches!(edited, Err(AccountsError::NoSuchUser(_))));
    let changed = store.set_password(&nobody, hash, at(3), TokenKind::Login);
    assert!(matches!(changed.await, Err(AccountsError::NoSuchUser(_))));
}

async fn tokens_work_on_all_nodes_until_they_are_removed(stores: &Stores) {
    let [one, other] = stores;
    let bob = name("bob");
    // Tokens are of somebody who is there.
    for owner in ["bob", "bobby", "carola", "dave"] {
        one.create_user(&name(owner), user(), None).await.unwrap();
    }
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..10 {
        let store = Arc::clone(&stores[index % 2]);
        let record = token(&format!("b{index}"), "bob", TokenKind::Npm, None);
        tasks.spawn(async move { store.add_token(record).await.unwrap() });
    }
    tasks.join_all().await;
    let another = token("c0", "bobby", TokenKind::Npm, None);
    one.add_token(another.clone()).await.unwrap();
    assert_eq!(*other.token(&another.key).await.unwrap().unwrap(), another);
    assert_eq!(other.tokens_of(&bob).await.unwrap().len(), 10);
    assert!(one.token(&hash("b77")).await.unwrap().is_none());
    assert!(other.remove_token(&hash("b3")).await.unwrap());
    assert!(!one.remove_token(&hash("b3")).await.unwrap());
    assert!(one.token(&hash("b3")).await.unwrap().is_none());
    let left = one.tokens_of(&bob).await.unwrap();
    assert!(left.iter().all(|token| token.key != hash("b3")));
    assert_eq!(left.len(), 9);
}

async fn a_new_password_ends_logins_alone(stores: &Stores) {
    let carol = name("carol");
    let [one, other] = stores;
    one.create_user(&carol, user(), None).await.unwrap();
    let login = token("d1", "carol", TokenKind::Login, None);
    let npm = token("d2", "carol", TokenKind::Npm, Some(i64::MAX / 4));
    let another = token("d3", "carola", TokenKind::Login, None);
    for record in [&login, &npm, &another] {
        one.add_token(record.clone()).await.unwrap();
    }
    let changed = other.set_password(&carol, "new".to_owned(), at(9), TokenKind::Login);
    assert_eq!(changed.await.unwrap(), std::slice::from_ref(&login.key));
    let record = one.user(&carol).await.unwrap().unwrap();
    assert_eq!(
        (&*record.password_hash, record.updated),
        ("new", Some(at(9)))
    );
    assert!(one.token(&login.key).await.unwrap().is_none());
    assert_eq!(*one.token(&npm.key).await.unwrap().unwrap(), npm);
    assert_eq!(*one.token(&another.key).await.unwrap().unwrap(), another);
}

async fn ended_tokens_are_pruned(stores: &Stores) {
    let [one, other] = stores;
    for (key, expires) in [("e1", Some(100)), ("e2", Some(200)), ("e3", None)] {
        let record = token(key, "dave", TokenKind::Login, expires);
        one.add_token(record).await.unwrap();
    }
    assert_eq!(other.prune(at(99)).await.unwrap(), 0);
    assert_eq!(other.prune(at(100)).await.unwrap(), 1);
    assert_eq!(one.prune(at(100)).await.unwrap(), 0);
    let left = one.tokens_of(&name("dave")).await.unwrap();
    let left: BTreeSet<_> = left.iter().map(|token| token.key.clone()).collect();
    assert_eq!(left, BTreeSet::from([hash("e2"), hash("e3")]));
}

async fn organisations_give_groups(stores: &Stores) {
    let [one, other] = stores;
    let acme: Organisation = "acme".parse().unwrap();
    assert!(one.organisation(&acme).await.unwrap().is_none());
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..8 {
        let (store, acme) = (Arc::clone(&stores[index % 2]), acme.clone());
        tasks.spawn(async move {
            let joined = store.change_organisation(&acme, |organisation| {
                let member = format!("member{index}");
                organisation.members.insert(member, Role::Developer);
                Ok(organisation.members.len())
            });
            joined.await.unwrap()
        });
    }
    let mut counts = tasks.join_all().await;
    counts.sort_unstable();
    assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7, 8]);
    let team = other.change_organisation(&acme, |organisation| {
        let users = ["member1", "guest"].map(str::to_owned).into();
        let description = "\u{0}".to_owned();
        let team = TeamRecord { description, users };
        organisation.teams.insert("red".to_owned(), team);
        Ok(())
    });
    team.await.unwrap();
    let refused = one.change_organisation(&acme, |organisation| {
        organisation.members.clear();
        Err::<(), _>(AccountsError::Refused("no".to_owned()))
    });
    refused.await.unwrap_err();
    let groups = |user: &'static str| async move { one.groups_of(&name(user)).await.unwrap() };
    assert_eq!(groups("member0").await, ["@acme"]);
    assert_eq!(groups("member1").await, ["@acme", "@acme:red"]);
    assert_eq!(groups("guest").await, ["@acme", "@acme:red"]);
    assert!(groups("member").await.is_empty());
}

async fn users_come_a_page_at_a_time(stores: &Stores) {
    let [one, other] = stores;
    for odd in ["(*)", "a+b@c.example", "~z"] {
        one.create_user(&name(odd), user(), None).await.unwrap();
    }
    let all = other.users_after(None, usize::MAX).await.unwrap();
    assert_eq!(all.len(), one.user_count().await.unwrap());
    let mut paged = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = one.users_after(after.as_deref(), 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        paged.extend(page);
    }
    assert_eq!(paged, all);
    let names: BTreeSet<&String> = all.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), all.len());
}

async fn everything_can_be_moved(stores: &Stores) {
    let [one, other] = stores;
    let entries: Vec<AccountEntry> = one.entries().try_collect().await.unwrap();
    let count = |wanted: fn(&AccountEntry) -> bool| entries.iter().filter(|it| wanted(it)).count();
    let users = count(|entry| matches!(entry, AccountEntry::User(..)));
    assert_eq!(users, one.user_count().await.unwrap());
    assert_eq!(count(|it| matches!(it, AccountEntry::Token(_))), 14);
    assert_eq!(count(|it| matches!(it, AccountEntry::Organisation(..))), 1);
    for entry in &entries {
        other.put(entry.clone()).await.unwrap();
    }
    let again: Vec<AccountEntry> = other.entries().try_collect().await.unwrap();
    assert_eq!(again.len(), entries.len());
    let mut moved = user();
    moved.profile.email = "moved@example.org".to_owned();
    let entry = AccountEntry::User("moved".to_owned(), Arc::new(moved.clone()));
    other.put(entry).await.unwrap();
    assert_eq!(*one.user(&name("moved")).await.unwrap().unwrap(), moved);
}
