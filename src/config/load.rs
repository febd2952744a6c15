//! Reading all sources into one [`Config`]: defaults, then files, then the environment.

mod nearest;
mod proxying;
mod reading;
mod verdaccio;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use nearest::closest;
pub use reading::{Meaning, Reading};

use super::{
    Config, Env, Given, ListenAddress, Problem, Source, TarballBackend, UplinkDefaults,
    keys::{FILE, known},
    npmrc::IMPORT_VARIABLES,
    profile::{Combination, default_of},
    rules::Findings,
    table::{Read, Setting, Target, settings},
    uplink_file::http_address,
    yaml::{Node, snake_case},
};

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The environment.
    pub env: Env,
    /// The file of `--config`.
    pub file: Option<PathBuf>,
    /// The addresses of `--listen`, which overrule all others.
    pub listen: Option<String>,
}

/// A file that was read.
struct Layer {
    source: Source,
    members: Vec<(String, Node)>,
}

/// Reads all sources. Problems are kept in the result, so that all are known at once.
pub(super) fn load(sources: &Sources) -> Config {
    let mut loader = Loader {
        env: &sources.env,
        findings: Findings::default(),
        given: BTreeMap::new(),
        packages: None,
        uplinks: None,
        notify: Vec::new(),
        proxies: Vec::new(),
        last_file: None,
        readings: Vec::new(),
    };
    for layer in loader.layers(sources.file.as_ref()) {
        loader.file(layer);
    }
    loader.environment();
    if let Some(listen) = &sources.listen {
        loader.give_from("--listen", "RUSTACCIO_BIND", listen.clone());
    }
    loader.finish()
}

