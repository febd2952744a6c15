//! The tree of dependencies that audits of the older form ask about: read, and written again
//! without what is nobody else's business.

use std::collections::{BTreeSet, HashMap, HashSet};

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What stands for the version of something that is not named.
const NO_VERSION: &str = "0.0.0";
/// pnpm's key for the project at the root. Where it stands, all its neighbours are projects too,
/// and no packages.
const ROOT_PROJECT: &str = ".";

/// A project, or a package in the tree; only the fields that are sent on.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    #[serde(default)]
    version: Value,
    #[serde(default)]
    integrity: Value,
    #[serde(default)]
    dev: Value,
    #[serde(default)]
    optional: Value,
    #[serde(default)]
    bundled: Value,
    /// Names and ranges; npm writes `true` where it means all of `dependencies`.
    #[serde(default)]
    requires: Value,
    #[serde(default)]
    dependencies: IndexMap<String, Self>,
}

impl Node {
    /// Reads what a client sent.
    pub(super) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        if !json.trim_ascii_start().starts_with(b"{") {
            // A list of fields would do too.
            return Err(serde::de::Error::custom("it is not an object"));
        }
        serde_json::from_slice(json)
    }

    /// The names of all packages in it.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        if self.has_projects() {
            let projects = self.dependencies.values();
            projects.for_each(|project| project.collect_names(&mut names));
        } else {
            self.collect_names(&mut names);
        }
        names
    }

    fn collect_names(&self, names: &mut BTreeSet<String>) {
        let requires = self.requires.as_object().into_iter().flatten();
        names.extend(requires.map(|(name, _)| name.clone()));
        for (name, node) in &self.dependencies {
            names.insert(name.clone());
            node.collect_names(names);
        }
    }

    fn has_projects(&self) -> bool {
        self.dependencies.contains_key(ROOT_PROJECT)
    }

    /// The tree as an uplink may see it that is asked about `public` names; `None` where none of
    /// these is in it.
    pub(super) fn about(&self, public: &HashSet<&str>) -> Option<(Value, HiddenNames)> {
        let mut writer = Writer {
            public,
            hidden: HiddenNames::default(),
            packages: 0,
        };
        let members = if self.has_projects() {
            writer.projects(&self.dependencies)
        } else {
            writer.members(self)
        };
        // The project's own name is nobody's business, nor is what was just installed or removed.
        let mut tree = json!({
            "name": "project",
            "version": NO_VERSION,
            "install": [],
            "remove": [],
            "metadata": {},
        });
        if let Some(tree) = tree.as_object_mut() {
            tree.extend(members);
        }
        (writer.packages > 0).then_some((tree, writer.hidden))
    }
}

/// Names that were hidden, and what stands for each: a number that is no package's name.
#[derive(Debug, Default)]
pub(super) struct HiddenNames {
    shown: HashMap<String, String>,
    names: Vec<String>,
}

impl HiddenNames {
    fn hide(&mut self, name: &str) -> String {
        if name == ROOT_PROJECT {
            return name.to_owned();
        }
        if let Some(shown) = self.shown.get(name) {
            return shown.clone();
        }
        // As long as those that npm 6 makes of names that it hides itself.
        let shown = format!("{:064x}", self.names.len());
        self.shown.insert(name.to_owned(), shown.clone());
        self.names.push(name.to_owned());
        shown
    }

    fn name_of(&self, shown: &str) -> Option<&str> {
        if shown.len() != 64 {
            return None;
        }
        let number = usize::from_str_radix(shown, 16).ok()?;
        self.names.get(number).map(String::as_str)
    }

    /// Puts the names back into the paths of an answer, which are `one>in>another`.
    pub(super) fn reveal_in(&self, answer: &mut Value) {
        match answer {
            Value::Array(items) => items.iter_mut().for_each(|item| self.reveal_in(item)),
            Value::Object(members) => {
                for (key, value) in members {
                    match (key.as_str(), value) {
                        ("path", Value::String(path)) => self.reveal(path),
                        ("paths", Value::Array(paths)) => {
                            for path in paths {
                                if let Value::String(path) = path {
                                    self.reveal(path);
                                }
                            }
                        }
                        (_, value) => self.reveal_in(value),
                    }
                }
            }
            _ => {}
        }
    }

