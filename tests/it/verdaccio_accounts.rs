//! Users and tokens of a folder that Verdaccio made.

mod passwords;
mod tokens;

use std::{fs, path::PathBuf, sync::Arc};

use reqwest::Method;
use rustaccio::{lifecycle::ManualClock, models::Timestamp};
use serde_json::json;

use crate::support::{Answer, Registry, User, registry::Start};

/// The secret of Verdaccio's tokens, and when those of these tests were made.
const SECRET: &str = "0123456789abcdefFEDCBA9876543210";
const MADE: &str = "2026-11-26T21:54:20Z";
/// The password that is in those of them that have one, and its hash.
const PASSWORD: &str = "pass:wörd";
const HASH: &str = "{SHA}NMfTLf4kql4x98PMVl16orqGin0=";

/// The names of bob's scope are his.
const RULES: &str = "packages:
  '@bobs/*': { access: $all, publish: bob }
  '**': { access: $all, publish: $authenticated }
auth: { htpasswd: { file: data/htpasswd } }
";

/// A registry in a folder of Verdaccio's, and the clock that it has.
struct Scene {
    registry: Registry,
    clock: Arc<ManualClock>,
}

/// What is in the folder.
#[derive(Default)]
struct Folder<'a> {
    users: &'a str,
    tokens: &'a str,
    secret: &'a str,
}

impl Scene {
    async fn of(folder: Folder<'_>) -> Self {
        let Folder {
            users,
            tokens,
            secret,
        } = folder;
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let database = json!({ "list": [], "secret": secret });
        fs::write(data.join(".verdaccio-db.json"), database.to_string()).unwrap();
        fs::write(data.join("htpasswd"), users).unwrap();
        if !tokens.is_empty() {
            fs::write(data.join(".token-db.json"), tokens).unwrap();
        }
        let clock = ManualClock::at(Timestamp::parse_rfc3339(MADE).unwrap());
        Self::start(folder, clock).await
    }

    async fn start(folder: tempfile::TempDir, clock: Arc<ManualClock>) -> Self {
        let variables = vec![("RUSTACCIO_AUTH_HTPASSWD_ROUNDS", "4".to_owned())];
        let registry = Registry::with(Start {
            variables,
            file: RULES,
            folder: Some(folder),
            clock: Some(Arc::clone(&clock)),
            ..Start::default()
        });
        Self {
            registry: registry.await,
            clock,
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.registry.data().join(file)
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    /// Whom the registry takes the bearer of `token` for.
    async fn whoami(&self, token: &str) -> Answer {
        let user = User {
            token: token.to_owned(),
        };
        self.registry.get_as(&user, "/-/whoami").await
    }

    async fn sign_in(&self, name: &str, password: &str) -> User {
        let answer = self.registry.sign_in(name, password).await.assert(201);
        User {
            token: answer.json()["token"].as_str().unwrap().to_owned(),
        }
    }

    async fn change_password(&self, user: &User, old: &str, new: &str) -> Answer {
        let change = json!({ "password": { "old": old, "new": new } });
        let path = "/-/npm/v1/user";
        let changed = self
            .registry
            .send_json(Some(user), Method::POST, path, &change);
        changed.await
    }
}
