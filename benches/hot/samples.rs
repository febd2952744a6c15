//! Documents that look like real ones.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// Where the tarballs of the samples are, before they are served from here.
const UPSTREAM: &str = "http://upstream.example";

/// Hexadecimal digits that do not compress, different ones for each `seed`.
fn digits(seed: usize, length: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (seed as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut text = String::new();
    while text.len() < length {
        text.push_str(&format!("{:016x}", next()));
    }
    text.truncate(length);
    text
}

/// The numbers of a version: ten minor versions of ten patches in each major one.
fn version(number: usize) -> String {
    format!("{}.{}.{}", number / 100, number / 10 % 10, number % 10)
}

fn time(number: usize) -> String {
    let (day, month, year) = (
        number % 28 + 1,
        number / 28 % 12 + 1,
        2012 + number / 336 % 14,
    );
    format!("{year}-{month:02}-{day:02}T12:30:{:02}.123Z", number % 60)
}

/// A version of about 1.7 kB, as libraries have them.
fn manifest(name: &str, number: usize) -> Value {
    let version = version(number);
    let dependencies: Map<String, Value> = (0..8)
        .map(|index| {
            (
                format!("dependency-{index}"),
                json!(format!("^{index}.{}.0", number % 7)),
            )
        })
        .collect();
    json!({
        "name": name,
        "version": version,
        "description": "A library that does one thing, \"well\" enough to be depended upon",
        "keywords": ["library", "thing", "useful"],
        "author": { "name": "A. N. Author", "email": "author@example.org", "url": "https://example.org" },
        "license": "MIT",
        "repository": { "type": "git", "url": format!("git+https://example.org/{name}.git") },
        "bugs": { "url": format!("https://example.org/{name}/issues") },
        "homepage": format!("https://example.org/{name}#readme"),
        "main": "./lib/index.js",
        "exports": { ".": { "import": "./lib/index.mjs", "require": "./lib/index.js" } },
        "engines": { "node": ">=14" },
        "bin": { "thing": "bin/thing.js" },
        "scripts": { "test": "node --test", "build": "node build.js", "prepare": "npm run build" },
        "dependencies": dependencies,
        "devDependencies": { "builder": "^5.1.2", "linter": "^8.0.0", "tester": "^29.7.0" },
        "gitHead": digits(number, 40),
        "_id": format!("{name}@{version}"),
        "_nodeVersion": "20.11.0",
        "_npmVersion": "10.2.4",
        "dist": {
            "integrity": format!("sha512-{}", STANDARD.encode(digits(number + 1, 64))),
            "shasum": digits(number + 2, 40),
            "tarball": format!("{UPSTREAM}/{name}/-/{name}-{version}.tgz"),
            "fileCount": 17,
            "unpackedSize": 54321 + number,
            "signatures": [{ "keyid": "SHA256:example", "sig": STANDARD.encode(digits(number + 3, 72)) }],
        },
        "_npmUser": { "name": "author", "email": "author@example.org" },
        "maintainers": [{ "name": "author", "email": "author@example.org" }],
        "directories": {},
        "_hasShrinkwrap": false,
    })
}

/// A packument of `count` versions.
pub(crate) fn packument(name: &str, count: usize) -> Bytes {
    let versions: Map<String, Value> = (0..count)
        .map(|number| (version(number), manifest(name, number)))
        .collect();
    let mut times: Map<String, Value> = (0..count)
        .map(|number| (version(number), json!(time(number))))
        .collect();
    times.insert("created".to_owned(), json!(time(0)));
    times.insert("modified".to_owned(), json!(time(count)));
    let document = json!({
        "_id": name,
        "_rev": "7-0123456789abcdef",
        "name": name,
        "dist-tags": { "latest": version(count - 1), "next": version(count / 2) },
        "versions": versions,
        "time": times,
        "maintainers": [{ "name": "author", "email": "author@example.org" }],
        "description": "A library that does one thing",
        "license": "MIT",
        "readme": "# A library\n\nIt does one thing, and says so at length.\n".repeat(60),
        "readmeFilename": "README.md",
    });
    document.to_string().into()
}

/// What `npm publish` sends for a tarball of `length` bytes.
pub(crate) fn publish_body(name: &str, length: usize) -> Bytes {
    let version = version(123);
    let tarball = digits(length, length);
    let document = json!({
        "_id": name,
        "name": name,
        "description": "A library that does one thing",
        "dist-tags": { "latest": version },
        "versions": { version.clone(): manifest(name, 123) },
        "readme": "# A library\n\nIt does one thing, and says so at length.\n".repeat(60),
        "access": null,
        "_attachments": {
            format!("{name}-{version}.tgz"): {
                "content_type": "application/octet-stream",
                "data": STANDARD.encode(tarball),
                "length": length,
            }
        }
    });
    document.to_string().into()
}
