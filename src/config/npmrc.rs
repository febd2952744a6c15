//! What an `.npmrc` says of one registry: its credentials, and which scopes it has.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use deno_npmrc::{NpmRc, NpmRegistryUrl, ResolvedNpmRc};
use secrecy::SecretString;
use url::Url;

use super::{Env, UplinkAuth};

/// Variables of `rustaccio import`, `mirror` and `shadow`, which are no settings of a registry.
pub(super) const IMPORT_VARIABLES: [&str; 6] = [
    "RUSTACCIO_IMPORT_TOKEN",
    "RUSTACCIO_IMPORT_USERNAME",
    "RUSTACCIO_IMPORT_PASSWORD",
    "RUSTACCIO_SHADOW_TOKEN",
    "RUSTACCIO_SHADOW_USERNAME",
    "RUSTACCIO_SHADOW_PASSWORD",
];

/// An `.npmrc` as it was read.
#[derive(Debug)]
pub struct NpmSettings(ResolvedNpmRc);

impl NpmSettings {
    /// Reads the text of an `.npmrc`, in which `default` stands for a registry that it does not name. The
    /// error says why that is not possible.
    pub fn parse(text: &str, env: &Env, default: &Url) -> Result<Self, String> {
        let parsed = NpmRc::parse(env, text).map_err(|error| error.to_string())?;
        let default = NpmRegistryUrl {
            url: default.clone(),
            from_env: false,
        };
        let resolved = parsed.as_resolved(&default);
        Ok(Self(resolved.map_err(|error| error.to_string())?))
    }

    /// The credentials for the registry at `url`, if it has any.
    pub fn credentials(&self, url: &Url) -> Option<UplinkAuth> {
        let mut url = url.clone();
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let config = self.0.tarball_config(&url)?;
        if let Some(token) = &config.auth_token {
            return Some(UplinkAuth::Bearer(SecretString::from(token.clone())));
        }
        if let Some(both) = &config.auth {
            return Some(UplinkAuth::Basic(SecretString::from(both.clone())));
        }
        // npm writes the password in base64.
        let password = STANDARD.decode(config.password.as_ref()?).ok()?;
        let password = String::from_utf8(password).ok()?;
        Some(basic(config.username.as_ref()?, &password))
    }

    /// The address of the registry that a package comes from.
    pub fn registry_of(&self, package: &str) -> &Url {
        self.0.get_registry_url(package)
    }
}

/// The credentials in the variables `RUSTACCIO_<group>_TOKEN`, or `_USERNAME` and `_PASSWORD`.
pub fn credentials_in(env: &Env, group: &str) -> Option<UplinkAuth> {
    let get = |name: &str| env.get(&format!("RUSTACCIO_{group}_{name}"));
    if let Some(token) = get("TOKEN") {
        return Some(UplinkAuth::Bearer(SecretString::from(
            token.trim().to_owned(),
        )));
    }
    Some(basic(get("USERNAME")?, get("PASSWORD")?))
}

fn basic(user: &str, password: &str) -> UplinkAuth {
    let both = STANDARD.encode(format!("{user}:{password}"));
    UplinkAuth::Basic(SecretString::from(both))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn shown(auth: Option<UplinkAuth>) -> String {
        match auth {
            Some(UplinkAuth::Bearer(token)) => format!("Bearer {}", token.expose_secret()),
            Some(UplinkAuth::Basic(token)) => format!("Basic {}", token.expose_secret()),
            None => "none".to_owned(),
        }
    }

    #[test]
    fn each_registry_has_its_own() {
        let text = "registry=http://a.example/npm\n//a.example/npm/:_authToken=${TOKEN}\n\
                    //b.example/:username=bob\n//b.example/:_password=c2VjcmV0\n\
                    //c.example/:_auth=Ym9iOng=\n@s:registry=http://b.example/\n";
        let env: Env = [("TOKEN", "t")].into_iter().collect();
        let default: Url = "http://z.example/".parse().unwrap();
        let settings = NpmSettings::parse(text, &env, &default).unwrap();
        let of = |url: &str| shown(settings.credentials(&url.parse().unwrap()));
        assert_eq!(of("http://a.example/npm"), "Bearer t");
        assert_eq!(of("http://a.example/other"), "none");
        assert_eq!(of("http://a.example:8080/npm"), "none");
        assert_eq!(of("https://b.example"), "Basic Ym9iOnNlY3JldA==");
        assert_eq!(of("http://c.example/x"), "Basic Ym9iOng=");
        assert_eq!(settings.registry_of("@s/n").as_str(), "http://b.example/");
        assert_eq!(settings.registry_of("n").host_str(), Some("a.example"));
    }

    #[test]
    fn variables_have_a_token_or_both_others() {
        let of = |pairs: &[(&str, &str)]| {
            let env: Env = pairs.iter().copied().collect();
            shown(credentials_in(&env, "IMPORT"))
        };
        let user = ("RUSTACCIO_IMPORT_USERNAME", "bob");
        assert_eq!(of(&[user]), "none");
        assert_eq!(
            of(&[user, ("RUSTACCIO_IMPORT_PASSWORD", "x")]),
            "Basic Ym9iOng="
        );
        assert_eq!(of(&[user, ("RUSTACCIO_IMPORT_TOKEN", " t ")]), "Bearer t");
    }
}
