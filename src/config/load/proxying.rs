//! Which uplinks there are, and which of them the rules ask.

use std::collections::BTreeMap;

use url::Url;

use super::{Given, Loader};
use crate::{
    config::{
        Config, PackagesConfig, Problem, Source, UplinkConfig, UplinkDefaults, rules,
        table::Target,
        uplink_file::{UplinkReader, http_address},
        upstream::default_upstream,
    },
    models::UplinkName,
};

const SETTING: &str = "RUSTACCIO_UPSTREAM";

/// What `RUSTACCIO_UPSTREAM` asks for.
enum Upstream {
    Unset,
    /// No proxying at all, whatever a file says.
    Off,
    At(Url),
    /// Something that cannot be; that has been said.
    Unusable,
}

impl Loader<'_> {
    pub(super) fn uplinks_and_rules(
        &mut self,
        target: &mut Target,
        given: &BTreeMap<&'static str, Given>,
    ) {
        let source = given.get(SETTING).map(|given| given.source.clone());
        let source = source.unwrap_or(Source::Default);
        let upstream = self.upstream(target.upstream.as_deref(), &source);
        let config = &mut target.config;
        let file_rules = self.packages.take();
        let has_file_rules = file_rules.is_some();
        if let Some((node, source)) = file_rules {
            config.packages = rules::packages(&node, &source, &mut self.findings);
            config.packages_source = source;
        }
        match self.uplinks.take() {
            Some((node, file)) => {
                let (npm, _) = default_upstream(self.env);
                let npmjs = match &upstream {
                    Upstream::At(url) => Some(url),
                    _ => npm.as_ref(),
                };
                let mut reader = UplinkReader {
                    env: self.env,
                    defaults: &target.uplink_defaults,
                    npmjs,
                    source: &file,
                    findings: &mut self.findings,
                };
                config.uplinks.uplinks = reader.uplinks(&node);
                config.uplinks_source = file;
                if let Upstream::At(url) = &upstream {
                    self.add_default(config, url, &target.uplink_defaults, &source);
                }
            }
            None => {
                let (url, source) = match &upstream {
                    Upstream::Unset => default_upstream(self.env),
                    Upstream::At(url) => (Some(url.clone()), source),
                    Upstream::Off | Upstream::Unusable => (None, source),
                };
                let added = url.map(|url| target.uplink_defaults.uplink(url));
                config.uplinks.uplinks = default_name().zip(added).into_iter().collect();
                config.uplinks_source = source;
            }
        }
        if has_file_rules {
            self.check_proxies(config, &upstream);
        } else if !config.uplinks.uplinks.is_empty() {
            point_at_uplinks(config);
        }
        if matches!(upstream, Upstream::Off) {
            config.uplinks.uplinks.clear();
        }
        if config.uplinks.uplinks.is_empty() {
            for rule in &mut config.packages.rules {
                rule.proxy.clear();
            }
        }
    }

    fn upstream(&mut self, text: Option<&str>, source: &Source) -> Upstream {
        let Some(text) = text else {
            return Upstream::Unset;
        };
        if text.eq_ignore_ascii_case("none") {
            return Upstream::Off;
        }
        match http_address(text) {
            Some(url) => Upstream::At(url),
            None => {
                let message = "must be an http or https address, or `none`";
                self.problem(SETTING, text, source, message);
                Upstream::Unusable
            }
        }
    }

    /// An address that is given beside the uplinks of a file becomes `default` there, if anything
    /// asks it.
    fn add_default(
        &mut self,
        config: &mut Config,
        url: &Url,
        defaults: &UplinkDefaults,
        source: &Source,
    ) {
        let uplinks = &mut config.uplinks.uplinks;
        let npmjs = find(uplinks, "npmjs");
        let mut asked = config.packages.rules.iter().flat_map(|rule| &rule.proxy);
        let is_asked = asked.any(|name| {
            name.as_str() == "default" || (name.as_str() == "npmjs" && npmjs.is_none())
        });
        if is_asked {
            uplinks.retain(|(name, _)| name.as_str() != "default");
            let added = defaults.uplink(url.clone());
            uplinks.extend(default_name().map(|name| (name, added)));
        } else if npmjs.is_none_or(|npmjs| npmjs.url != *url) {
            let message = "is not asked: the file has `uplinks` of its own, and no rule's `proxy` \
                           names `default`";
            let warning = Problem::new(SETTING, url.as_str(), source, message);
            self.findings.warnings.push(warning);
        }
    }

    /// Leaves out what names no uplink.
    fn check_proxies(&mut self, config: &mut Config, upstream: &Upstream) {
        let uplinks = &config.uplinks.uplinks;
        let has_default = find(uplinks, "default").is_some();
        let has_none = matches!(upstream, Upstream::Off | Upstream::Unusable);
        let is_known = |name: &UplinkName| {
            find(uplinks, name.as_str()).is_some()
                || (name.as_str() == "npmjs" && has_default)
                || (has_none && matches!(name.as_str(), "npmjs" | "default"))
        };
        for rule in &mut config.packages.rules {
            let setting = format!("packages.{}.proxy", rule.pattern);
            for name in rule.proxy.extract_if(.., |name| !is_known(name)) {
                let message = "names no uplink, so that none is asked here; add it to `uplinks` or \
                               remove it";
                let source = &config.packages_source;
                let warning = Problem::new(&setting, name.as_str(), source, message);
                self.findings.warnings.push(warning);
            }
        }
    }
}

/// The built-in rules proxy `default`; a file's uplinks may have no such name.
fn point_at_uplinks(config: &mut Config) {
    let uplinks = config.uplinks.uplinks.iter();
    let names: Vec<UplinkName> = uplinks.map(|(name, _)| name.clone()).collect();
    let PackagesConfig { rules } = &mut config.packages;
    for rule in rules {
        if !rule.proxy.iter().all(|name| names.contains(name)) {
            rule.proxy.clone_from(&names);
        }
    }
}

fn find<'a>(uplinks: &'a [(UplinkName, UplinkConfig)], name: &str) -> Option<&'a UplinkConfig> {
    let found = uplinks.iter().find(|(known, _)| known.as_str() == name);
    found.map(|(_, uplink)| uplink)
}

fn default_name() -> Option<UplinkName> {
    "default".parse().ok()
}
