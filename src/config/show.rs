//! Settings as text: what is in force, and where it came from.

use std::fmt::Write as _;

use http::HeaderName;

use super::{Config, Setting, Source, UplinkAuth, UplinkConfig, table::sections};

impl Config {
    /// All settings in force, one a line, without secrets; with `sources`, each says who set it.
    pub fn show(&self, sources: bool) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: &str, source: &Source| {
            let written = if sources {
                writeln!(out, "{name} = {value}  # {source}")
            } else {
                writeln!(out, "{name} = {value}")
            };
            debug_assert!(written.is_ok(), "a String takes all");
        };
        for (_, settings) in sections() {
            for setting in settings {
                let (value, source) = self.value(setting);
                line(&setting.path(), &value, source);
            }
        }
        for (name, uplink) in &self.uplinks.uplinks {
            let value = uplink_as_text(uplink);
            line(&format!("uplinks.{name}"), &value, &self.uplinks_source);
        }
        for rule in &self.packages.rules {
            let list = |items: Vec<String>| items.join(" ");
            let names = |principals: &[crate::models::Principal]| {
                list(principals.iter().map(ToString::to_string).collect())
            };
            let mut value = format!(
                "access: {} · publish: {} · unpublish: {} · proxy: {}",
                names(&rule.access),
                names(&rule.publish),
                names(&rule.unpublish),
                list(rule.proxy.iter().map(ToString::to_string).collect()),
            );
            if let Some(merge) = rule.merge {
                value.push_str(&format!(" · merge: {merge}"));
            }
            line(
                &format!("packages.{}", rule.pattern),
                &value,
                &self.packages_source,
            );
        }
        out
    }

    fn value(&self, setting: &Setting) -> (String, &Source) {
        match self.given.get(setting.variable) {
            Some(_) if setting.is_secret => {
                ("(hidden)".to_owned(), &self.given[setting.variable].source)
            }
            Some(given) => (displayable(&given.text), &given.source),
            None => (setting.default.to_owned(), &Source::Default),
        }
    }
}

/// All that an uplink is asked with. Values of headers may be secrets.
fn uplink_as_text(uplink: &UplinkConfig) -> String {
    let mut text = format!(
        "{} timeout={:?} maxage={:?} max_fails={} fail_timeout={:?} cache={} strict_ssl={}",
        redacted(&uplink.url),
        uplink.timeout,
        uplink.maxage,
        uplink.max_fails,
        uplink.fail_timeout,
        uplink.cache,
        uplink.strict_ssl,
    );
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {key}={value}"));
        }
    };
    let names = |items: Vec<&str>| (!items.is_empty()).then(|| items.join(","));
    add(
        "ca",
        uplink.ca.as_ref().map(|path| path.display().to_string()),
    );
    add("http_proxy", uplink.http_proxy.as_ref().map(redacted));
    add("https_proxy", uplink.https_proxy.as_ref().map(redacted));
    add(
        "no_proxy",
        names(uplink.no_proxy.iter().map(String::as_str).collect()),
    );
    add(
        "headers",
        names(uplink.headers.keys().map(HeaderName::as_str).collect()),
    );
    let auth = uplink.auth.as_ref().map(|auth| match auth {
        UplinkAuth::Bearer(_) => "bearer(hidden)",
        UplinkAuth::Basic(_) => "basic(hidden)",
    });
    add("auth", auth.map(str::to_owned));
    text
}

/// `text`; an address without what identifies the user.
pub(super) fn displayable(text: &str) -> String {
    match text.parse::<url::Url>() {
        Ok(url) if url.has_host() && has_user(&url) => redacted(&url),
        // The same without a scheme: `user:password@host`.
        _ => match text.rsplit_once('@') {
            Some((user, host)) if user.contains(':') && !user.contains(char::is_whitespace) => {
                format!("…@{host}")
            }
            _ => text.to_owned(),
        },
    }
}

fn has_user(url: &url::Url) -> bool {
    url.password().is_some() || !url.username().is_empty()
}

/// `url` without what identifies the user.
fn redacted(url: &url::Url) -> String {
    let mut url = url.clone();
    // Addresses that cannot have them are shown as they are.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}
