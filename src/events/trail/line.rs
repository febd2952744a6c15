//! [`Line`]: what the trail of audit says of a request.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    events::{Fact, Found},
    models::{Caller, Tenant, Timestamp},
};

/// The longest text of a client's, in characters.
const MAX_TEXT: usize = 512;

/// How a request ended.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Its status.
    pub status: u16,
    /// The code of an error.
    pub code: Option<&'static str>,
    /// What the client was told of an error.
    pub reason: Option<String>,
}

impl Ending {
    /// `ok`; `denied` where the caller may not; else `failed`.
    pub fn outcome(&self) -> &'static str {
        match self.status {
            401 | 403 | 429 => "denied",
            status if status < 400 => "ok",
            _ => "failed",
        }
    }
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    time: Timestamp,
    action: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Arc<str>>,
    address: Option<String>,
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    org_id: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project_id: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines_lost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<u64>,
    events: Vec<Fact>,
}

impl Line {
    /// Of the request `found`, which wanted `action`. `path` has no secrets in it; `package` is the
    /// one in it.
    pub fn of_request(
        time: Timestamp,
        action: String,
        path: &str,
        package: Option<String>,
        (found, ending): (Found, Ending),
    ) -> Self {
        let caller = found.caller.unwrap_or_default();
        let mut line = Self::of_caller(time, action, &caller);
        line.outcome = ending.outcome();
        line.status = Some(ending.status);
        line.code = ending.code;
        line.reason = ending.reason.as_deref().map(short);
        line.method = Some(caller.request.method.to_string());
        line.path = Some(short(path));
        line.package = package;
        line.with(found.facts)
    }

    /// Of a command of the command line, which wanted `action` for the user `uid` of the machine, and was
    /// `refused` with a code and a reason, if it was.
    pub fn of_command(
        time: Timestamp,
        action: String,
        uid: u32,
        (found, refused): (Found, Option<(&'static str, String)>),
    ) -> Self {
        let caller = found.caller.unwrap_or_default();
        let mut line = Self::of_caller(time, action, &caller);
        line.uid = Some(uid);
        if let Some((code, reason)) = refused {
            line.outcome = "failed";
            line.code = Some(code);
            line.reason = Some(short(reason));
        }
        line.with(found.facts)
    }

    /// Of what happened on nobody's request, or after its answer.
    pub(in crate::events) fn of_fact(time: Timestamp, caller: &Caller, fact: Fact) -> Self {
        Self::of_caller(time, fact.event_type.to_owned(), caller).with(vec![fact])
    }

    /// Of lines that could not be written.
    pub(super) fn of_gap(time: Timestamp, lost: u64) -> Self {
        let mut line = Self::of_caller(time, "audit.lines_lost".to_owned(), &Caller::default());
        line.outcome = "failed";
        line.lines_lost = Some(lost);
        line
    }

    /// Of requests that a limit has refused.
    pub(super) fn of_limited(time: Timestamp, requests: u64) -> Self {
        let mut line = Self::of_caller(time, "request.limited".to_owned(), &Caller::default());
        line.outcome = "denied";
        line.status = Some(429);
        line.requests = Some(requests);
        line
    }

    fn of_caller(time: Timestamp, action: String, caller: &Caller) -> Self {
        let identity = caller.identity.as_deref();
        let Tenant { org_id, project_id } = &caller.request.tenant;
        let request_id = &*caller.request.id;
        Self {
            time,
            action,
            outcome: "ok",
            status: None,
            code: None,
            reason: None,
            user: identity
                .and_then(|identity| identity.primary_name())
                .map(short),
            uid: None,
            groups: identity
                .map(|identity| identity.groups.clone())
                .unwrap_or_default(),
            token: caller.token.clone(),
            address: caller.address.map(|address| address.to_string()),
            request_id: (!request_id.is_empty()).then(|| request_id.to_owned()),
            org_id: org_id.clone(),
            project_id: project_id.clone(),
            package: None,
            version: None,
            method: None,
            path: None,
            lines_lost: None,
            requests: None,
            events: Vec::new(),
        }
    }

    /// What the facts know better.
    fn with(mut self, facts: Vec<Fact>) -> Self {
        let texts = |key: &str| {
            let mut values = facts.iter().map(|fact| &fact.attributes);
            values.find_map(|attributes| Some(attributes.get(key)?.as_str()?.to_owned()))
        };
        let package = facts.iter().find_map(|fact| fact.package.clone());
        self.package = package.or(self.package);
        self.version = texts("version");
        // Who signs in has no credentials yet, and who fails to never has.
        self.user = self.user.or_else(|| texts("user"));
        self.events = facts;
        self
    }

    /// With its end.
    pub(in crate::events) fn to_bytes(&self) -> Vec<u8> {
        // Texts and numbers can be written; JSON has no line ends within.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

fn short(text: impl AsRef<str>) -> String {
    text.as_ref().chars().take(MAX_TEXT).collect()
}
