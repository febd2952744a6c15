//! What Verdaccio's files and environment ask for in its own way.

use std::collections::BTreeMap;

use super::{Loader, Meaning, closest};
use crate::config::{
    Config, Given, Problem, Source,
    foreign::{self, Plugin},
    settings,
    yaml::{Node, snake_case},
};

/// Verdaccio's plugin for S3, whose settings are ours.
const S3_PLUGIN: &str = "aws-s3-storage";

impl Loader<'_> {
    /// Says which plugins do not run here, as they are JavaScript. What is left below `key` are settings.
    pub(super) fn plugins(
        &mut self,
        key: &str,
        node: Node,
        source: &Source,
    ) -> Vec<(String, Node)> {
        let own: &[&str] = match key {
            "auth" => &["htpasswd", "local", "http", "backend", "external", "plugin"],
            "store" => &["backend", "s3", S3_PLUGIN],
            "middlewares" => &["audit"],
            _ => &[],
        };
        let Node::Map(members) = node else {
            return Vec::new();
        };
        let mut left = Vec::new();
        for (name, node) in members {
            let path = format!("{key}_{}", snake_case(&name));
            let is_setting = settings().any(|setting| setting.has_path(&path));
            if key == "store" && name == S3_PLUGIN {
                self.in_a_bucket(source);
                left.push((name, self.with_variables(node)));
            } else if is_setting || own.contains(&name.as_str()) {
                left.push((name, node));
            } else {
                let setting = format!("{key}.{name}");
                match foreign::plugin(key, &name) {
                    Plugin::Refused(message) => {
                        self.reads(&setting, "", Meaning::Refused(message.to_owned()));
                        self.problem(&setting, "", source, message);
                    }
                    Plugin::LeftOut(message) => self.does_nothing(&setting, "", source, message),
                }
            }
        }
        left
    }

    fn in_a_bucket(&mut self, source: &Source) {
        let backend = settings().find(|setting| setting.variable == "RUSTACCIO_TARBALL_BACKEND");
        if let Some(backend) = backend {
            self.give(backend, "s3".to_owned(), source.clone());
        }
    }

    /// The plugin for S3 takes a value that is the name of a variable for that variable's value.
    fn with_variables(&self, node: Node) -> Node {
        match node {
            Node::Text(text) => {
                let value = self.env.get(&text).map(str::to_owned);
                Node::Text(value.unwrap_or(text))
            }
            Node::Map(members) => {
                let members = members.into_iter();
                let members = members.map(|(key, node)| (key, self.with_variables(node)));
                Node::Map(members.collect())
            }
            node => node,
        }
    }

    /// A key that is no setting of ours: Verdaccio's, or nobody's.
    pub(super) fn foreign(&mut self, path: &str, node: &Node, source: &Source) {
        let value = node.to_text().filter(|_| path != "secret");
        let value = value.unwrap_or_default();
        match path {
            "https.pfx" | "https.passphrase" => {
                let message = "is not read; `openssl pkcs12 -in FILE -nodes` takes the certificate and its key out, for `https.cert` and `https.key`";
                self.reads(path, "", Meaning::Refused(message.to_owned()));
                return self.problem(path, "", source, message);
            }
            "server.rateLimit.max" => {
                self.limit(
                    "RUSTACCIO_RATE_LIMIT_REQUESTS_PER_WINDOW",
                    path,
                    value,
                    source,
                );
                return self.limit(
                    "RUSTACCIO_RATE_LIMIT_BACKEND",
                    path,
                    "memory".to_owned(),
                    source,
                );
            }
            "server.rateLimit.windowMs" => {
                let span = format!("{value}ms");
                return self.limit("RUSTACCIO_RATE_LIMIT_WINDOW_SECS", path, span, source);
            }
            _ => {}
        }
        match foreign::find(path) {
            Some(key) if key.is_fine(&value) => {
                let meaning = Meaning::AsThere(key.message.to_owned());
                self.reads(path, &value, meaning);
            }
            Some(key) => self.does_nothing(path, &value, source, key.message),
            None => {
                let message = match closest(&snake_case(&path.replace('.', "_"))) {
                    Some(near) => format!("is not known and does nothing; did you mean `{near}`?"),
                    None => "is not known and does nothing".to_owned(),
                };
                self.does_nothing(path, "", source, &message);
            }
        }
    }

    fn limit(&mut self, variable: &str, path: &str, text: String, source: &Source) {
        if let Some(setting) = settings().find(|setting| setting.variable == variable) {
            self.reads(path, &text, Meaning::Setting(setting));
            self.give(setting, text, source.clone());
        }
    }

    fn does_nothing(&mut self, path: &str, value: &str, source: &Source, message: &str) {
        self.reads(path, value, Meaning::Nothing(message.to_owned()));
        let warning = Problem::new(path, value, source, message);
        self.findings.warnings.push(warning);
    }

    /// Variables of Verdaccio's and of its image, each for a setting that ours overrule.
    pub(super) fn verdaccios_environment(&mut self) {
        for (variable, setting) in [
            ("VERDACCIO_PUBLIC_URL", "RUSTACCIO_PUBLIC_URL"),
            ("VERDACCIO_STORAGE_PATH", "RUSTACCIO_DATA_DIR"),
            (
                "VERDACCIO_FORWARDED_PROTO",
                "RUSTACCIO_FORWARDED_PROTO_HEADER",
            ),
        ] {
            if let Some(text) = self.env.get(variable).map(str::to_owned) {
                self.give_from(variable, setting, text);
            }
        }
        let of_image = |name: &str, otherwise: &str| {
            let value = self.env.get(name).unwrap_or(otherwise);
            value.to_owned()
        };
        if self.env.get("VERDACCIO_PORT").is_some() {
            let protocol = of_image("VERDACCIO_PROTOCOL", "http");
            let address = of_image("VERDACCIO_ADDRESS", "0.0.0.0");
            let port = of_image("VERDACCIO_PORT", "4873");
            let listen = format!("{protocol}://{address}:{port}");
            self.give_from("VERDACCIO_PORT", "RUSTACCIO_BIND", listen);
        }
    }

    pub(super) fn give_from(&mut self, variable: &str, setting: &str, text: String) {
        let source = Source::Variable(variable.to_owned());
        if let Some(setting) = settings().find(|known| known.variable == setting) {
            self.give(setting, text, source);
        }
    }

    /// Uses the data folder as Verdaccio's if it is one, and refuses one that is both its and ours.
    pub(super) fn recognise_verdaccio(
        &mut self,
        config: &mut Config,
        given: &BTreeMap<&'static str, Given>,
    ) {
        let database = self.env.get("VERDACCIO_STORAGE_NAME");
        let (packages, uplinks) = (&config.packages, &config.uplinks);
        let storage = &mut config.storage;
        let Err(both) = storage.recognise_verdaccio(packages, uplinks, database) else {
            return;
        };
        let setting = "RUSTACCIO_DATA_DIR";
        let source = given.get(setting).map(|given| given.source.clone());
        let value = config.storage.data_dir.display().to_string();
        let source = source.unwrap_or(Source::Default);
        self.problem(setting, &value, &source, &both.message());
    }

    /// Folders of rules are Verdaccio's way; elsewhere packages are kept together.
    pub(super) fn check_subfolders(&mut self, config: &Config) {
        let is_used = config.storage.verdaccio.is_some();
        for rule in config.packages.rules.iter().filter(|_| !is_used) {
            let Some(folder) = &rule.storage else {
                continue;
            };
            let setting = format!("packages.{}.storage", rule.pattern);
            let message = "does nothing: all packages are kept together, unless the storage folder is Verdaccio's";
            let (value, source) = (folder.display().to_string(), &config.packages_source);
            let warning = Problem::new(setting, value, source, message);
            self.findings.warnings.push(warning);
        }
    }
}
