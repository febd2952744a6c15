//! What Verdaccio keeps about tokens: the secret that it signs and encrypts them with, and
//! `.token-db.json`, the list of those that its users made.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;
use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::{
    models::{Timestamp, Username},
    storage::{
        StorageError,
        fs::{Watched, blocking, secret::read_foreign},
    },
};

/// What stands between the beginning and the end of a token in the list.
const MASK: &str = "...";

/// A token that a user of Verdaccio's made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdaccioToken {
    /// What the token itself names it by.
    pub key: String,
    /// How the token begins.
    pub prefix: String,
    /// How it ends.
    suffix: String,
    /// Whether it may only read.
    pub readonly: bool,
    /// The networks that it may be used from; `None` for all.
    pub networks: Option<Vec<IpNet>>,
    /// When it was made.
    pub created: Timestamp,
}

impl VerdaccioToken {
    /// Whether `token` begins and ends as this one does.
    pub fn looks_like(&self, token: &str) -> bool {
        let parts = [&self.prefix, &self.suffix];
        parts.iter().all(|part| !part.is_empty())
            && token.starts_with(&self.prefix)
            && token.ends_with(&self.suffix)
    }
}

/// Verdaccio's list of tokens. Cheap to clone. It stays one that Verdaccio reads.
#[derive(Clone, Debug)]
pub struct VerdaccioTokenList {
    file: Arc<Watched<Value>>,
    turn: Arc<Mutex<()>>,
}

impl VerdaccioTokenList {
    /// The list in the file `path`. One that is missing has no tokens; nor has one that is damaged, which
    /// is said.
    pub fn new(path: PathBuf) -> Self {
        Self {
            file: Arc::new(Watched::new(path, read)),
            turn: Arc::default(),
        }
    }

    /// The tokens of `user`.
    pub async fn of(&self, user: &Username) -> Result<Vec<VerdaccioToken>, StorageError> {
        let list = self.file.get().await?;
        let own = tokens_in(&list, user.as_str());
        Ok(own.into_iter().flatten().filter_map(token_of).collect())
    }

    /// The token of `user` with this key.
    pub async fn find(
        &self,
        user: &Username,
        key: &str,
    ) -> Result<Option<VerdaccioToken>, StorageError> {
        let own = self.of(user).await?;
        Ok(own.into_iter().find(|token| token.key == key))
    }

    /// Takes the token of `user` with this key out of the list. Whether it was there.
    pub async fn remove(&self, user: &Username, key: &str) -> Result<bool, StorageError> {
        if self.find(user, key).await?.is_none() {
            return Ok(false);
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let (file, user, key) = (Arc::clone(&self.file), user.clone(), key.to_owned());
        blocking(move || {
            let mut was_there = false;
            let path = file.path().display().to_string();
            file.change(|bytes| {
                let mut list: Value =
                    serde_json::from_slice(bytes).map_err(|error| StorageError::Damaged {
                        what: path.clone(),
                        source: error.into(),
                    })?;
                if let Some(own) = tokens_in_mut(&mut list, user.as_str()) {
                    let before = own.len();
                    own.retain(|token| token.get("key").and_then(Value::as_str) != Some(&key));
                    was_there = own.len() < before;
                }
                serde_json::to_vec_pretty(&list)
                    .map_err(|error| StorageError::backend(&*path, error))
            })?;
            drop(turn);
            Ok(was_there)
        })
        .await
    }
}

/// The secret of Verdaccio's tokens in its file `database`, if it has one. A damaged file is said to be so.
pub async fn verdaccio_secret(database: PathBuf) -> Result<Option<SecretString>, StorageError> {
    blocking(move || {
        let failed = |error| StorageError::io(format!("reading {}", database.display()), error);
        let bytes = read_foreign(&database).map_err(failed)?.unwrap_or_default();
        let json: Value = match serde_json::from_slice(&bytes) {
            Ok(json) => json,
            // Where in the file is no secret; what stands there may be one.
            Err(error) => {
                tracing::warn!(
                    path = %database.display(),
                    line = error.line(),
                    column = error.column(),
                    "the file is damaged: its list and the secret of Verdaccio's tokens cannot be read"
                );
                return Ok(None);
            }
        };
        let secret = json.get("secret").and_then(Value::as_str);
        Ok(secret.filter(|secret| !secret.is_empty()).map(SecretString::from))
    })
    .await
}

fn read(path: &Path, bytes: &[u8]) -> Value {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Value::Null;
    }
    serde_json::from_slice(bytes).unwrap_or_else(|error| {
        tracing::warn!(
            path = %path.display(),
            line = error.line(),
            column = error.column(),
            "Verdaccio's list of tokens is damaged: none of those that its users made counts"
        );
        Value::Null
    })
}

