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
    for path in settings_files(env) {
        if let Some(url) = registry_in(&path, env) {
            return (Some(url), Source::Npm(path.display().to_string()));
        }
    }
    (address(NPM_DEFAULT_REGISTRY), Source::Default)
}

/// The user's file, then the machine's.
fn settings_files(env: &Env) -> Vec<PathBuf> {
    let given = |upper: &str, lower: &str| env.get(upper).or_else(|| env.get(lower));
    let user = given("NPM_CONFIG_USERCONFIG", "npm_config_userconfig").map(PathBuf::from);
    let user = user.or_else(|| Some(env.home()?.join(".npmrc")));
    let global = given("NPM_CONFIG_GLOBALCONFIG", "npm_config_globalconfig").map(PathBuf::from);
    user.into_iter().chain(global).collect()
}

#[expect(clippy::disallowed_methods, reason = "reads one small file at start")]
fn registry_in(path: &std::path::Path, env: &Env) -> Option<Url> {
    let text = String::from_utf8(std::fs::read(path).ok()?).ok()?;
    let settings = NpmRc::parse(env, &text).ok()?;
    address(&settings.registry?)
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
    use super::*;

    fn upstream(pairs: &[(&str, &str)]) -> (String, Source) {
        let (url, source) = default_upstream(&pairs.iter().copied().collect());
        (url.unwrap().to_string(), source)
    }

    #[test]
    fn variables_come_before_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".npmrc");
        let text =
            "registry = https://user:secret@file.example/npm/\n//file.example/:_authToken=x\n";
        std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), text.as_bytes())
            .unwrap();
        let home = folder.path().to_str().unwrap();
        let (url, source) = upstream(&[("HOME", home)]);
        assert_eq!(url, "https://file.example/npm/");
        assert_eq!(source, Source::Npm(file.display().to_string()));
        let (url, _) = upstream(&[
            ("HOME", home),
            ("npm_config_registry", "http://env.example"),
        ]);
        assert_eq!(url, "http://env.example/");
    }

    #[test]
    fn without_settings_it_is_the_public_registry() {
        let (url, source) = upstream(&[("npm_config_registry", "not an address")]);
        assert_eq!(url.trim_end_matches('/'), NPM_DEFAULT_REGISTRY);
        assert_eq!(source, Source::Default);
    }
}
