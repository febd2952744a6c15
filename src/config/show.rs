//! Settings as text: what is in force, and where it came from.

use std::fmt::Write as _;

use super::{Config, Setting, Source, UplinkAuth, table::sections};

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
            let auth = match &uplink.auth {
                None => "",
                Some(UplinkAuth::Bearer(_)) => " auth=bearer(hidden)",
                Some(UplinkAuth::Basic(_)) => " auth=basic(hidden)",
            };
            let value = format!(
                "{} timeout={:?} maxage={:?} max_fails={} fail_timeout={:?} cache={}{auth}",
                redacted(&uplink.url),
                uplink.timeout,
                uplink.maxage,
                uplink.max_fails,
                uplink.fail_timeout,
                uplink.cache,
            );
            line(&format!("uplinks.{name}"), &value, &self.uplinks_source);
        }
        for rule in &self.packages.rules {
            let list = |items: Vec<String>| items.join(" ");
            let names = |principals: &[crate::models::Principal]| {
                list(principals.iter().map(ToString::to_string).collect())
            };
            let value = format!(
                "access: {} · publish: {} · unpublish: {} · proxy: {}",
                names(&rule.access),
                names(&rule.publish),
                names(&rule.unpublish),
                list(rule.proxy.iter().map(ToString::to_string).collect()),
            );
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

/// `text`; an address without what identifies the user.
pub(super) fn displayable(text: &str) -> String {
    match text.parse::<url::Url>() {
        Ok(url) if url.password().is_some() || !url.username().is_empty() => redacted(&url),
        _ => text.to_owned(),
    }
}

/// `url` without what identifies the user.
fn redacted(url: &url::Url) -> String {
    let mut url = url.clone();
    // Addresses that cannot have them are shown as they are.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}