/// The tokens of a user. Where her name has dots in it, they may be in objects in each other, one for
/// each part: Verdaccio takes it for a path, unless there is an entry of the whole name.
fn tokens_in<'a>(list: &'a Value, user: &str) -> Option<&'a Vec<Value>> {
    let list = list.as_object()?;
    if let Some(own) = list.get(user) {
        return own.as_array();
    }
    let (last, parts) = parts_of(user);
    let object = parts
        .iter()
        .try_fold(list, |object: &Map<String, Value>, part| {
            object.get(*part)?.as_object()
        })?;
    object.get(last)?.as_array()
}

fn tokens_in_mut<'a>(list: &'a mut Value, user: &str) -> Option<&'a mut Vec<Value>> {
    let list = list.as_object_mut()?;
    if list.contains_key(user) {
        return list.get_mut(user)?.as_array_mut();
    }
    let (last, parts) = parts_of(user);
    let mut object = list;
    for part in parts {
        object = object.get_mut(part)?.as_object_mut()?;
    }
    object.get_mut(last)?.as_array_mut()
}

/// The last part of a name, and those before it.
fn parts_of(user: &str) -> (&str, Vec<&str>) {
    let mut parts: Vec<&str> = user.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    (last, parts)
}

fn token_of(json: &Value) -> Option<VerdaccioToken> {
    let text = |member: &str| json.get(member).and_then(Value::as_str);
    let key = text("key").filter(|key| !key.is_empty())?;
    let shown = text("token").unwrap_or_default();
    let (prefix, suffix) = shown.split_once(MASK).unwrap_or_default();
    let readonly = match json.get("readonly") {
        None | Some(Value::Null | Value::Bool(false)) => false,
        // Whatever it is, it is less than everything.
        Some(_) => true,
    };
    Some(VerdaccioToken {
        key: key.to_owned(),
        prefix: prefix.chars().take(8).collect(),
        suffix: suffix.to_owned(),
        readonly,
        networks: networks_of(json.get("cidr").unwrap_or(&Value::Null)),
        created: Timestamp::from_unix_millis(
            json.get("created").and_then(Value::as_i64).unwrap_or(0),
        ),
    })
}

/// `None` for everywhere. What is no network reaches nowhere.
fn networks_of(cidr: &Value) -> Option<Vec<IpNet>> {
    let entries = match cidr {
        Value::Null => return None,
        Value::Array(entries) if entries.is_empty() => return None,
        Value::Array(entries) => entries.as_slice(),
        other => std::slice::from_ref(other),
    };
    let texts = entries.iter().filter_map(Value::as_str).map(str::trim);
    Some(texts.filter_map(network_of).collect())
}

