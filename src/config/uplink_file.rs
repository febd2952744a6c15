//! `uplinks` in a file, with all of Verdaccio's keys.

use std::{path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue};
use url::Url;

use super::{
    Env, Problem, Source, UplinkAuth, UplinkConfig,
    keys::{AGENT, AUTH, UPLINK, known},
    rules::Findings,
    units,
    yaml::Node,
};
use crate::models::UplinkName;

/// What uplinks have that do not say otherwise.
#[derive(Clone, Debug)]
pub(super) struct UplinkDefaults {
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) pool_idle_timeout: Duration,
    pub(super) pool_max_idle: usize,
    pub(super) tcp_keepalive: Duration,
    pub(super) http_proxy: Option<Url>,
    pub(super) https_proxy: Option<Url>,
    pub(super) no_proxy: Vec<String>,
}

impl Default for UplinkDefaults {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(3),
            pool_idle_timeout: Duration::from_secs(30),
            pool_max_idle: 4,
            tcp_keepalive: Duration::from_secs(30),
            http_proxy: None,
            https_proxy: None,
            no_proxy: Vec::new(),
        }
    }
}

impl UplinkDefaults {
    /// An uplink at `url` with these.
    pub(super) fn uplink(&self, url: Url) -> UplinkConfig {
        UplinkConfig {
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            pool_idle_timeout: self.pool_idle_timeout,
            pool_max_idle: self.pool_max_idle,
            tcp_keepalive: self.tcp_keepalive,
            http_proxy: self.http_proxy.clone(),
            https_proxy: self.https_proxy.clone(),
            no_proxy: self.no_proxy.clone(),
            ..UplinkConfig::new(url)
        }
    }
}

/// What reading an uplink needs.
pub(super) struct UplinkReader<'a> {
    pub(super) env: &'a Env,
    pub(super) defaults: &'a UplinkDefaults,
    /// The address of an uplink `npmjs` that gives none.
    pub(super) npmjs: Option<&'a Url>,
    pub(super) source: &'a Source,
    pub(super) findings: &'a mut Findings,
}

