//! What a package says about who may use it: `npm access`, `npm owner`.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Registry, edit::Edited, metadata::maintainers_json, packument::Hosted,
    publish::body::Maintainer,
};
use crate::{
    error::RegistryError,
    events::Event,
    models::{
        Action, Caller, PackageName, Permission, Proof, Restrictions, Team, Username, Visibility,
    },
    policy::require_shown_second_factor,
};

/// A change of who may use a package; of a field that is not there nothing changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccessChange {
    /// Who may read it.
    pub visibility: Option<Visibility>,
    /// Whether every change needs a second factor.
    pub publish_requires_tfa: Option<bool>,
    /// Whether tokens that were made to work without one may change it all the same.
    pub automation_token_overrides_tfa: Option<bool>,
}

/// Who may do more with a package than the rules alone say.
#[derive(Clone, Debug, Default)]
pub struct Collaborators {
    /// Its owners.
    pub owners: Vec<String>,
    /// Teams that were granted something.
    pub grants: Vec<(String, Permission)>,
}

impl Registry {
    /// What `name` says about who may use it; a package that is not hosted says nothing.
    #[tracing::instrument(name = "registry.access", skip_all, fields(package.name = %name))]
    pub async fn access(
        &self,
        caller: &Caller,
        name: &PackageName,
    ) -> Result<Restrictions, RegistryError> {
        let found = self.visible(caller, name).await?;
        if !found.document.is_hosted() {
            return Ok(Restrictions::default());
        }
        let hosted = self.documents.hosted(name).await?;
        Ok(hosted.map_or_else(Restrictions::default, |hosted| {
            hosted.manifest.restrictions().clone()
        }))
    }

    /// Changes who may use `name`.
    #[tracing::instrument(name = "registry.set_access", skip_all, fields(package.name = %name))]
    pub async fn set_access(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        change: AccessChange,
    ) -> Result<(), RegistryError> {
        if change.visibility == Some(Visibility::Restricted) && name.scope().is_none() {
            let message = "only scoped packages can be restricted";
            return Err(RegistryError::bad_request(message));
        }
        // A recovery code is not used up by somebody who is refused.
        self.authorise(caller, Action::ManageOwners, name).await?;
        let is_about_a_factor = change.publish_requires_tfa.is_some()
            || change.automation_token_overrides_tfa.is_some();
        let proof = if is_about_a_factor {
            self.policy.proof(caller).await?
        } else {
            Proof::None
        };
        let (asking, named) = (caller.clone(), name.clone());
        self.restrict(caller, name, move |restrictions| {
            let AccessChange {
                visibility,
                publish_requires_tfa,
                automation_token_overrides_tfa,
            } = change;
            let before = restrictions.clone();
            *restrictions = Restrictions {
                visibility: visibility.unwrap_or(before.visibility),
                publish_requires_tfa: publish_requires_tfa.unwrap_or(before.publish_requires_tfa),
                automation_token_overrides_tfa: automation_token_overrides_tfa
                    .unwrap_or(before.automation_token_overrides_tfa),
                grants: before.grants,
            };
            // Whoever locks a package must have the key, and only the key unlocks it.
            let is_about_locking = before.publish_requires_tfa != restrictions.publish_requires_tfa
                || (restrictions.publish_requires_tfa
                    && before.automation_token_overrides_tfa
                        != restrictions.automation_token_overrides_tfa);
            if is_about_locking {
                require_shown_second_factor(&asking, proof, &named)?;
            }
            Ok(())
        })
        .await
    }

    /// Lets `name` be changed without a second factor. Who may do that is for the caller of this
    /// to decide.
    #[tracing::instrument(name = "registry.lift_second_factor", skip_all, fields(package.name = %name))]
    pub(crate) async fn lift_second_factor(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
    ) -> Result<Restrictions, RegistryError> {
        self.edit(caller, name, move |registry, manifest| {
            let restrictions = Restrictions {
                publish_requires_tfa: false,
                ..manifest.restrictions().clone()
            };
            if restrictions == *manifest.restrictions() {
                return Ok(Edited::Unchanged);
            }
            manifest.restrict(restrictions, registry.clock.now());
            Ok(Edited::Changed(vec![access_event(manifest)]))
        })
        .await?;
        let hosted = self.documents.hosted(name).await?;
        Ok(hosted.map_or_else(Restrictions::default, |hosted| {
            hosted.manifest.restrictions().clone()
        }))
    }

