//! Floor 5: lockfiles of package managers, as the list of packages that they name.
//!
//! What a project needs beyond registries (git, folders, workspaces, patches, addresses of files) is
//! left out: no registry has it.

mod bun;
mod npm;
mod pnpm;
mod yarn;

use std::collections::BTreeSet;

use crate::models::{PackageName, Version};

/// The largest lockfile in bytes; those of the largest projects have a few dozen MB.
pub const MAX_LENGTH: u64 = 128 * 1024 * 1024;

/// A package version that a lockfile names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Locked {
    /// The package.
    pub name: PackageName,
    /// Its version.
    pub version: Version,
    /// Where the tarball came from, or the registry that it came from; `None` where the lockfile leaves
    /// that to the settings.
    pub from: Option<String>,
    /// Whether only development needs it; always `false` where the form does not say.
    pub is_dev: bool,
}

/// What a lockfile names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockfile {
    /// The packages, each version once, by name.
    pub packages: Vec<Locked>,
    /// Whether it says what only development needs.
    pub knows_dev: bool,
}

/// The text is no lockfile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockfileError {
    /// It is none of the known forms.
    #[error(
        "it is no lockfile of npm (package-lock.json, npm-shrinkwrap.json), Yarn (yarn.lock), pnpm \
         (pnpm-lock.yaml) or Bun (bun.lock)"
    )]
    Unknown,
    /// Bun's older form.
    #[error("it is Bun's binary lockfile; `bun install --save-text-lockfile` writes bun.lock")]
    Binary,
    /// It is damaged, for the reason in the text.
    #[error("it cannot be read: {0}")]
    Damaged(String),
}

impl Lockfile {
    /// Reads the bytes of a lockfile, whose form its content tells.
    pub fn parse(bytes: &[u8]) -> Result<Self, LockfileError> {
        if bytes.starts_with(b"#!/usr/bin/env bun") {
            return Err(LockfileError::Binary);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| LockfileError::Unknown)?;
        let text = text.trim_start_matches('\u{feff}');
        let (mut packages, knows_dev) = if text.trim_start().starts_with('{') {
            match bun::parse(text) {
                Some(packages) => (packages?, false),
                None => (npm::parse(text)?, true),
            }
        } else if text.contains("# yarn lockfile v1") {
            (yarn::parse_classic(text), false)
        } else if has_line(text, "__metadata:") {
            (yarn::parse_modern(text)?, false)
        } else if has_line(text, "lockfileVersion:") {
            pnpm::parse(text)?
        } else {
            return Err(LockfileError::Unknown);
        };
        packages.sort();
        // What development and the product both need is the product's: `false` comes first.
        packages.dedup_by(|one, other| {
            (&one.name, &one.version, &one.from) == (&other.name, &other.version, &other.from)
        });
        Ok(Self {
            packages,
            knows_dev,
        })
    }

    /// The names of all packages.
    pub fn names(&self) -> BTreeSet<PackageName> {
        let names = self.packages.iter().map(|locked| locked.name.clone());
        names.collect()
    }
}

fn has_line(text: &str, start: &str) -> bool {
    text.lines().any(|line| line.starts_with(start))
}

