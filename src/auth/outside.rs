//! [`Outside`]: those who keep accounts and rules in our place: an embedder's hook, a service over
//! HTTP. One trait for both, so that there is one way through the code.

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{AuthHook, HttpPlugin};
use crate::{
    error::RegistryError,
    models::{AuthIdentity, Caller, PackageName, RequestInfo, Right},
};

/// Where a wish for an account comes from.
#[derive(Clone, Debug, Default)]
pub struct Sender {
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The request, for the logs of those who are asked.
    pub request_id: Arc<str>,
}

impl From<&Caller> for Sender {
    fn from(caller: &Caller) -> Self {
        Self {
            address: caller.address,
            request_id: Arc::clone(&caller.request.id),
        }
    }
}

/// Somebody who keeps accounts and rules in our place.
#[async_trait]
pub(super) trait Outsider: Send + Sync {
    /// Makes a user, whose password must have `min` characters.
    async fn add_user(
        &self,
        sender: &Sender,
        user: &str,
        password: &str,
        min: usize,
    ) -> Result<(), RegistryError>;

    /// Checks a password.
    async fn authenticate(
        &self,
        sender: &Sender,
        user: &str,
        password: &str,
    ) -> Result<(), RegistryError>;

    /// Checks a password that comes with a request of its own, as often as there are requests: a
    /// right one may be remembered for a moment.
    async fn recognise(
        &self,
        sender: &Sender,
        user: &str,
        password: &str,
    ) -> Result<(), RegistryError> {
        self.authenticate(sender, user, password).await
    }

    /// Changes a password; the new one must have `min` characters.
    async fn change_password(
        &self,
        sender: &Sender,
        user: &str,
        old: &str,
        new: &str,
        min: usize,
    ) -> Result<(), RegistryError>;

    /// Who the bearer of `token` is, if that is known.
    async fn identify(
        &self,
        request: &RequestInfo,
        token: &str,
    ) -> Result<Option<Arc<AuthIdentity>>, RegistryError>;

    /// Whether `caller` has a right to `package`, if that is decided there.
    async fn allows(
        &self,
        caller: &Caller,
        right: Right,
        package: &PackageName,
    ) -> Result<Option<bool>, RegistryError>;

    /// Whether anything is decided there about this right.
    fn decides(&self, right: Right) -> bool;

    /// How long a request may wait for the decisions of a list about this right, if that is limited.
    fn list_limit(&self, right: Right) -> Option<Duration>;

    /// Whether users may be made there while registration is closed here.
    fn registers_by_itself(&self) -> bool;
}

/// All of them, in the order in which they are asked. The first keeps the users.
#[derive(Clone, Default)]
pub struct Outside(Arc<[Arc<dyn Outsider>]>);

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Outside").field(&self.0.len()).finish()
    }
}

impl Outside {
    /// An embedder's `hook`, then a service.
    pub fn new(hook: Option<Arc<dyn AuthHook>>, service: Option<HttpPlugin>) -> Self {
        let hook = hook.map(|hook| Arc::new(Hooked(hook)) as Arc<dyn Outsider>);
        let service = service.map(|service| Arc::new(service) as Arc<dyn Outsider>);
        Self(hook.into_iter().chain(service).collect())
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether who keeps the users registers visitors while registration is closed here.
    pub fn registers_by_itself(&self) -> bool {
        self.keeper().is_some_and(Outsider::registers_by_itself)
    }

    /// Whether anybody decides about this right.
    pub fn decides(&self, right: Right) -> bool {
        self.0.iter().any(|outsider| outsider.decides(right))
    }

    /// How long a request may wait for the decisions of a list about this right, if that is limited.
    pub fn list_limit(&self, right: Right) -> Option<Duration> {
        let limits = self.0.iter();
        limits
            .filter_map(|outsider| outsider.list_limit(right))
            .max()
    }

    /// Who keeps the users, if that is not us.
    pub(super) fn keeper(&self) -> Option<&dyn Outsider> {
        self.0.first().map(|keeper| &**keeper)
    }

    /// Who the bearer of `token` is, says the first who knows.
    pub(super) async fn identify(
        &self,
        request: &RequestInfo,
        token: &str,
    ) -> Result<Option<Arc<AuthIdentity>>, RegistryError> {
        for outsider in &*self.0 {
            if let Some(identity) = outsider.identify(request, token).await? {
                return Ok(Some(identity));
            }
        }
        Ok(None)
    }

    /// Whether `caller` has a right to `package`, says the first who decides.
    pub async fn allows(
        &self,
        caller: &Caller,
        right: Right,
        package: &PackageName,
    ) -> Result<Option<bool>, RegistryError> {
        for outsider in &*self.0 {
            if let Some(decision) = outsider.allows(caller, right, package).await? {
                return Ok(Some(decision));
            }
        }
        Ok(None)
    }
}

/// An embedder's hook.
struct Hooked(Arc<dyn AuthHook>);

#[async_trait]
impl Outsider for Hooked {
    async fn add_user(
        &self,
        _: &Sender,
        user: &str,
        password: &str,
        min: usize,
    ) -> Result<(), RegistryError> {
        self.0.add_user(user, password, min).await
    }

    async fn authenticate(
        &self,
        _: &Sender,
        user: &str,
        password: &str,
    ) -> Result<(), RegistryError> {
        self.0.authenticate(user, password).await
    }

    async fn change_password(
        &self,
        _: &Sender,
        user: &str,
        old: &str,
        new: &str,
        min: usize,
    ) -> Result<(), RegistryError> {
        self.0.change_password(user, old, new, min).await
    }

    async fn identify(
        &self,
        request: &RequestInfo,
        token: &str,
    ) -> Result<Option<Arc<AuthIdentity>>, RegistryError> {
        let RequestInfo { method, path, .. } = request;
        let asked = self.0.authenticate_request(token, method.as_str(), path);
        Ok(asked.await?.map(Arc::new))
    }

    async fn allows(
        &self,
        caller: &Caller,
        right: Right,
        package: &PackageName,
    ) -> Result<Option<bool>, RegistryError> {
        let identity = caller.identity.as_deref().cloned();
        let package = package.as_str();
        match right {
            Right::Access => self.0.allow_access(identity, package).await,
            Right::Publish => self.0.allow_publish(identity, package).await,
            Right::Unpublish => self.0.allow_unpublish(identity, package).await,
        }
    }

    fn decides(&self, _: Right) -> bool {
        true
    }

    /// It is part of the program, which has its own idea of how long it takes.
    fn list_limit(&self, _: Right) -> Option<Duration> {
        None
    }

    fn registers_by_itself(&self) -> bool {
        true
    }
}
