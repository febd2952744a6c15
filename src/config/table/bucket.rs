//! Settings of where tarballs and manifests are kept: the folder, or a bucket.

use secrecy::SecretString;

use super::{
    Kind::{Path, Switch, Text},
    Setting,
};
use crate::config::TarballBackend;

/// The backend that `text` means.
fn backend(text: &str) -> Result<TarballBackend, String> {
    match text.to_ascii_lowercase().as_str() {
        "local" | "file" | "fs" => Ok(TarballBackend::Local),
        "s3" => Ok(TarballBackend::S3),
        "gcs" => Ok(TarballBackend::Gcs),
        "azure" => Ok(TarballBackend::Azure),
        _ => Err("must be one of `local`, `s3`, `gcs`, `azure`".to_owned()),
    }
}

/// A prefix of keys: without a slash in front, with one at its end, or empty.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    let is_odd = |part: &&str| matches!(*part, "." | "..") || part.contains(char::is_control);
    if parts.iter().any(is_odd) {
        return Err("must be a prefix of keys such as `packages/`".to_owned());
    }
    let mut prefix = parts.join("/");
    if !prefix.is_empty() {
        prefix.push('/');
    }
    Ok(prefix)
}

/// The address of a store, without a slash at its end.
pub(super) fn address(text: &str) -> Result<String, String> {
    let url = text.parse::<url::Url>().ok();
    if url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err("must be an address such as `https://storage.example.com`".to_owned())
    }
}