/// `name@rest`, where the name may have a scope.
fn split_at_version(text: &str) -> Option<(&str, &str)> {
    let at = text
        .char_indices()
        .skip(1)
        .find(|(_, char)| *char == '@')?
        .0;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// A version of a package, where both are good; nothing where they are something else than a version of
/// a registry's package.
fn locked(name: &str, version: &str, from: Option<&str>, is_dev: bool) -> Option<Locked> {
    Some(Locked {
        name: name.parse().ok()?,
        version: version.parse().ok()?,
        from: from.filter(|from| !from.is_empty()).map(str::to_owned),
        is_dev,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let lockfile = Lockfile::parse(text.as_bytes()).unwrap();
        let packages = lockfile.packages.iter();
        packages
            .map(|locked| {
                let from = locked.from.as_deref().unwrap_or("-");
                let dev = if locked.is_dev { " dev" } else { "" };
                format!("{}@{} {from}{dev}", locked.name, locked.version)
            })
            .collect()
    }

    #[test]
    fn npm_before_seven() {
        let text = r#"{"lockfileVersion":1,"dependencies":{
            "a":{"version":"1.0.0","resolved":"http://r/a.tgz","dependencies":{
                "@s/b":{"version":"2.0.0","resolved":"http://r/b.tgz","dev":true}}},
            "alias":{"version":"npm:@s/c@3.0.0","resolved":"http://r/c.tgz"},
            "g":{"version":"git+ssh://x/y.git#1"},
            "in":{"version":"1.0.0","bundled":true}}}"#;
        assert_eq!(
            shown(text),
            [
                "@s/b@2.0.0 http://r/b.tgz dev",
                "@s/c@3.0.0 http://r/c.tgz",
                "a@1.0.0 http://r/a.tgz"
            ]
        );
    }

    #[test]
    fn npm_since_seven() {
        let text = r#"{"lockfileVersion":3,"packages":{"":{"name":"me","version":"1.0.0"},
            "packages/w":{"name":"w","version":"1.0.0"},"node_modules/w":{"link":true,"resolved":"packages/w"},
            "node_modules/a":{"version":"1.0.0","resolved":"http://r/a.tgz","dev":true},
            "node_modules/a/node_modules/@s/b":{"version":"2.0.0"},
            "node_modules/x":{"name":"y","version":"1.0.0","resolved":"http://r/y.tgz"},
            "node_modules/f":{"version":"1.0.0","resolved":"file:f.tgz"},
            "node_modules/in":{"version":"1.0.0","inBundle":true}}}"#;
        assert_eq!(
            shown(text),
            [
                "@s/b@2.0.0 -",
                "a@1.0.0 http://r/a.tgz dev",
                "y@1.0.0 http://r/y.tgz"
            ]
        );
    }

    #[test]
    fn yarn_of_both_kinds() {
        let classic = "# yarn lockfile v1\n\n\n\"@s/b@^1\", \"@s/b@^1.0.0\":\n  version \"1.0.0\"\n  resolved \"http://r/b.tgz#abc\"\n  dependencies:\n    version \"9\"\n\nalias@npm:real@2:\n  version \"2.0.0\"\n  resolved \"http://r/real.tgz\"\n\ngit@user/repo:\n  version \"1.0.0\"\n  resolved \"http://g/x.tar.gz\"\n";
        assert_eq!(
            shown(classic),
            ["@s/b@1.0.0 http://r/b.tgz", "real@2.0.0 http://r/real.tgz"]
        );
        let modern = "__metadata:\n  version: 8\n\n\"@s/b@npm:^1, @s/b@npm:^1.0.0\":\n  version: 1.0.0\n  resolution: \"@s/b@npm:1.0.0\"\n\n\"c@npm:1\":\n  version: 1.0.0\n  resolution: \"c@npm:1.0.0::__archiveUrl=http%3A%2F%2Fr%2Fc.tgz\"\n\n\"me@workspace:.\":\n  version: 0.0.0-use.local\n  resolution: \"me@workspace:.\"\n";
        assert_eq!(shown(modern), ["@s/b@1.0.0 -", "c@1.0.0 http://r/c.tgz"]);
    }

    #[test]
    fn pnpm_of_all_kinds() {
        let five = "lockfileVersion: 5.4\npackages:\n\n  /@s/b/1.0.0_peer@1.0.0:\n    resolution: {integrity: sha512-x}\n    dev: true\n  /a/2.0.0:\n    resolution: {integrity: x, tarball: http://r/a.tgz}\n    dev: false\n  r.example/c/1.0.0:\n    resolution: {integrity: x}\n    dev: false\n  github.com/u/r/abc:\n    resolution: {tarball: 'http://g/x'}\n    name: r\n    version: 1.0.0\n";
        assert_eq!(
            shown(five),
            [
                "@s/b@1.0.0 - dev",
                "a@2.0.0 http://r/a.tgz",
                "c@1.0.0 //r.example/"
            ]
        );
        let six = "lockfileVersion: '6.0'\npackages:\n\n  /@s/b@1.0.0(peer@1.0.0):\n    resolution: {integrity: sha512-x}\n    dev: true\n";
        assert_eq!(shown(six), ["@s/b@1.0.0 - dev"]);
        let nine = "lockfileVersion: '9.0'\npackages:\n\n  '@s/b@1.0.0':\n    resolution: {integrity: sha512-x}\n  r@http://g/x:\n    resolution: {tarball: 'http://g/x'}\n    version: 1.0.0\nsnapshots:\n  '@s/b@1.0.0(peer@1.0.0)': {}\n";
        assert_eq!(shown(nine), ["@s/b@1.0.0 -"]);
        assert!(!Lockfile::parse(nine.as_bytes()).unwrap().knows_dev);
    }

    #[test]
    fn bun_writes_nearly_json() {
        let text = "{\n  \"lockfileVersion\": 1,\n  \"workspaces\": {\n    \"\": { \"name\": \"me\", },\n  },\n  // said\n  \"packages\": {\n    \"a\": [\"a@1.0.0\", \"\", { \"dependencies\": { \"b\": \"^1\" } }, \"sha512-x\"],\n    \"x\": [\"@s/y@2.0.0\", \"http://r/y.tgz\", {}, \"sha512-x\"],\n    \"w\": [\"w@workspace:w\"],\n    \"g\": [\"g@git+ssh://x\", {}, \"abc\"],\n  }\n}\n";
        assert_eq!(shown(text), ["@s/y@2.0.0 http://r/y.tgz", "a@1.0.0 -"]);
    }

    #[test]
    fn what_is_none_is_refused() {
        for bytes in [
            &b""[..],
            b"<html>",
            b"{",
            b"[]",
            b"{}",
            b"{\"packages\":7}",
            b"\xff\xfe",
            b"lockfileVersion: [",
            b"__metadata: [",
            b"#!/usr/bin/env bun\nbun-lockfile-format-v0\n",
        ] {
            assert!(Lockfile::parse(bytes).is_err(), "{bytes:?}");
        }
        let deep = format!("{{\"dependencies\":{}", "{\"a\":".repeat(100_000));
        assert!(Lockfile::parse(deep.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,400}") {
            for start in ["", "{", "# yarn lockfile v1\n", "__metadata:\n", "lockfileVersion: 9\n", "{\"lockfileVersion\":1,\"packages\":{\"a\":["] {
                let _ = Lockfile::parse(format!("{start}{text}").as_bytes());
            }
        }

        #[test]
        fn what_is_locked_comes_back(
            packages in proptest::collection::btree_map("(@[a-z]{1,5}/)?[a-z][a-z0-9]{0,7}", (0_u32..99, 0_u32..99), 1..12),
        ) {
            let packages: Vec<(String, String)> = packages
                .into_iter()
                .map(|(name, (major, minor))| (name, format!("{major}.{minor}.0")))
                .collect();
            let written = |start: &str, line: &dyn Fn(&str, &str) -> String, end: &str| {
                let lines = packages.iter().map(|(name, version)| line(name, version));
                let text = format!("{start}{}{end}", lines.collect::<String>());
                let lockfile = Lockfile::parse(text.as_bytes()).unwrap().packages;
                let mut found: Vec<(String, String)> = lockfile
                    .into_iter()
                    .map(|locked| (locked.name.to_string(), locked.version.to_string()))
                    .collect();
                found.sort();
                found
            };
            let forms = [
                written("# yarn lockfile v1\n", &|n, v| format!("\n\"{n}@^{v}\":\n  version \"{v}\"\n"), ""),
                written("__metadata:\n  version: 8\n", &|n, v| format!("\"{n}@npm:^{v}\":\n  version: {v}\n  resolution: \"{n}@npm:{v}\"\n"), ""),
                written("lockfileVersion: '9.0'\npackages:\n", &|n, v| format!("  '{n}@{v}':\n    resolution: {{integrity: x}}\n"), ""),
                written("lockfileVersion: 5.4\npackages:\n", &|n, v| format!("  '/{n}/{v}':\n    resolution: {{integrity: x}}\n"), ""),
                written("{\"lockfileVersion\":1,\"packages\":{", &|n, v| format!("\"{n}\":[\"{n}@{v}\",\"\",{{}},\"x\"],"), "}}"),
                written("{\"lockfileVersion\":3,\"packages\":{", &|n, v| format!("\"node_modules/{n}\":{{\"version\":\"{v}\"}},"), "\"\":{}}}"),
            ];
            for found in forms {
                prop_assert_eq!(&found, &packages);
            }
        }
    }
}
