//! Packages as clients make them.

use std::{collections::BTreeMap, io::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::Digest as _;

/// A package version with its tarball.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) manifest: Value,
    pub(crate) tarball: Vec<u8>,
}

impl Package {
    pub(crate) fn new(name: &str, version: &str) -> Self {
        Self::with(name, version, &json!({}), &[("index.js", b"// nothing\n")])
    }

    /// With further fields of package.json, and these files.
    pub(crate) fn with(name: &str, version: &str, fields: &Value, files: &[(&str, &[u8])]) -> Self {
        let mut manifest = json!({ "name": name, "version": version });
        for (key, value) in fields.as_object().unwrap() {
            manifest[key] = value.clone();
        }
        let tarball = tarball(&manifest, files);
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            manifest,
            tarball,
        }
    }

    /// With a file of `length` bytes that cannot be compressed.
    pub(crate) fn heavy(name: &str, version: &str, length: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            })
            .collect();
        Self::with(name, version, &json!({}), &[("heavy.bin", &bytes)])
    }

    pub(crate) fn file(&self) -> String {
        let base = self.name.rsplit('/').next().unwrap();
        format!("{base}-{}.tgz", self.version)
    }

    pub(crate) fn integrity(&self) -> String {
        format!(
            "sha512-{}",
            STANDARD.encode(sha2::Sha512::digest(&self.tarball))
        )
    }

    pub(crate) fn shasum(&self) -> String {
        hex::encode(sha1::Sha1::digest(&self.tarball))
    }

    /// Its object in `versions`, with its tarball below `registry`.
    pub(crate) fn version_object(&self, registry: &str) -> Value {
        let mut object = self.manifest.clone();
        object["_id"] = json!(format!("{}@{}", self.name, self.version));
        object["dist"] = json!({
            "integrity": self.integrity(),
            "shasum": self.shasum(),
            "tarball": format!("{registry}/{}/-/{}", self.name, self.file()),
        });
        object
    }
}

/// A gzip-compressed tar with `package/package.json` and `files`.
pub(crate) fn tarball(manifest: &Value, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let manifest = serde_json::to_vec(manifest).unwrap();
    let all = std::iter::once(("package.json", &manifest[..])).chain(files.iter().copied());
    for (path, bytes) in all {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len().try_into().unwrap());
        header.set_mode(0o644);
        header.set_mtime(499_162_500);
        builder
            .append_data(&mut header, format!("package/{path}"), bytes)
            .unwrap();
    }
    let mut gzip = builder.into_inner().unwrap();
    gzip.flush().unwrap();
    gzip.finish().unwrap()
}

/// `count` packages by their names, each of which needs two earlier ones.
#[cfg_attr(
    not(feature = "test-clients"),
    expect(dead_code, reason = "only clients install so much")
)]
pub(crate) fn forest(count: usize) -> BTreeMap<String, Package> {
    let name = |number: usize| match number % 3 {
        0 => format!("@forest/tree-{number}"),
        _ => format!("tree-{number}"),
    };
    let packages = (0..count).map(|number| {
        let mut needs = serde_json::Map::new();
        for before in [number / 2, number / 3] {
            if before < number {
                needs.insert(name(before), json!("^1.0.0"));
            }
        }
        let text = format!("module.exports = {number}\n").repeat(50);
        let package = Package::with(
            &name(number),
            "1.0.0",
            &json!({ "dependencies": needs }),
            &[("index.js", text.as_bytes())],
        );
        (name(number), package)
    });
    packages.collect()
}

/// The document of `npm publish --tag <tag>`.
pub(crate) fn publish_body(package: &Package, tag: &str) -> Value {
    json!({
        "_id": package.name,
        "name": package.name,
        "dist-tags": { tag: package.version },
        "versions": { package.version.clone(): package.version_object("http://localhost") },
        "access": null,
        "_attachments": {
            format!("{}-{}.tgz", package.name, package.version): {
                "content_type": "application/octet-stream",
                "data": STANDARD.encode(&package.tarball),
                "length": package.tarball.len(),
            }
        }
    })
}