impl UplinkReader<'_> {
    /// Reads `uplinks`.
    pub(super) fn uplinks(&mut self, node: &Node) -> Vec<(UplinkName, UplinkConfig)> {
        let members = match node {
            Node::Map(members) => members.as_slice(),
            Node::Empty => &[],
            _ => {
                self.wrong("uplinks", "", "must be a map from names to uplinks");
                &[]
            }
        };
        members
            .iter()
            .filter_map(|(name, node)| self.uplink(name, node))
            .collect()
    }

    fn uplink(&mut self, text: &str, node: &Node) -> Option<(UplinkName, UplinkConfig)> {
        let name: UplinkName = match text.parse() {
            Ok(name) => name,
            Err(error) => {
                self.wrong("uplinks", text, &format!("{error}"));
                return None;
            }
        };
        let members = match node {
            Node::Map(members) => members.as_slice(),
            _ => &[],
        };
        let given = members.iter().find(|(key, _)| key == "url");
        let given = given.and_then(|(_, node)| node.to_text());
        let setting = format!("uplinks.{name}.url");
        let url = match given.filter(|text| !text.trim().is_empty()) {
            Some(text) => match http_address(&text) {
                Some(url) => url,
                None => {
                    self.wrong(&setting, &text, "must be an http or https address");
                    return None;
                }
            },
            None => match self.npmjs.filter(|_| name.as_str() == "npmjs") {
                Some(url) => url.clone(),
                None => {
                    self.wrong(&setting, "", "is missing; give the uplink's address");
                    return None;
                }
            },
        };
        let mut uplink = self.defaults.uplink(url);
        for (key, value) in members {
            let known = known(key, UPLINK);
            // What says nothing is not set; for proxies it means none.
            if value.is_blank() && !known.ends_with("_proxy") {
                continue;
            }
            let setting = format!("uplinks.{name}.{key}");
            let done = match known {
                "agent_options" => self.agent_options(&mut uplink, &setting, value),
                "retry" => {
                    let message = "does nothing: what fails for a moment is asked again twice";
                    self.warn(&setting, message);
                    Ok(())
                }
                _ => self.member(&mut uplink, known, value),
            };
            if let Err(message) = done {
                let secret = matches!(key.as_str(), "auth" | "headers");
                let shown = value.to_text().filter(|_| !secret).unwrap_or_default();
                self.wrong(&setting, &shown, &message);
            }
        }
        Some((name, uplink))
    }

    fn member(&self, uplink: &mut UplinkConfig, key: &str, value: &Node) -> Result<(), String> {
        let text = || value.to_text().ok_or_else(|| "must be a text".to_owned());
        let proxy = || -> Result<Option<Url>, String> {
            let text = text()?;
            let is_off = text.trim().is_empty() || text == "false";
            let url = http_address(&text);
            if !is_off && url.is_none() {
                return Err("must be the proxy's http address".to_owned());
            }
            Ok(url)
        };
        match key {
            "timeout" => uplink.timeout = units::span(&text()?)?,
            "maxage" => uplink.maxage = units::span(&text()?)?,
            "fail_timeout" => uplink.fail_timeout = units::span(&text()?)?,
            "max_fails" => {
                let number = text()?.parse().map_err(|_| "must be a whole number")?;
                uplink.max_fails = number;
            }
            "cache" => uplink.cache = units::switch(&text()?)?,
            "strict_ssl" => uplink.strict_ssl = units::switch(&text()?)?,
            "ca" => uplink.ca = Some(PathBuf::from(text()?)),
            "http_proxy" => uplink.http_proxy = proxy()?,
            "https_proxy" => uplink.https_proxy = proxy()?,
            "no_proxy" => uplink.no_proxy = units::words(&text()?).map(str::to_owned).collect(),
            "headers" => headers(uplink, value)?,
            "auth" => uplink.auth = Some(self.auth(value)?),
            "url" | "publish" => {}
            _ => return Err("is not known; remove it".to_owned()),
        }
        Ok(())
    }

    /// What Node.js's connections are made with, as far as there is the like of it here.
    fn agent_options(
        &mut self,
        uplink: &mut UplinkConfig,
        setting: &str,
        node: &Node,
    ) -> Result<(), String> {
        let Node::Map(members) = node else {
            return Err("must be a map such as `keepAlive: true`".to_owned());
        };
        let mut keeps_alive = true;
        for (key, value) in members {
            let text = value.to_text().unwrap_or_default();
            let wrong = |message: String| format!("`{key}` {message}");
            match known(key, AGENT) {
                "keep_alive" => keeps_alive = units::switch(&text).map_err(wrong)?,
                "max_free_sockets" => {
                    let count = text.parse();
                    uplink.pool_max_idle =
                        count.map_err(|_| wrong("must be a whole number".to_owned()))?;
                }
                _ => self.warn(&format!("{setting}.{key}"), "is not known and does nothing"),
            }
        }
        if !keeps_alive {
            uplink.pool_max_idle = 0;
        }
        Ok(())
    }

    fn auth(&self, node: &Node) -> Result<UplinkAuth, String> {
        let Node::Map(members) = node else {
            return Err("must be a map with `type` and `token` or `token_env`".to_owned());
        };
        let text = |key: &str| {
            let found = members.iter().find(|(name, _)| known(name, AUTH) == key);
            found.and_then(|(_, node)| node.to_text())
        };
        let token = match (text("token"), text("token_env").as_deref()) {
            (Some(token), _) if !token.is_empty() => token,
            (_, Some("false")) => return Err("needs a `token`".to_owned()),
            (_, variable) => {
                let variable = match variable {
                    None | Some("true" | "") => "NPM_TOKEN",
                    Some(name) => name,
                };
                let value = self.env.get(variable);
                let missing = || format!("needs a `token`, or one in the variable {variable}");
                value.ok_or_else(missing)?.to_owned()
            }
        };
        if HeaderValue::from_str(&token).is_err() {
            return Err("has a token that cannot be sent in a header".to_owned());
        }
        match text("type").unwrap_or_default().to_lowercase().as_str() {
            "bearer" => Ok(UplinkAuth::Bearer(token.into())),
            "basic" | "" => Ok(UplinkAuth::Basic(token.into())),
            _ => Err("`type` must be `bearer` or `basic`".to_owned()),
        }
    }

    fn warn(&mut self, setting: &str, message: &str) {
        let warning = Problem::new(setting, "", self.source, message);
        self.findings.warnings.push(warning);
    }

    fn wrong(&mut self, setting: &str, value: &str, message: &str) {
        let problem = Problem::new(setting, value, self.source, message);
        self.findings.problems.push(problem);
    }
}

fn headers(uplink: &mut UplinkConfig, node: &Node) -> Result<(), String> {
    let Node::Map(members) = node else {
        return Err("must be a map from names to values".to_owned());
    };
    for (name, value) in members {
        let value = value.to_text().unwrap_or_default();
        let name: HeaderName = name
            .parse()
            .map_err(|_| format!("`{name}` cannot name a header"))?;
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| format!("the value of `{name}` cannot be sent"))?;
        value.set_sensitive(true);
        uplink.headers.insert(name, value);
    }
    Ok(())
}

/// An http(s) address with its trailing slashes gone, if the text is one.
pub(super) fn http_address(text: &str) -> Option<Url> {
    let url: Url = text.trim().trim_end_matches('/').parse().ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}
