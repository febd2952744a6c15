//! The built-in uplink: the registry that npm on this machine is configured with.

use std::path::PathBuf;

use deno_npmrc::{NPM_DEFAULT_REGISTRY, NpmRc};
use url::Url;

use super::{Env, Source};

/// The address of the built-in uplink where no setting gives one, and where it comes from.
///
/// Only the address is taken from npm's settings, never its credentials, and never from a file in
/// the working folder, which may be anybody's.
pub(super) fn default_upstream(env: &Env) -> (Option<Url>, Source) {
    for variable in ["NPM_CONFIG_REGISTRY", "npm_config_registry"] {
        if let Some(url) = env.get(variable).and_then(address) {
            return (Some(url), Source::Npm(variable.to_owned()));
        }
    }
    for file in settings_files(env) {
        if let Some(url) = file.registry(env) {
            return (Some(url), Source::Npm(file.path.display().to_string()));
        }
    }
    (address(NPM_DEFAULT_REGISTRY), Source::Default)
}

/// The files that npm reads, those that count first: the user's, the machine's, npm's own.
fn settings_files(env: &Env) -> Vec<File> {
    let user = variable(env, "userconfig").map(PathBuf::from);
    let user = user.or_else(|| Some(env.home()?.join(".npmrc")));
    let user = user.and_then(File::read);
    let own = program(env, "npm").and_then(|npm| File::read(npm.parent()?.parent()?.join("npmrc")));
    let global = {
        let value = |key: &str| {
            let files = [&user, &own].into_iter().flatten();
            let mut values = files.filter_map(|file| file.value(key, env));
            variable(env, key)
                .or_else(|| values.next())
                .map(|text| path(env, &text))
        };
        value("globalconfig").or_else(|| {
            let prefix = value("prefix")
                .or_else(|| env.get("PREFIX").map(PathBuf::from))
                .or_else(|| Some(program(env, "node")?.parent()?.parent()?.to_owned()));
            Some(prefix?.join("etc/npmrc"))
        })
    };
    let global = global.and_then(File::read);
    [user, global, own].into_iter().flatten().collect()
}

/// One of npm's settings in the environment.
fn variable(env: &Env, key: &str) -> Option<String> {
    let lower = format!("npm_config_{key}");
    let value = env.get(&lower.to_ascii_uppercase());
    value.or_else(|| env.get(&lower)).map(str::to_owned)
}

/// A path as npm writes it.
fn path(env: &Env, text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), env.home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

/// Where a program really is, that a shell would find.
fn program(env: &Env, name: &str) -> Option<PathBuf> {
    let folders = std::env::split_paths(env.get("PATH")?);
    let mut files = folders
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name));
    files.find(|file| file.is_file())?.canonicalize().ok()
}

/// A file of npm's settings.
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    /// Reads it. Paths that depend on the working folder are none.
    #[expect(clippy::disallowed_methods, reason = "reads one small file at start")]
    fn read(path: PathBuf) -> Option<Self> {
        if !path.is_absolute() {
            return None;
        }
        let text = String::from_utf8(std::fs::read(&path).ok()?).ok()?;
        Some(Self { path, text })
    }

    fn registry(&self, env: &Env) -> Option<Url> {
        address(&NpmRc::parse(env, &self.text).ok()?.registry?)
    }

    /// The text of `key`. The parser gives the registry only, so it is asked to take the line for
    /// the registry's.
    fn value(&self, key: &str, env: &Env) -> Option<String> {
        let lines = self.text.lines().map(str::trim);
        let rest = lines
            .take_while(|line| !line.starts_with('['))
            .filter_map(|line| line.strip_prefix(key))
            .filter(|rest| rest.trim_start().starts_with('='))
            .last()?;
        let value = NpmRc::parse(env, &format!("registry{rest}")).ok()?.registry;
        value.filter(|text| !text.is_empty())
    }
}

/// An http(s) address without what identifies the user.
fn address(text: &str) -> Option<Url> {
    let mut url: Url = text.trim().parse().ok()?;
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use tempfile::TempDir;

    use super::*;

    fn upstream(pairs: &[(&str, &str)]) -> (String, Source) {
        let (url, source) = default_upstream(&pairs.iter().copied().collect());
        (url.unwrap().to_string(), source)
    }

    /// A machine's files: paths and texts.
    fn machine(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = fs::File::create(path).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        }
        folder
    }

    fn at(folder: &TempDir, path: &str) -> String {
        folder.path().join(path).display().to_string()
    }

    #[test]
    fn variables_come_before_files() {
        let text =
            "registry = https://user:secret@file.example/npm/\n//file.example/:_authToken=x\n";
        let folder = machine(&[(".npmrc", text)]);
        let home = folder.path().to_str().unwrap();
        let (url, source) = upstream(&[("HOME", home)]);
        assert_eq!(url, "https://file.example/npm/");
        assert_eq!(source, Source::Npm(at(&folder, ".npmrc")));
        let (url, _) = upstream(&[
            ("HOME", home),
            ("npm_config_registry", "http://env.example"),
        ]);
        assert_eq!(url, "http://env.example/");
    }

    #[test]
    fn the_machines_file_is_where_npm_looks_for_it() {
        let folder = machine(&[
            ("home/.npmrc", "prefix = ${HOME}/mine ; a comment\n"),
            ("home/mine/etc/npmrc", "registry=http://prefix.example/\n"),
            ("node/bin/node", ""),
            ("node/etc/npmrc", "registry=http://node.example/\n"),
            ("node/lib/npm/bin/npm-cli.js", ""),
            ("node/lib/npm/npmrc", "registry=http://own.example/\n"),
            ("else/npmrc", "registry=http://else.example/\n"),
        ]);
        let (home, bin) = (at(&folder, "home"), at(&folder, "bin"));
        fs::create_dir(&bin).unwrap();
        symlink(at(&folder, "node/bin/node"), at(&folder, "bin/node")).unwrap();
        let npm = at(&folder, "node/lib/npm/bin/npm-cli.js");
        symlink(npm, at(&folder, "bin/npm")).unwrap();
        let else_ = at(&folder, "else/npmrc");
        let check = |pairs: &[(&str, &str)], expected: &str| {
            assert_eq!(upstream(pairs).0, format!("http://{expected}.example/"));
        };
        let path: (&str, &str) = ("PATH", &bin);
        check(&[path], "node");
        check(&[path, ("HOME", &home)], "prefix");
        check(
            &[("HOME", &home), ("NPM_CONFIG_GLOBALCONFIG", &else_)],
            "else",
        );
        let (node, prefix) = (at(&folder, "node"), at(&folder, "home/mine"));
        check(&[("HOME", &home), ("npm_config_prefix", &node)], "node");
        check(&[("PREFIX", &prefix)], "prefix");
        fs::remove_file(at(&folder, "node/etc/npmrc")).unwrap();
        check(&[path], "own");
    }

    #[test]
    fn without_settings_it_is_the_public_registry() {
        let (url, source) = upstream(&[("npm_config_registry", "not an address")]);
        assert_eq!(url.trim_end_matches('/'), NPM_DEFAULT_REGISTRY);
        assert_eq!(source, Source::Default);
        // Paths that mean another file in every folder are not followed.
        let (_, source) = upstream(&[
            ("NPM_CONFIG_USERCONFIG", "Cargo.toml"),
            ("NPM_CONFIG_PREFIX", "."),
            ("PATH", "target:."),
        ]);
        assert_eq!(source, Source::Default);
    }
}