    fn reveal(&self, path: &mut String) {
        let segments = path.split('>');
        let revealed: Vec<&str> = segments
            .map(|segment| self.name_of(segment).unwrap_or(segment))
            .collect();
        *path = revealed.join(">");
    }
}

struct Writer<'a> {
    public: &'a HashSet<&'a str>,
    hidden: HiddenNames,
    /// How many packages are named.
    packages: usize,
}

impl Writer<'_> {
    fn projects(&mut self, projects: &IndexMap<String, Node>) -> Map<String, Value> {
        let mut requires = Map::new();
        let mut dependencies = Map::new();
        for (name, project) in projects {
            let shown = self.hidden.hide(name);
            requires.insert(shown.clone(), NO_VERSION.into());
            let project = self.node(project, None);
            dependencies.insert(shown, project);
        }
        Map::from_iter([
            ("requires".to_owned(), requires.into()),
            ("dependencies".to_owned(), dependencies.into()),
        ])
    }

    /// `requires` and `dependencies`. What is not public keeps its place, for what is below it,
    /// and loses its name and its version.
    fn members(&mut self, node: &Node) -> Map<String, Value> {
        let mut members = Map::new();
        if let Value::Object(all) = &node.requires {
            let mut requires = Map::new();
            for (name, range) in all {
                let range = range.as_str().unwrap_or_default();
                let is_shown = self.public.contains(name.as_str()) && !names_a_place(range);
                let (shown, range) = match (is_shown, is_range(range)) {
                    (true, true) => (name.clone(), range),
                    // A tag, which says nothing of versions.
                    (true, false) => (name.clone(), "*"),
                    (false, _) => (self.hidden.hide(name), NO_VERSION),
                };
                requires.insert(shown, range.into());
            }
            members.insert("requires".to_owned(), requires.into());
        }
        let mut dependencies = Map::new();
        for (name, node) in &node.dependencies {
            let version = node.version.as_str();
            let version =
                version.filter(|text| self.public.contains(name.as_str()) && is_version(text));
            let shown = match version {
                Some(_) => name.clone(),
                None => self.hidden.hide(name),
            };
            let shown_node = self.node(node, version);
            dependencies.insert(shown, shown_node);
        }
        if !dependencies.is_empty() {
            members.insert("dependencies".to_owned(), dependencies.into());
        }
        members
    }

    /// A package, with its `version` if it is public.
    fn node(&mut self, node: &Node, version: Option<&str>) -> Value {
        let mut shown = Map::new();
        shown.insert("version".to_owned(), version.unwrap_or(NO_VERSION).into());
        if version.is_some() {
            self.packages += 1;
            if let Value::String(integrity) = &node.integrity {
                shown.insert("integrity".to_owned(), integrity.as_str().into());
            }
        }
        let flags = [
            ("dev", &node.dev),
            ("optional", &node.optional),
            ("bundled", &node.bundled),
        ];
        for (key, flag) in flags {
            if let Value::Bool(flag) = flag {
                shown.insert(key.to_owned(), (*flag).into());
            }
        }
        shown.extend(self.members(node));
        shown.into()
    }
}

/// Whether what is wanted of a package names an address, a folder or another package, rather than
/// versions or a tag.
fn names_a_place(range: &str) -> bool {
    range.contains([':', '/', '@'])
}

/// Whether `text` is a version and nothing else.
pub(super) fn is_version(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-+".contains(&byte);
    text.bytes().all(is_plain) && nodejs_semver::Version::parse(text).is_ok()
}

fn is_range(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-+ ^~<>=|*".contains(&byte);
    text.bytes().all(is_plain) && nodejs_semver::Range::parse(text).is_ok()
}

/// Makes one report of those that several uplinks gave, each for packages of its own.
pub(super) fn merge(reports: Vec<Map<String, Value>>) -> Option<Map<String, Value>> {
    let mut reports = reports.into_iter();
    let mut merged = reports.next()?;
    for mut report in reports {
        renumber(&mut report, &merged);
        for (key, value) in report {
            match (merged.get_mut(&key), value) {
                (Some(Value::Array(all)), Value::Array(more)) => all.extend(more),
                (Some(Value::Object(all)), Value::Object(more)) if key == "metadata" => {
                    add_counts(all, &more);
                }
                (Some(Value::Object(all)), Value::Object(more)) => all.extend(more),
                (Some(_), _) => {}
                (None, value) => {
                    merged.insert(key, value);
                }
            }
        }
    }
    Some(merged)
}

