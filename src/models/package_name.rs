//! [`PackageName`]: the only way a name from the wire reaches storage.

use std::{fmt, str::FromStr, sync::Arc};

const MAX_LENGTH: usize = 214;

/// Modules of Node.js that are found without a package.
const CORE_MODULES: [&str; 42] = [
    "assert",
    "async_hooks",
    "buffer",
    "child_process",
    "cluster",
    "console",
    "constants",
    "crypto",
    "dgram",
    "diagnostics_channel",
    "dns",
    "domain",
    "events",
    "fs",
    "http",
    "http2",
    "https",
    "inspector",
    "module",
    "net",
    "os",
    "path",
    "perf_hooks",
    "process",
    "punycode",
    "querystring",
    "readline",
    "repl",
    "stream",
    "string_decoder",
    "sys",
    "timers",
    "tls",
    "trace_events",
    "tty",
    "url",
    "util",
    "v8",
    "vm",
    "wasi",
    "worker_threads",
    "zlib",
];

/// A validated npm package name, scoped (`@scope/name`) or not.
///
/// Invariant: non-empty segments, no `..`, no path separator inside a segment, no control
/// character; so it is safe to use as a relative path or an object key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName(Arc<str>);

/// The text is not a package name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid package name `{0}`")]
pub struct InvalidPackageName(String);

impl PackageName {
    /// The full name, `@scope/name` or `name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The scope with its `@`, if there is one.
    pub fn scope(&self) -> Option<&str> {
        self.0.split_once('/').map(|(scope, _)| scope)
    }

    /// Whether npm's rules let a new package have this name; legacy names may only be read.
    ///
    /// Rules of `validate-npm-package-name`: lower case, URL-safe without `~'!()*`, no leading
    /// `.`, `_` or `-`, not a reserved word.
    pub fn is_publishable(&self) -> bool {
        const RESERVED: [&str; 2] = ["node_modules", "favicon.ico"];
        let is_new_style = |segment: &str| {
            !segment.starts_with(['.', '_', '-'])
                && segment.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte)
                })
        };
        let scope_is_fine = self.scope().is_none_or(|scope| is_new_style(&scope[1..]));
        scope_is_fine && is_new_style(self.base()) && !RESERVED.contains(&self.as_str())
    }

    /// Whether it is the name of a module of Node.js: `require` of it never finds a package. Some
    /// such packages are older than that rule.
    pub fn is_core_module(&self) -> bool {
        CORE_MODULES.contains(&self.as_str())
    }

    /// The name as one path segment: `@scope%2fname`.
    pub fn to_path_segment(&self) -> String {
        self.0.replace('/', "%2f")
    }

    /// The name without its scope, as tarball file names use it.
    pub fn base(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, base)| base)
    }
}

impl FromStr for PackageName {
    type Err = InvalidPackageName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let base = match text.strip_prefix('@') {
            Some(rest) => {
                let (scope, base) = rest.split_once('/').ok_or_else(|| invalid(text))?;
                if !is_segment(scope) {
                    return Err(invalid(text));
                }
                base
            }
            None => text,
        };
        if text.len() <= MAX_LENGTH && is_segment(base) {
            Ok(Self(text.into()))
        } else {
            Err(invalid(text))
        }
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn invalid(text: &str) -> InvalidPackageName {
    InvalidPackageName(text.chars().take(80).collect())
}

/// Lenient on case (legacy names exist), strict on everything that could leave the directory.
fn is_segment(text: &str) -> bool {
    !text.is_empty()
        && text != "-"
        && !text.starts_with(['.', '_'])
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!'()*".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, ok: bool) {
        assert_eq!(text.parse::<PackageName>().is_ok(), ok, "{text:?}");
    }

    #[test]
    fn accepts_real_names() {
        for text in ["lodash", "JSONStream", "@types/node", "a.b_c-d", "@s/n.js"] {
            check(text, true);
        }
    }

    #[test]
    fn only_new_style_names_may_be_published() {
        #[track_caller]
        fn check(text: &str, ok: bool) {
            let name: PackageName = text.parse().unwrap();
            assert_eq!(name.is_publishable(), ok, "{text:?}");
        }
        for text in [
            "lodash",
            "@types/node",
            "a.b_c-d",
            "0",
            "constructor",
            "a__b",
        ] {
            check(text, true);
        }
        for text in [
            "JSONStream",
            "a~b",
            "-a",
            "node_modules",
            "favicon.ico",
            "@S/a",
            "(x)",
        ] {
            check(text, false);
        }
    }

    #[test]
    fn rejects_what_could_escape_the_directory() {
        for text in [
            "",
            ".",
            "..",
            "../x",
            "@/x",
            "@s",
            "@s/",
            "@s/../x",
            "a/b",
            "a\\b",
            "a%2fb",
            "a\0",
            "é",
            "-",
            "__proto__",
            ".rustaccio",
            "@.a/b",
            "@s/.b",
            "@s/b/c",
        ] {
            check(text, false);
        }
    }
}
