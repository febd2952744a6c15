//! Who decides: the rules, or somebody who says the same while the rules allow everything.

use std::sync::Arc;

use async_trait::async_trait;
use rustaccio::{auth::AuthHook, error::RegistryError, models::AuthIdentity};
use serde_json::{Value, json};

use crate::support::{Asked, Reply, Service};

const RULES: &str = "
packages:
  '@acme/*':
    access: reader publisher owner
    publish: publisher owner
    unpublish: publisher owner
  '**':
    access: $all
    publish: $authenticated
    unpublish: $authenticated
publish:
  check_owners: true
";

/// What nobody asks is allowed.
const OPEN: &str = "
packages:
  '**':
    access: $all
    publish: $all
    unpublish: $all
publish:
  check_owners: true
";

/// What [`RULES`] say.
fn says(user: Option<&str>, action: &str, package: &str) -> bool {
    let is_read = action == "access";
    if package.starts_with("@acme/") {
        let named: &[&str] = if is_read {
            &["reader", "publisher", "owner"]
        } else {
            &["publisher", "owner"]
        };
        return user.is_some_and(|user| named.contains(&user));
    }
    is_read || user.is_some()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decides {
    Rules,
    /// A policy service that is asked about one package at a time.
    Service,
    /// One that is asked about many at once.
    ServiceAboutMany,
    /// An embedder.
    Hook,
}

/// Somebody who decides, until it is dropped.
pub(super) struct Decider {
    decides: Decides,
    service: Option<Service>,
}

impl Decider {
    pub(super) async fn start(decides: Decides) -> Self {
        let service = match decides {
            Decides::Rules | Decides::Hook => None,
            Decides::Service | Decides::ServiceAboutMany => Some(Service::start(decide).await),
        };
        Self { decides, service }
    }

    pub(super) fn file(&self) -> &'static str {
        if self.decides == Decides::Rules {
            RULES
        } else {
            OPEN
        }
    }

    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let Some(service) = &self.service else {
            return Vec::new();
        };
        let mut variables = vec![
            ("RUSTACCIO_POLICY_BACKEND", "http".to_owned()),
            ("RUSTACCIO_POLICY_HTTP_BASE_URL", service.url.clone()),
        ];
        if self.decides == Decides::ServiceAboutMany {
            let endpoint = "RUSTACCIO_POLICY_HTTP_BATCH_ENDPOINT";
            variables.push((endpoint, "/many".to_owned()));
        }
        variables
    }

    pub(super) fn hook(&self) -> Option<Arc<dyn AuthHook>> {
        (self.decides == Decides::Hook).then(|| Arc::new(Hook) as Arc<dyn AuthHook>)
    }
}

fn decide(asked: &Asked) -> Reply {
    let question = asked.json();
    let (user, action) = (question["username"].as_str(), &question["action"]);
    let about = |package: &Value| says(user, action.as_str().unwrap(), package.as_str().unwrap());
    let answer = match question["packages"].as_array() {
        Some(packages) => {
            json!({ "decisions": packages.iter().map(about).collect::<Vec<_>>() })
        }
        None => json!({ "allowed": about(&question["package"]) }),
    };
    Reply::Json(200, answer)
}

/// It keeps the users, too: whoever says `password` is who she says.
struct Hook;

fn decided(identity: Option<&AuthIdentity>, action: &str, package: &str) -> bool {
    let user = identity.and_then(|identity| identity.username.as_deref());
    says(user, action, package)
}

#[async_trait]
impl AuthHook for Hook {
    async fn authenticate(&self, _name: &str, password: &str) -> Result<(), RegistryError> {
        if password == "password" {
            Ok(())
        } else {
            Err(RegistryError::unauthorized("that was not it"))
        }
    }

    async fn allow_access(
        &self,
        identity: Option<AuthIdentity>,
        package: &str,
    ) -> Result<Option<bool>, RegistryError> {
        Ok(Some(decided(identity.as_ref(), "access", package)))
    }

    async fn allow_publish(
        &self,
        identity: Option<AuthIdentity>,
        package: &str,
    ) -> Result<Option<bool>, RegistryError> {
        Ok(Some(decided(identity.as_ref(), "publish", package)))
    }

    async fn allow_unpublish(
        &self,
        identity: Option<AuthIdentity>,
        package: &str,
    ) -> Result<Option<bool>, RegistryError> {
        Ok(Some(decided(identity.as_ref(), "unpublish", package)))
    }
}
