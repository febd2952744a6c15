//! The list of names that Verdaccio's plugin for S3 keeps in its bucket.

use std::collections::BTreeSet;

use object_store::path::Path;

use super::bucket::Bucket;
use crate::{models::PackageName, storage::StorageError};

const LIST: &str = "verdaccio-s3-db.json";

/// The names in the list below the prefix, or else in the one at the root of the bucket.
pub async fn legacy_names(bucket: &Bucket) -> Result<BTreeSet<PackageName>, StorageError> {
    if let Some(names) = read(bucket, &bucket.key(LIST)?).await? {
        return Ok(names);
    }
    if bucket.prefix().is_empty() {
        return Ok(BTreeSet::new());
    }
    // What is outside of the prefix may be none of ours to read.
    match read(bucket, &Path::from(LIST)).await {
        Ok(names) => Ok(names.unwrap_or_default()),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the list of names at the root of the bucket is left out"
            );
            Ok(BTreeSet::new())
        }
    }
}

async fn read(bucket: &Bucket, key: &Path) -> Result<Option<BTreeSet<PackageName>>, StorageError> {
    let Some(read) = bucket.read(key).await? else {
        return Ok(None);
    };
    Ok(Some(parse(&read.bytes).unwrap_or_else(|error| {
        tracing::warn!(%key, %error, "the list of names cannot be read; it is left out");
        BTreeSet::new()
    })))
}

fn parse(json: &[u8]) -> Result<BTreeSet<PackageName>, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct List {
        list: Vec<String>,
    }
    let List { list } = serde_json::from_slice(json)?;
    // What is no name of a package has no package.
    Ok(list.iter().filter_map(|name| name.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_taken_from_the_list() {
        let json = br#"{"list":["app","@s/app","../x","app"],"secret":"s"}"#;
        let names: Vec<_> = parse(json).unwrap().into_iter().collect();
        let names: Vec<&str> = names.iter().map(PackageName::as_str).collect();
        assert_eq!(names, ["@s/app", "app"]);
        assert!(parse(b"[]").is_err());
    }
}