/// A setting that is kept as it is.
macro_rules! text {
    ($variable:literal, $default:literal, $($field:ident).+, $help:literal) => {
        Setting::new(
            $variable,
            $default,
            Text(|target, text| {
                target.config.storage.$($field).+ = text.to_owned();
                Ok(())
            }),
            $help,
        )
    };
    (secret $variable:literal, $($field:ident).+, $help:literal) => {
        Setting::new(
            $variable,
            "",
            Text(|target, text| {
                target.config.storage.$($field).+ = Some(SecretString::from(text));
                Ok(())
            }),
            $help,
        )
        .secret()
    };
    (checked $variable:literal, $check:expr, $($field:ident).+, $help:literal) => {
        Setting::new(
            $variable,
            "",
            Text(|target, text| {
                target.config.storage.$($field).+ = $check(text)?;
                Ok(())
            }),
            $help,
        )
    };
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_TARBALL_BACKEND",
        "local",
        Text(|target, text| {
            target.config.storage.tarballs = backend(text)?;
            Ok(())
        }),
        "Where tarballs and manifests are kept: `local`, the data folder, or a bucket of `s3`, `gcs` \
         or `azure`, which any number of registries may share. Accounts and keys go with the \
         manifests.",
    )
    .also(&["store_backend", "storage_backend"]),
    Setting::new(
        "RUSTACCIO_TARBALL_REDIRECT",
        "false",
        Switch(|target, on| target.config.storage.redirect = on),
        "Whether clients are sent to the bucket for tarballs, with an address that is good for a few \
         minutes, instead of through this registry. The bucket must be reachable for them.",
    ),
    text!("RUSTACCIO_S3_BUCKET", "", s3.bucket, "The bucket. It must be there.")
        .also(&["store_s3_bucket", "storage_s3_bucket", "store_aws_s3_storage_bucket"]),
    text!(
        "RUSTACCIO_S3_REGION",
        "us-east-1",
        s3.region,
        "The region of the bucket."
    )
    .also(&["store_s3_region", "storage_s3_region", "store_aws_s3_storage_region"]),
    endpoint(
        "RUSTACCIO_S3_ENDPOINT",
        |target, endpoint| target.config.storage.s3.endpoint = Some(endpoint),
        "The address of a store that speaks S3; without it, Amazon's.",
    )
    .also(&["store_s3_endpoint", "storage_s3_endpoint", "store_aws_s3_storage_endpoint"]),
    text!(
        secret "RUSTACCIO_S3_ACCESS_KEY_ID",
        s3.access_key_id,
        "The key's name. Without it, credentials are found as Amazon's tools find them: \
         `AWS_ACCESS_KEY_ID`, a web identity, the container, the instance."
    )
    .also(&["store_s3_access_key_id", "storage_s3_access_key_id", "store_aws_s3_storage_access_key_id"]),
    text!(
        secret "RUSTACCIO_S3_SECRET_ACCESS_KEY",
        s3.secret_access_key,
        "The key itself."
    )
    .also(&["store_s3_secret_access_key", "storage_s3_secret_access_key", "store_aws_s3_storage_secret_access_key"]),
    text!(
        checked "RUSTACCIO_S3_PREFIX",
        prefix,
        s3.prefix,
        "What all keys begin with, such as `npm/`."
    )
    .also(&["store_s3_prefix", "storage_s3_prefix", "store_aws_s3_storage_key_prefix"]),
    Setting::new(
        "RUSTACCIO_S3_FORCE_PATH_STYLE",
        "true",
        Switch(|target, on| target.config.storage.s3.force_path_style = on),
        "Whether the bucket is in the path of addresses, or in the host's name.",
    )
    .also(&["store_s3_force_path_style", "storage_s3_force_path_style", "store_aws_s3_storage_s3_force_path_style"]),
    Setting::new(
        "RUSTACCIO_S3_CA_BUNDLE",
        "",
        Path(|target, path| target.config.storage.s3.ca_bundle = Some(path)),
        "A PEM file with certificate authorities to trust besides the system's.",
    ),
    text!("RUSTACCIO_GCS_BUCKET", "", gcs.bucket, "The bucket. It must be there."),
    text!(
        secret "RUSTACCIO_GCS_SERVICE_ACCOUNT",
        gcs.service_account,
        "The path of a service account's key file, or what is in it. Without it, credentials are \
         found as Google's tools find them."
    ),
    text!(
        checked "RUSTACCIO_GCS_PREFIX",
        prefix,
        gcs.prefix,
        "What all keys begin with, such as `npm/`."
    ),
    endpoint(
        "RUSTACCIO_GCS_ENDPOINT",
        |target, endpoint| target.config.storage.gcs.endpoint = Some(endpoint),
        "The address of a store that speaks like Google's, asked without credentials where no \
         service account is given; without it, Google's.",
    ),
    text!(
        "RUSTACCIO_AZURE_ACCOUNT",
        "",
        azure.account,
        "The storage account."
    ),
    text!(
        secret "RUSTACCIO_AZURE_ACCESS_KEY",
        azure.access_key,
        "The account's key. Without it, credentials are found in `AZURE_*`, a workload identity, \
         the instance."
    ),
    text!(
        "RUSTACCIO_AZURE_CONTAINER",
        "",
        azure.container,
        "The container. It must be there."
    ),
    text!(
        checked "RUSTACCIO_AZURE_PREFIX",
        prefix,
        azure.prefix,
        "What all keys begin with, such as `npm/`."
    ),
    endpoint(
        "RUSTACCIO_AZURE_ENDPOINT",
        |target, endpoint| target.config.storage.azure.endpoint = Some(endpoint),
        "The address of a store that speaks like Azure's, with the account in its path where it \
         has to be; without it, Azure's.",
    ),
];

const fn endpoint(
    variable: &'static str,
    put: fn(&mut super::Target, String),
    help: &'static str,
) -> Setting {
    Setting::new(variable, "", super::Kind::Address(put), help)
}

#[cfg(test)]
mod tests {
    use super::prefix;

    #[test]
    fn prefixes_have_one_form() {
        for (text, normal) in [("", ""), ("/", ""), ("npm", "npm/"), ("/npm//a/", "npm/a/")] {
            assert_eq!(prefix(text).as_deref(), Ok(normal));
        }
        assert!(prefix("a/../b").is_err());
    }
}