    /// Grants `team` something, or takes back what it was granted.
    #[tracing::instrument(name = "registry.grant", skip_all, fields(package.name = %name))]
    pub async fn grant(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        team: &Team,
        permission: Option<Permission>,
    ) -> Result<(), RegistryError> {
        let group = team.group();
        self.restrict(caller, name, move |restrictions| {
            match permission {
                Some(permission) => {
                    let grants = restrictions.grants.get_or_insert_default();
                    grants.insert(group.clone(), permission);
                }
                None => {
                    if let Some(grants) = &mut restrictions.grants {
                        grants.shift_remove(&group);
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// Who may do more with `name` than the rules alone say.
    #[tracing::instrument(name = "registry.collaborators", skip_all, fields(package.name = %name))]
    pub async fn collaborators(
        &self,
        caller: &Caller,
        name: &PackageName,
    ) -> Result<Collaborators, RegistryError> {
        let found = self.visible(caller, name).await?;
        let owners = found.document.packument.maintainers();
        let hosted = self.documents.hosted(name).await?;
        let grants = hosted
            .filter(|_| found.document.is_hosted())
            .and_then(|hosted| hosted.manifest.restrictions().grants.clone());
        Ok(Collaborators {
            owners,
            grants: grants.unwrap_or_default().into_iter().collect(),
        })
    }

    /// Succeeds for who may change the owners of `name`.
    pub async fn require_owners_right(
        &self,
        caller: &Caller,
        name: &PackageName,
    ) -> Result<(), RegistryError> {
        self.authorise(caller, Action::ManageOwners, name).await
    }

    /// Adds `user` to the owners of `name`, or takes her from them.
    #[tracing::instrument(name = "registry.set_owner", skip_all, fields(package.name = %name))]
    pub async fn set_owner(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        user: &Username,
        email: String,
        is_owner: bool,
    ) -> Result<(), RegistryError> {
        self.authorise(caller, Action::ManageOwners, name).await?;
        let user = user.clone();
        self.edit_as_owner(caller, name, move |registry, manifest| {
            let mut owners = people(manifest.packument().field("maintainers"));
            let before = owners.len();
            owners.retain(|owner| owner.name != user.as_str());
            let was_owner = owners.len() < before;
            if was_owner == is_owner {
                return Ok(Edited::Unchanged);
            }
            if is_owner {
                owners.push(Maintainer {
                    name: user.as_str().to_owned(),
                    email: Some(email.clone()),
                });
            }
            if owners.is_empty() {
                let message = "a package needs at least one owner";
                return Err(RegistryError::bad_request(message));
            }
            let raw = maintainers_json(&owners)?;
            manifest.set_field("maintainers", raw, registry.clock.now());
            let owners = owners.into_iter().map(|owner| owner.name).collect();
            let revision = manifest.rev();
            let event = Event::OwnersChanged { owners, revision };
            Ok(Edited::Changed(vec![event]))
        })
        .await
    }

    async fn restrict(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        edit: impl Fn(&mut Restrictions) -> Result<(), RegistryError> + Send + 'static,
    ) -> Result<(), RegistryError> {
        self.authorise(caller, Action::ManageOwners, name).await?;
        self.edit_as_owner(caller, name, move |registry, manifest| {
            let mut restrictions = manifest.restrictions().clone();
            edit(&mut restrictions)?;
            if restrictions == *manifest.restrictions() {
                return Ok(Edited::Unchanged);
            }
            manifest.restrict(restrictions, registry.clock.now());
            Ok(Edited::Changed(vec![access_event(manifest)]))
        })
        .await
    }
}

/// What has happened to a package that may be used as `manifest` says now.
pub(super) fn access_event(manifest: &Hosted) -> Event {
    let restrictions = manifest.restrictions();
    let grants = restrictions.grants.iter().flatten();
    Event::AccessChanged {
        visibility: restrictions.visibility.as_str().to_owned(),
        publish_requires_tfa: restrictions.publish_requires_tfa,
        grants: grants
            .map(|(group, permission)| (group.clone(), permission.as_str().to_owned()))
            .collect(),
        revision: manifest.rev(),
    }
}

/// The people in a `maintainers` field, with their addresses.
fn people(raw: Option<&bytes::Bytes>) -> Vec<Maintainer> {
    let people: Vec<Value> = raw
        .and_then(|raw| serde_json::from_slice(raw).ok())
        .unwrap_or_default();
    people
        .into_iter()
        .filter_map(|person| {
            let name = person.as_str().or_else(|| person["name"].as_str())?;
            Some(Maintainer {
                name: name.to_owned(),
                email: person["email"].as_str().map(str::to_owned),
            })
        })
        .collect()
}