fn network_of(text: &str) -> Option<IpNet> {
    let text = text.strip_prefix("::ffff:").unwrap_or(text);
    let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(single)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::storage::fs::atomic::{MODE_SECRET, write_atomic};

    fn name(text: &str) -> Username {
        text.parse().unwrap()
    }

    /// As Verdaccio 6.10.4 wrote it, for users of which one has a dot in her name.
    const LIST: &str = r#"{
  "alice": [
    { "user": "alice", "token": "OGFlN...ZTI=", "key": "k1", "cidr": [], "readonly": false, "created": 1790000000000 },
    { "user": "alice", "token": "OGFlO...ZTI=", "key": "k2", "cidr": ["10.0.0.0/8", "::ffff:127.0.0.1", "::1"], "readonly": true, "created": 2 },
    { "user": "alice", "token": "OGFlP...ZTI=", "key": "k3", "cidr": ["everywhere"], "created": "x" }
  ],
  "a": { "b": [ { "user": "a.b", "token": "eyJhb...abcde", "key": "k4", "cidr": null } ] }
}"#;

    #[tokio::test]
    async fn tokens_are_found_and_taken_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".token-db.json");
        let list = VerdaccioTokenList::new(path.clone());
        let alice = name("alice");
        assert!(list.of(&alice).await.unwrap().is_empty());
        write_atomic(&path, LIST.as_bytes(), MODE_SECRET).unwrap();
        let own = list.of(&alice).await.unwrap();
        assert_eq!(own.len(), 3);
        assert_eq!(
            (&*own[0].prefix, own[0].readonly, &own[0].networks),
            ("OGFlN", false, &None)
        );
        let nets: Vec<String> = own[1]
            .networks
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        assert_eq!(nets, ["10.0.0.0/8", "127.0.0.1/32", "::1/128"]);
        assert!(own[1].readonly);
        assert_eq!(own[2].networks, Some(Vec::new()));
        assert!(list.find(&name("a.b"), "k4").await.unwrap().is_some());
        assert!(list.find(&name("bob"), "k1").await.unwrap().is_none());
        assert!(!list.remove(&name("bob"), "k1").await.unwrap());
        assert!(list.remove(&alice, "k1").await.unwrap());
        assert!(!list.remove(&alice, "k1").await.unwrap());
        assert!(list.remove(&name("a.b"), "k4").await.unwrap());
        let mut expected: Value = serde_json::from_str(LIST).unwrap();
        expected["alice"].as_array_mut().unwrap().remove(0);
        expected["a"]["b"] = Value::Array(Vec::new());
        let left: Value =
            serde_json::from_slice(&fs::read_to_string(&path).unwrap().into_bytes()).unwrap();
        assert_eq!(left, expected);
    }

    #[tokio::test]
    async fn damage_makes_no_token_count_and_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".token-db.json");
        let list = VerdaccioTokenList::new(path.clone());
        for damaged in [
            "{",
            "[]",
            "null",
            "{\"alice\":{}}",
            "{\"alice\":[1,{\"key\":1}]}",
        ] {
            write_atomic(&path, damaged.as_bytes(), MODE_SECRET).unwrap();
            assert!(list.of(&name("alice")).await.unwrap().is_empty());
            assert!(!list.remove(&name("alice"), "k1").await.unwrap());
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
        }
    }

    #[tokio::test]
    async fn the_secret_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".verdaccio-db.json");
        for (json, expected) in [
            (r#"{"list":[],"secret":"abc"}"#, Some("abc")),
            (r#"{"list":[],"secret":""}"#, None),
            (r#"{"list":[],"secret":7}"#, None),
            ("", None),
            ("[", None),
        ] {
            write_atomic(&path, json.as_bytes(), MODE_SECRET).unwrap();
            let secret = verdaccio_secret(path.clone()).await.unwrap();
            assert_eq!(secret.as_ref().map(ExposeSecret::expose_secret), expected);
        }
    }

    proptest! {
        #[test]
        fn any_list_can_be_read(bytes in any::<Vec<u8>>(), user in "[a.]{0,4}", text in any::<String>()) {
            let list = read(Path::new("list"), &bytes);
            assert!(tokens_in(&list, &user).is_none());
            let token = serde_json::json!({ "key": text, "token": text, "cidr": [text] });
            let mut list = serde_json::json!({ "a": { "a": [token.clone()], "": [token] } });
            for token in tokens_in(&list, &user).into_iter().flatten() {
                token_of(token);
            }
            let found = tokens_in(&list, &user).cloned();
            assert_eq!(tokens_in_mut(&mut list, &user).cloned(), found);
        }
    }
}
