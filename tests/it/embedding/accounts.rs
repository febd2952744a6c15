//! A hook that keeps accounts, and one that does not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use axum::Router;
use http::StatusCode;
use rustaccio::{auth::AuthHook, error::RegistryError, models::AuthIdentity};
use serde_json::{Value, json};

use super::{router, send};

/// Users and their passwords, and how long passwords must be.
#[derive(Default)]
struct Book {
    passwords: Mutex<HashMap<String, String>>,
    smallest: Mutex<Vec<usize>>,
}

#[async_trait]
impl AuthHook for Book {
    async fn add_user(&self, name: &str, password: &str, min: usize) -> Result<(), RegistryError> {
        self.smallest.lock().unwrap().push(min);
        let mut passwords = self.passwords.lock().unwrap();
        if passwords.contains_key(name) {
            return Err(RegistryError::conflict("she is in the book already"));
        }
        passwords.insert(name.to_owned(), password.to_owned());
        Ok(())
    }

    async fn authenticate(&self, name: &str, password: &str) -> Result<(), RegistryError> {
        let passwords = self.passwords.lock().unwrap();
        if passwords.get(name).is_some_and(|known| known == password) {
            Ok(())
        } else {
            Err(RegistryError::unauthorized("the book says no"))
        }
    }

    async fn change_password(
        &self,
        name: &str,
        old: &str,
        new: &str,
        min: usize,
    ) -> Result<(), RegistryError> {
        self.authenticate(name, old).await?;
        self.smallest.lock().unwrap().push(min);
        let mut passwords = self.passwords.lock().unwrap();
        passwords.insert(name.to_owned(), new.to_owned());
        Ok(())
    }
}

/// Knows a token, and leaves the rest as it is.
struct Bare;

#[async_trait]
impl AuthHook for Bare {
    async fn authenticate_request(
        &self,
        token: &str,
        _method: &str,
        _path: &str,
    ) -> Result<Option<AuthIdentity>, RegistryError> {
        Ok((token == "bare-token").then(|| AuthIdentity {
            username: Some("robot".to_owned()),
            groups: Vec::new(),
        }))
    }
}

async fn sign_in(router: &Router, name: &str, password: &str) -> (StatusCode, Value) {
    let path = format!("/-/user/org.couchdb.user:{name}");
    let body = json!({ "name": name, "password": password }).to_string();
    send(router, "PUT", &path, None, body).await
}

async fn change(router: &Router, token: &str, old: &str, new: &str) -> (StatusCode, Value) {
    let body = json!({ "password": { "old": old, "new": new } }).to_string();
    send(router, "POST", "/-/npm/v1/user", Some(token), body).await
}

#[tokio::test]
async fn a_hook_makes_users_and_changes_their_passwords() {
    let book = Arc::new(Book::default());
    let variables = [("RUSTACCIO_PASSWORD_MIN", "11")];
    let (router, _folder) = router("", Arc::<Book>::clone(&book), &variables).await;
    // Whoever is not known is made, and signed in.
    let (status, made) = sign_in(&router, "alice", "correct horse").await;
    assert_eq!(status, 201, "{made}");
    let token = made["token"].as_str().unwrap().to_owned();
    let (status, who) = send(&router, "GET", "/-/whoami", Some(&token), String::new()).await;
    assert_eq!((status.as_u16(), &who["username"]), (200, &json!("alice")));
    // Whoever is known is not made once more.
    let (status, refused) = sign_in(&router, "alice", "battery staple").await;
    assert_eq!(status, 401, "{refused}");
    let (status, refused) = change(&router, &token, "wrong horse", "battery staple").await;
    assert_eq!(status, 401, "{refused}");
    assert_eq!(book.passwords.lock().unwrap()["alice"], "correct horse");
    let (status, changed) = change(&router, &token, "correct horse", "battery staple").await;
    assert_eq!(status, 200, "{changed}");
    assert_eq!(sign_in(&router, "alice", "correct horse").await.0, 401);
    assert_eq!(sign_in(&router, "alice", "battery staple").await.0, 201);
    // It is told how long passwords must be.
    let told = book.smallest.lock().unwrap().clone();
    assert!(
        told.len() >= 2 && told.iter().all(|min| *min == 11),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_hook_without_accounts_refuses_them() {
    let (router, _folder) = router("", Arc::new(Bare), &[]).await;
    let (status, refused) = sign_in(&router, "alice", "correct horse").await;
    assert_eq!(status, 403, "{refused}");
    let error = refused["error"].as_str().unwrap();
    assert_eq!(error, "password login is not supported");
    let (status, refused) = change(&router, "bare-token", "correct horse", "battery staple").await;
    assert_eq!(status, 403, "{refused}");
    let error = refused["error"].as_str().unwrap();
    assert_eq!(error, "changing passwords is not supported");
    // Nobody was made.
    let token = Some("bare-token");
    let (status, who) = send(&router, "GET", "/-/whoami", token, String::new()).await;
    assert_eq!((status.as_u16(), &who["username"]), (200, &json!("robot")));
    // The default of what is only called after another refusal.
    let refused = Bare.add_user("alice", "correct horse", 8).await;
    assert_eq!(refused.unwrap_err().status(), StatusCode::FORBIDDEN);
}
