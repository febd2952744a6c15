//! How nodes take turns at writing.

use std::time::Duration;

use secrecy::SecretString;

use super::S3Config;

/// Where leases are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CoordinationBackend {
    /// Nowhere: nodes do not take turns.
    #[default]
    None,
    /// In Redis.
    Redis,
    /// In a bucket of S3.
    S3,
}

/// Where the bucket of leases differs from that of packages.
#[derive(Clone, Debug, Default)]
pub struct LeaseBucketConfig {
    /// Its name.
    pub bucket: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// The address of the store.
    pub endpoint: Option<String>,
    /// The name of a static key.
    pub access_key_id: Option<SecretString>,
    /// The static key.
    pub secret_access_key: Option<SecretString>,
    /// What all keys of leases begin with.
    pub prefix: Option<String>,
    /// Whether the bucket is in the path of addresses.
    pub force_path_style: Option<bool>,
}

impl LeaseBucketConfig {
    /// The whole bucket, where that of packages says what this leaves out.
    ///
    /// The prefix is never that of packages: leases lie below `.rustaccio/` in it, which no package
    /// can be called.
    pub fn with_packages(&self, packages: &S3Config) -> S3Config {
        let or = |own: &Option<String>, theirs: &str| {
            let own = own.as_deref().filter(|own| !own.is_empty());
            own.unwrap_or(theirs).to_owned()
        };
        let below = format!("{}.rustaccio/leases/", packages.prefix);
        // A key is both of its halves.
        let (id, key) = if self.access_key_id.is_some() || self.secret_access_key.is_some() {
            (&self.access_key_id, &self.secret_access_key)
        } else {
            (&packages.access_key_id, &packages.secret_access_key)
        };
        S3Config {
            bucket: or(&self.bucket, &packages.bucket),
            region: or(&self.region, &packages.region),
            endpoint: self.endpoint.clone().or(packages.endpoint.clone()),
            access_key_id: id.clone(),
            secret_access_key: key.clone(),
            prefix: or(&self.prefix, &below),
            force_path_style: self.force_path_style.unwrap_or(packages.force_path_style),
            ca_bundle: packages.ca_bundle.clone(),
        }
    }
}

/// Settings of leases.
#[derive(Clone, Debug)]
pub struct CoordinationConfig {
    /// Where they are kept.
    pub backend: CoordinationBackend,
    /// The address of Redis.
    pub redis_url: Option<SecretString>,
    /// The bucket.
    pub bucket: LeaseBucketConfig,
    /// What all keys in Redis begin with.
    pub lock_key: String,
    /// How long one lasts unless it is renewed.
    pub lease: Duration,
    /// How long a writer waits for his turn.
    pub acquire_timeout: Duration,
    /// How often he looks meanwhile.
    pub poll_interval: Duration,
    /// Whether to go on without one where the backend fails.
    pub fail_open: bool,
}

impl Default for CoordinationConfig {
    fn default() -> Self {
        Self {
            backend: CoordinationBackend::None,
            redis_url: None,
            bucket: LeaseBucketConfig::default(),
            lock_key: "rustaccio:state:lock".to_owned(),
            lease: Duration::from_millis(5000),
            acquire_timeout: Duration::from_millis(15_000),
            poll_interval: Duration::from_millis(100),
            fail_open: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Env, Sources};

    fn bucket(variables: &[(&str, &str)]) -> S3Config {
        let variables = variables.iter();
        let env: Env = variables
            .map(|(name, value)| (format!("RUSTACCIO_{name}"), (*value).to_owned()))
            .collect();
        let config = Config::load(&Sources {
            env,
            ..Sources::default()
        });
        assert_eq!(config.describe_problems(), "");
        config.coordination.bucket.with_packages(&config.storage.s3)
    }

    #[test]
    fn what_is_not_set_is_as_for_packages_but_the_prefix() {
        let packages = [
            ("S3_BUCKET", "packages"),
            ("S3_ENDPOINT", "https://s3.example.com"),
            ("S3_PREFIX", "npm"),
            ("S3_ACCESS_KEY_ID", "id"),
            ("S3_SECRET_ACCESS_KEY", "key"),
            ("STATE_COORDINATION_S3_PREFIX", ""),
        ];
        let same = bucket(&packages);
        assert_eq!(same.bucket, "packages");
        assert_eq!(same.endpoint.as_deref(), Some("https://s3.example.com"));
        assert!(same.access_key_id.is_some() && same.force_path_style);
        // No package can be called that.
        assert_eq!(same.prefix, "npm/.rustaccio/leases/");
        assert_eq!(bucket(&[]).prefix, ".rustaccio/leases/");

        let own = [
            ("STATE_COORDINATION_S3_BUCKET", "locks"),
            ("STATE_COORDINATION_S3_REGION", "eu-central-1"),
            ("STATE_COORDINATION_S3_PREFIX", "/npm//turns"),
            ("STATE_COORDINATION_S3_ACCESS_KEY_ID", "other"),
            ("STATE_COORDINATION_S3_FORCE_PATH_STYLE", "false"),
        ];
        let other = bucket(&[&packages[..5], &own].concat());
        assert_eq!((&*other.bucket, &*other.region), ("locks", "eu-central-1"));
        assert_eq!(other.prefix, "npm/turns/");
        assert!(!other.force_path_style);
        // Half a key is not made whole by half of another.
        assert!(other.secret_access_key.is_none());
    }
}