struct Loader<'a> {
    env: &'a Env,
    findings: Findings,
    given: BTreeMap<&'static str, Given>,
    packages: Option<(Node, Source)>,
    uplinks: Option<(Node, Source)>,
    /// `notify` and `notifications`.
    notify: Vec<(&'static str, Node, Source)>,
    /// `http_proxy`, `https_proxy` and `no_proxy` of the file.
    proxies: Vec<(&'static str, String, Source)>,
    /// The file that was read last.
    last_file: Option<Source>,
    /// What each line of the files means.
    readings: Vec<Reading>,
}

impl Loader<'_> {
    fn layers(&mut self, file: Option<&PathBuf>) -> Vec<Layer> {
        let path = self.env.get("RUSTACCIO_CONFIG");
        let encoded = self.env.get("RUSTACCIO_CONFIG_BASE64");
        let mut layers = Vec::new();
        match (path, encoded) {
            (Some(path), Some(_)) => {
                let source = Source::Variable("RUSTACCIO_CONFIG".to_owned());
                let message = "RUSTACCIO_CONFIG_BASE64 is set too; unset one of them";
                self.problem("RUSTACCIO_CONFIG", path, &source, message);
            }
            (Some(path), None) => layers.extend(self.read(Path::new(path), "RUSTACCIO_CONFIG")),
            (None, Some(encoded)) => layers.extend(self.decode(encoded)),
            (None, None) => {}
        }
        if let Some(path) = file {
            layers.extend(self.read(path, "--config"));
        }
        layers
    }

    #[expect(clippy::disallowed_methods, reason = "reads one small file at start")]
    fn read(&mut self, path: &Path, setting: &str) -> Option<Layer> {
        let shown = path.display().to_string();
        match std::fs::read(path) {
            Ok(bytes) => self.parse(&bytes, Source::File(shown)),
            Err(error) => {
                let source = Source::Variable(setting.to_owned());
                self.problem(
                    setting,
                    &shown,
                    &source,
                    &format!("cannot be read: {error}"),
                );
                None
            }
        }
    }

    fn decode(&mut self, encoded: &str) -> Option<Layer> {
        const SETTING: &str = "RUSTACCIO_CONFIG_BASE64";
        let text: String = encoded.split_ascii_whitespace().collect();
        if let Ok(bytes) = STANDARD.decode(text) {
            return self.parse(&bytes, Source::File(SETTING.to_owned()));
        }
        let source = Source::Variable(SETTING.to_owned());
        self.problem(SETTING, "", &source, "is not standard base64");
        None
    }

    fn parse(&mut self, bytes: &[u8], source: Source) -> Option<Layer> {
        let parsed = match std::str::from_utf8(bytes) {
            Ok(text) => Node::parse(text),
            Err(_) => Err("is not UTF-8".to_owned()),
        };
        match parsed {
            Ok(members) => Some(Layer { source, members }),
            Err(message) => {
                self.problem("the file", "", &source, &message);
                None
            }
        }
    }

    fn file(&mut self, layer: Layer) {
        let Layer { source, members } = layer;
        self.last_file = Some(source.clone());
        for (key, node) in members {
            let known = known(&key, FILE);
            self.reads_map(known, &key, &node);
            match known {
                "packages" => self.packages = Some((node, source.clone())),
                "uplinks" => self.uplinks = Some((node, source.clone())),
                key @ ("notify" | "notifications") => {
                    self.notify.retain(|(known, ..)| *known != key);
                    self.notify.push((key, node, source.clone()));
                }
                key @ ("http_proxy" | "https_proxy" | "no_proxy") => {
                    let text = node.to_text().unwrap_or_default();
                    self.proxies.push((key, text, source.clone()));
                }
                "log" | "logs" => {
                    let items = match node {
                        Node::List(items) => items,
                        node => vec![node],
                    };
                    for item in items {
                        self.subtree("log", item, &source);
                    }
                }
                key @ ("auth" | "store" | "middlewares" | "filters") => {
                    let settings = self.plugins(key, node, &source);
                    self.subtree(key, Node::Map(settings), &source);
                }
                _ if key == "theme" => drop(self.plugins("theme", node, &source)),
                _ => self.subtree(&key, node, &source),
            }
        }
    }

    fn subtree(&mut self, path: &str, node: Node, source: &Source) {
        let snake = path
            .split('.')
            .map(snake_case)
            .collect::<Vec<_>>()
            .join("_");
        let setting = settings().find(|setting| setting.has_path(&snake));
        match (setting, node) {
            (Some(setting), node) if node.is_blank() => {
                self.given.remove(setting.variable);
                self.reads(path, "", Meaning::Blank);
            }
            (Some(setting), node) if !matches!(node, Node::Map(_)) => {
                let text = node.to_text().unwrap_or_default();
                self.reads(path, &text, Meaning::Setting(setting));
                let text = if setting.is_path() {
                    source.beside_it(&text)
                } else {
                    text
                };
                self.give(setting, text, source.clone());
            }
            (_, Node::Map(members)) => {
                for (key, node) in members {
                    self.subtree(&format!("{path}.{key}"), node, source);
                }
            }
            (None, node) => self.foreign(path, &node, source),
            (Some(_), _) => {}
        }
    }

    fn environment(&mut self) {
        self.verdaccios_environment();
        for setting in settings() {
            if let Some(text) = self.env.get(setting.variable) {
                let source = Source::Variable(setting.variable.to_owned());
                self.give(setting, text.to_owned(), source);
            }
        }
        if let Some(port) = self.env.get("PORT") {
            let source = Source::Variable("PORT".to_owned());
            match port.trim().parse::<u16>() {
                Ok(port) => {
                    let bind = settings().find(|setting| setting.variable == "RUSTACCIO_BIND");
                    if let Some(bind) = bind {
                        self.give(bind, format!("0.0.0.0:{port}"), source);
                    }
                }
                Err(_) => self.problem("PORT", port, &source, "must be a port, from 0 to 65535"),
            }
        }
        let own = ["RUSTACCIO_CONFIG", "RUSTACCIO_CONFIG_BASE64"];
        for name in self
            .env
            .names()
            .filter(|name| name.starts_with("RUSTACCIO_"))
        {
            let is_known = own.contains(&name)
                || name.contains("_IT_")
                // Of commands, which read them by themselves.
                || IMPORT_VARIABLES.contains(&name)
                || settings().any(|setting| setting.variable == name);
            if !is_known {
                let near = closest(&name.trim_start_matches("RUSTACCIO_").to_ascii_lowercase());
                let message = match near {
                    Some(near) => format!(
                        "is not known and does nothing; did you mean `RUSTACCIO_{}`?",
                        near.to_ascii_uppercase()
                    ),
                    None => "is not known and does nothing".to_owned(),
                };
                let source = Source::Variable(name.to_owned());
                let warning = Problem::new(name, "", &source, message);
                self.findings.warnings.push(warning);
            }
        }
    }

    fn give(&mut self, setting: &'static Setting, text: String, source: Source) {
        self.given.insert(setting.variable, Given { text, source });
    }

    fn problem(&mut self, setting: &str, value: &str, source: &Source, message: &str) {
        let problem = Problem::new(setting, value, source, message);
        self.findings.problems.push(problem);
    }

    fn finish(mut self) -> Config {
        let mut target = Target {
            config: Config::default(),
            uplink_defaults: UplinkDefaults::default(),
            upstream: None,
        };
        let given = std::mem::take(&mut self.given);
        for setting in settings() {
            let Some(Given { text, source }) = given.get(setting.variable) else {
                continue;
            };
            let shown = if setting.is_secret { "" } else { text };
            let name = setting.name(source);
            match setting.apply(text, &mut target) {
                Ok(Read::Fine) => {}
                Ok(Read::Warned(message)) => {
                    let warning = Problem::new(name, shown, source, message);
                    self.findings.warnings.push(warning);
                }
                Err(message) => self.problem(&name, shown, source, &message),
            }
        }
        self.proxies_of_file(&mut target);
        self.uplinks_and_rules(&mut target, &given);
        let mut config = target.config;
        self.check_tls(&config, &given);
        self.check_cache(&config, &given);
        self.check_events(&mut config, &given);
        self.check_profile(&config, &given);
        let is_given = |variable: &str| given.contains_key(variable);
        config.storage.settle(is_given);
        self.recognise_verdaccio(&mut config, &given);
        self.check_subfolders(&config);
        let file = self.last_file.take();
        config.settle_htpasswd(file.as_ref());
        let combination = Combination {
            config: &config,
            given: &given,
        };
        if combination.is_managed() && !is_given("RUSTACCIO_STRICT_REVISION_CHECK") {
            config.publish.strict_revision_check = true;
        }
        config.given = given;
        config.readings = self.readings;
        config.problems = self.findings.problems;
        config.warnings.append(&mut self.findings.warnings);
        config
    }

    fn proxies_of_file(&mut self, target: &mut Target) {
        for (key, text, source) in std::mem::take(&mut self.proxies) {
            let defaults = &mut target.uplink_defaults;
            if key == "no_proxy" {
                defaults.no_proxy = super::units::words(&text).map(str::to_owned).collect();
                continue;
            }
            let url = http_address(&text);
            if url.is_none() && !text.trim().is_empty() {
                self.problem(key, &text, &source, "must be the proxy's http address");
            }
            match key {
                "http_proxy" => defaults.http_proxy = url,
                _ => defaults.https_proxy = url,
            }
        }
    }

    /// Settings go together as the profile says that was asked for.
    fn check_profile(&mut self, config: &Config, given: &BTreeMap<&'static str, Given>) {
        for (variable, message) in (Combination { config, given }).violations() {
            let by_default = || Given {
                text: default_of(variable).to_owned(),
                source: Source::Variable(variable.to_owned()),
            };
            let Given { text, source } = given.get(variable).cloned().unwrap_or_else(by_default);
            let setting = settings().find(|setting| setting.variable == variable);
            let name = setting.map_or_else(|| variable.to_owned(), |known| known.name(&source));
            self.problem(&name, &text, &source, &message);
        }
    }

    /// What is to be shared has to be where others reach it.
    fn check_cache(&mut self, config: &Config, given: &BTreeMap<&'static str, Given>) {
        const SHARED: &str = "RUSTACCIO_CACHE_SHARED";
        let storage = &config.storage;
        if storage.cache.is_shared
            && storage.tarballs == TarballBackend::Local
            && let Some(Given { text, source }) = given.get(SHARED)
        {
            let message = "shares the cache in a bucket, and there is none; set \
                           RUSTACCIO_TARBALL_BACKEND to `s3`, `gcs` or `azure`, or leave it unset";
            self.problem(SHARED, text, source, message);
        }
    }

    /// A sink needs an address, and hooks are read here.
    fn check_events(&mut self, config: &mut Config, given: &BTreeMap<&'static str, Given>) {
        const SINK: &str = "RUSTACCIO_EVENT_SINK";
        if config.events.is_http
            && config.events.base_url.is_none()
            && !given.contains_key("RUSTACCIO_EVENT_HTTP_BASE_URL")
            && let Some(Given { text, source }) = given.get(SINK)
        {
            let message = "needs RUSTACCIO_EVENT_HTTP_BASE_URL, the address of the service";
            self.problem(SINK, text, source, message);
        }
        for (key, node, source) in std::mem::take(&mut self.notify) {
            let hooks = super::notify::hooks(key, &node, &source, &mut self.findings);
            config.events.hooks.extend(hooks);
        }
    }

    /// A certificate and its key come together, and `https://` needs them.
    fn check_tls(&mut self, config: &Config, given: &BTreeMap<&'static str, Given>) {
        let has = |variable: &str| given.contains_key(variable);
        let (has_cert, has_key) = (has("RUSTACCIO_TLS_CERT"), has("RUSTACCIO_TLS_KEY"));
        let wants_tls = config.server.listen.iter().any(|address| {
            matches!(
                address,
                ListenAddress::Tcp {
                    tls: Some(true),
                    ..
                }
            )
        });
        let (variable, message) = match (has_cert, has_key) {
            (true, false) => (
                "RUSTACCIO_TLS_CERT",
                "needs RUSTACCIO_TLS_KEY (`https.key`) too",
            ),
            (false, true) => (
                "RUSTACCIO_TLS_KEY",
                "needs RUSTACCIO_TLS_CERT (`https.cert`) too",
            ),
            (false, false) if wants_tls => (
                "RUSTACCIO_BIND",
                "`https://` needs RUSTACCIO_TLS_CERT and RUSTACCIO_TLS_KEY (`https.cert`, `https.key`)",
            ),
            _ => return,
        };
        if let Some(Given { text, source }) = given.get(variable) {
            let setting = settings().find(|setting| setting.variable == variable);
            let name = setting.map_or_else(|| variable.to_owned(), |known| known.name(source));
            self.problem(&name, text, source, message);
        }
    }
}