/// Gives the advisories of `report` numbers that no advisory in `merged` has.
fn renumber(report: &mut Map<String, Value>, merged: &Map<String, Value>) {
    let taken = |key: &str| {
        merged
            .get("advisories")
            .is_some_and(|all| all.get(key).is_some())
    };
    let Some(Value::Object(advisories)) = report.get_mut("advisories") else {
        return;
    };
    let numbers = |all: &Map<String, Value>| all.keys().filter_map(|key| key.parse().ok()).max();
    let others = merged.get("advisories").and_then(Value::as_object);
    let highest: Option<u64> = numbers(advisories).max(others.and_then(numbers));
    let mut next = highest.unwrap_or_default();
    let mut renamed = HashMap::new();
    let mut numbered = Map::new();
    for (key, mut advisory) in std::mem::take(advisories) {
        if !taken(&key) {
            numbered.insert(key, advisory);
            continue;
        }
        next = next.saturating_add(1);
        if let Some(advisory) = advisory.as_object_mut() {
            advisory.insert("id".to_owned(), next.into());
        }
        numbered.insert(next.to_string(), advisory);
        renamed.insert(key, next);
    }
    *advisories = numbered;
    let actions = report.get_mut("actions").and_then(Value::as_array_mut);
    for action in actions.into_iter().flatten() {
        let resolves = action.get_mut("resolves").and_then(Value::as_array_mut);
        for resolved in resolves.into_iter().flatten() {
            let id = resolved.get("id").map(ToString::to_string);
            let renamed = id.and_then(|id| renamed.get(id.trim_matches('"')));
            if let (Some(renamed), Some(resolved)) = (renamed, resolved.as_object_mut()) {
                resolved.insert("id".to_owned(), (*renamed).into());
            }
        }
    }
}

