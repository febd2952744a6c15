//! The tree of dependencies that audits of the older form ask about: read, and written again
//! without what is nobody else's business.

use std::collections::{HashMap, HashSet};

use indexmap::{IndexMap, IndexSet};
use serde_json::{Map, Value};

use super::audit_question::{Node, is_range, is_version};
use crate::models::PackageName;

/// What stands for the version of something that is not named.
const NO_VERSION: &str = "0.0.0";
/// pnpm's key for the project at the root. Where it stands, all its neighbours are projects too,
/// and no packages.
pub(super) const ROOT_PROJECT: &str = ".";

impl Node {
    /// The tree as an uplink may see it that is asked about `public` names, in JSON; `None` where
    /// none of these is in it.
    pub(super) fn about(&self, public: &HashSet<PackageName>) -> Option<(String, HiddenNames)> {
        let public = public.iter().map(PackageName::as_str).collect();
        let mut writer = Writer {
            public,
            hidden: HiddenNames::default(),
            packages: 0,
            json: String::new(),
        };
        // The project's own name is nobody's business, nor is what was just installed or removed.
        writer.json.push_str(r#"{"name":"project","version":"#);
        writer.text(NO_VERSION);
        writer
            .json
            .push_str(r#","install":[],"remove":[],"metadata":{}"#);
        if self.has_projects() {
            writer.projects(&self.dependencies);
        } else {
            writer.members(self);
        }
        writer.json.push('}');
        (writer.packages > 0).then_some((writer.json, writer.hidden))
    }
}

/// Names that were hidden, and what stands for each: a number that is no package's name.
#[derive(Debug, Default)]
pub(super) struct HiddenNames(IndexSet<Box<str>>);

impl HiddenNames {
    fn hide(&mut self, name: &str) -> String {
        if name == ROOT_PROJECT {
            return name.to_owned();
        }
        let known = self.0.get_index_of(name);
        let number = known.unwrap_or_else(|| self.0.insert_full(name.into()).0);
        // As long as those that npm 6 makes of names that it hides itself.
        format!("{number:064x}")
    }

    /// The memory that they take, in bytes.
    pub(super) fn size(&self) -> usize {
        self.0.iter().map(|name| name.len() + 64).sum()
    }

    fn name_of(&self, shown: &str) -> Option<&str> {
        if shown.len() != 64 {
            return None;
        }
        let number = usize::from_str_radix(shown, 16).ok()?;
        self.0.get_index(number).map(|name| &**name)
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

/// Writes a tree as JSON.
struct Writer<'a> {
    public: HashSet<&'a str>,
    hidden: HiddenNames,
    /// How many packages are named.
    packages: usize,
    json: String,
}

impl Writer<'_> {
    fn text(&mut self, text: &str) {
        self.json.push_str(&Value::from(text).to_string());
    }

    /// A comma, except in front of the first of several, and a key.
    fn key(&mut self, key: &str) {
        if !self.json.ends_with('{') {
            self.json.push(',');
        }
        self.text(key);
        self.json.push(':');
    }

    fn open(&mut self, key: &str) {
        self.key(key);
        self.json.push('{');
    }

    fn close(&mut self) {
        self.json.push('}');
    }

    fn projects(&mut self, projects: &IndexMap<String, Node>) {
        self.open("requires");
        for name in projects.keys() {
            let shown = self.hidden.hide(name);
            self.key(&shown);
            self.text(NO_VERSION);
        }
        self.close();
        self.open("dependencies");
        for (name, project) in projects {
            let shown = self.hidden.hide(name);
            self.node(&shown, project, None);
        }
        self.close();
    }

    /// `requires` and `dependencies`. What is not public keeps its place, for what is below it,
    /// and loses its name and its version.
    fn members(&mut self, node: &Node) {
        if let Some(requires) = node.requires() {
            self.open("requires");
            for (name, range) in requires {
                let is_shown = self.public.contains(name.as_str()) && !names_a_place(range);
                if is_shown {
                    self.key(name);
                    // A tag says nothing of versions.
                    self.text(if is_range(range) { range } else { "*" });
                } else {
                    let shown = self.hidden.hide(name);
                    self.key(&shown);
                    self.text(NO_VERSION);
                }
            }
            self.close();
        }
        if node.dependencies.is_empty() {
            return;
        }
        self.open("dependencies");
        for (name, node) in &node.dependencies {
            let is_public = self.public.contains(name.as_str());
            let version = node.version();
            match version.filter(|text| is_public && is_version(text)) {
                Some(version) => self.node(name, node, Some(version)),
                None => {
                    let shown = self.hidden.hide(name);
                    self.node(&shown, node, None);
                }
            }
        }
        self.close();
    }

    /// A package, with its `version` if it is public.
    fn node(&mut self, shown: &str, node: &Node, version: Option<&str>) {
        self.open(shown);
        self.key("version");
        self.text(version.unwrap_or(NO_VERSION));
        if version.is_some() {
            self.packages += 1;
            if let Some(integrity) = node.integrity() {
                self.key("integrity");
                self.text(integrity);
            }
        }
        for (key, flag) in node.flags() {
            self.key(key);
            self.json.push_str(if flag { "true" } else { "false" });
        }
        self.members(node);
        self.close();
    }
}

/// Whether what is wanted of a package names an address, a folder or another package, rather than
/// versions or a tag.
fn names_a_place(range: &str) -> bool {
    range.contains([':', '/', '@'])
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
    use serde_json::json;

    use super::*;

    fn about(tree: &Value, public: &[&str]) -> Option<(Value, HiddenNames)> {
        let tree = Node::parse(tree.to_string().as_bytes()).unwrap();
        let public = public.iter().map(|name| name.parse().unwrap()).collect();
        let (shown, hidden) = tree.about(&public)?;
        Some((serde_json::from_str(&shown).unwrap(), hidden))
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
        let (shown, hidden) = about(&tree, &["a", "b", "c"]).unwrap();
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
            if let Some((shown, _)) = about(&tree, &["a", "b"]) {
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
        let node = Node::parse(tree.to_string().as_bytes()).unwrap();
        let names: Vec<_> = node.names().unwrap().into_iter().collect();
        assert_eq!(names, ["a".parse().unwrap()]);
        let (shown, _) = about(&tree, &["a", "packages__app"]).unwrap();
        let app = format!("{:064x}", 0);
        assert_eq!(
            shown["dependencies"],
            json!({
                ".": { "version": "0.0.0", "requires": {} },
                &app: { "version": "0.0.0", "dependencies": { "a": { "version": "1.0.0" } } },
            })
        );
        assert!(about(&tree, &[]).is_none(), "there is nothing to ask");
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