/// Vulnerabilities add up; dependencies were counted by everybody.
fn add_counts(all: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (key, value) in more {
        let count = value.as_u64();
        match (all.get_mut(key), value) {
            (Some(Value::Object(sums)), Value::Object(counts)) => {
                for (severity, count) in counts {
                    let sum = sums.get(severity).and_then(Value::as_u64).unwrap_or(0);
                    let sum = sum.saturating_add(count.as_u64().unwrap_or(0));
                    sums.insert(severity.clone(), sum.into());
                }
            }
            (Some(most), _) if most.as_u64() < count => *most = value.clone(),
            (Some(_), _) => {}
            (None, value) => {
                all.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn about(tree: Value, public: &[&str]) -> Option<(Value, HiddenNames)> {
        let tree: Node = serde_json::from_value(tree).unwrap();
        tree.about(&public.iter().copied().collect())
    }

    #[test]
    fn what_is_below_a_private_package_is_asked_about() {
        let tree = json!({
            "name": "@acme/app", "version": "3.1.4", "lockfileVersion": 1, "secret": "@acme",
            "install": ["@acme/x@1.0.0"], "remove": ["@acme/y@1.0.0"],
            "metadata": { "node_env": "@acme" },
            "requires": { "a": "^1.0.0", "@acme/x": "1.0.0", "c": "npm:@acme/x@1" },
            "dependencies": {
                "a": { "version": "1.0.0", "resolved": "https://acme.example/a", "integrity": "sha512-a", "dev": true, "requires": { "@acme/x": "1", "b": "1" } },
                "@acme/x": { "version": "1.2.3", "integrity": "sha512-x", "dependencies": { "b": { "version": "1.0.0" } } },
                "c": { "version": "npm:@acme/x@1.2.3" },
            },
        });
        let (shown, hidden) = about(tree, &["a", "b", "c"]).unwrap();
        let (x, c) = (format!("{:064x}", 0), format!("{:064x}", 1));
        // `requires` of the root is read by name.
        let names = [hidden.name_of(&x).unwrap(), hidden.name_of(&c).unwrap()];
        assert_eq!(names, ["@acme/x", "c"]);
        assert_eq!(
            shown,
            json!({
                "name": "project", "version": "0.0.0", "install": [], "remove": [], "metadata": {},
                "requires": { "a": "^1.0.0", &x: "0.0.0", &c: "0.0.0" },
                "dependencies": {
                    "a": { "version": "1.0.0", "integrity": "sha512-a", "dev": true, "requires": { &x: "0.0.0", "b": "1" } },
                    &x: { "version": "0.0.0", "dependencies": { "b": { "version": "1.0.0" } } },
                    &c: { "version": "0.0.0" },
                },
            })
        );
        let mut answer = json!({
            "advisories": { "1": { "findings": [{ "paths": [format!("{x}>b"), "b"] }] } },
            "actions": [{ "resolves": [{ "path": format!("a>{x}>b") }] }],
        });
        hidden.reveal_in(&mut answer);
        assert_eq!(
            answer,
            json!({
                "advisories": { "1": { "findings": [{ "paths": ["@acme/x>b", "b"] }] } },
                "actions": [{ "resolves": [{ "path": "a>@acme/x>b" }] }],
            })
        );
    }

    /// Trees with private names wherever a client may put text.
    fn trees() -> impl Strategy<Value = Value> {
        let text = proptest::sample::select(vec![
            "a",
            "b",
            "private-x",
            "1.0.0",
            "^1.0.0",
            "npm:private-x@1",
            "private:y",
            "1.0.0-private/",
        ]);
        let leaf = text
            .clone()
            .prop_map(|text| json!({ "version": text, "resolved": text }));
        leaf.prop_recursive(4, 24, 4, move |inner| {
            let requires = proptest::collection::btree_map(text.clone(), text.clone(), 0..3);
            let members = proptest::collection::btree_map(text.clone(), inner, 0..4);
            (text.clone(), requires, members).prop_map(|(version, requires, dependencies)| {
                json!({ "name": "private-x", "version": version, "requires": requires, "dependencies": dependencies })
            })
        })
    }

    proptest! {
        #[test]
        fn nothing_private_is_shown(tree in trees()) {
            if let Some((shown, _)) = about(tree, &["a", "b"]) {
                prop_assert!(!shown.to_string().contains("private"), "{shown}");
            }
        }
    }

    #[test]
    fn projects_are_no_packages() {
        let tree = json!({
            "requires": { ".": "0.0.0", "packages__app": "7.0.0" },
            "dependencies": {
                ".": { "version": "0.0.0", "requires": {}, "dependencies": {} },
                "packages__app": { "version": "7.0.0", "dependencies": { "a": { "version": "1.0.0" } } },
            },
        });
        let node: Node = serde_json::from_value(tree.clone()).unwrap();
        assert_eq!(node.names(), BTreeSet::from(["a".to_owned()]));
        let (shown, _) = about(tree.clone(), &["a", "packages__app"]).unwrap();
        let app = format!("{:064x}", 0);
        assert_eq!(
            shown["dependencies"],
            json!({
                ".": { "version": "0.0.0", "requires": {} },
                &app: { "version": "0.0.0", "dependencies": { "a": { "version": "1.0.0" } } },
            })
        );
        assert!(about(tree, &[]).is_none(), "there is nothing to ask");
    }

    #[test]
    fn reports_of_several_uplinks_become_one() {
        let report = |module: &str| {
            let report = json!({
                "actions": [{ "module": module, "resolves": [{ "id": 1, "path": module }] }],
                "advisories": { "1": { "id": 1, "module_name": module } },
                "muted": [],
                "metadata": { "vulnerabilities": { "low": 0, "high": 1 }, "totalDependencies": 5 },
            });
            report.as_object().unwrap().clone()
        };
        let merged = merge(vec![report("a"), report("b")]).unwrap();
        assert_eq!(
            Value::Object(merged),
            json!({
                "actions": [
                    { "module": "a", "resolves": [{ "id": 1, "path": "a" }] },
                    { "module": "b", "resolves": [{ "id": 2, "path": "b" }] },
                ],
                "advisories": {
                    "1": { "id": 1, "module_name": "a" },
                    "2": { "id": 2, "module_name": "b" },
                },
                "muted": [],
                "metadata": { "vulnerabilities": { "low": 0, "high": 2 }, "totalDependencies": 5 },
            })
        );
        assert_eq!(merge(vec![report("a")]), Some(report("a")));
        assert_eq!(merge(Vec::new()), None);
    }
}
