//! Tarballs that would hurt whoever unpacks them: us, or clients.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::support::{Package, Registry, packages::tarball, publish_body, registry::Start};

fn with_tarball(bytes: &[u8]) -> Value {
    let package = Package::new("app", "1.0.0");
    let mut body = publish_body(&package, "latest");
    body["versions"]["1.0.0"]["dist"] = json!({});
    let attachment = &mut body["_attachments"]["app-1.0.0.tgz"];
    attachment["data"] = json!(STANDARD.encode(bytes));
    attachment["length"] = json!(bytes.len());
    body
}

/// A tar with these raw paths, types and bytes.
fn archive(entries: &[(&[u8], tar::EntryType, &[u8])]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(gzip);
    for (path, kind, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.set_entry_type(*kind);
        header.set_size(bytes.len().try_into().unwrap());
        header.set_mode(0o644);
        if *kind == tar::EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

#[tokio::test]
async fn tarballs_that_would_hurt_whoever_unpacks_them() {
    use tar::EntryType::{Regular, Symlink};

    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let manifest: &[u8] = br#"{"name":"app","version":"1.0.0"}"#;
    let json: &[u8] = b"package/package.json";
    let bomb = vec![0_u8; 64 << 20];
    let mut with_tail = tarball(&json!({ "name": "app", "version": "1.0.0" }), &[]);
    with_tail.extend_from_slice(b"tail");
    let bad: Vec<(&str, Vec<u8>)> = vec![
        (
            "absolute",
            archive(&[(json, Regular, manifest), (b"/etc/cron.d/x", Regular, b"x")]),
        ),
        (
            "climbing",
            archive(&[
                (json, Regular, manifest),
                (b"package/../../x", Regular, b"x"),
            ]),
        ),
        (
            "a link",
            archive(&[(json, Regular, manifest), (b"package/link", Symlink, b"")]),
        ),
        (
            "two manifests",
            archive(&[(json, Regular, manifest), (json, Regular, manifest)]),
        ),
        (
            "no manifest",
            archive(&[(b"package/index.js", Regular, b"1")]),
        ),
        (
            "another name",
            archive(&[(json, Regular, br#"{"name":"lodash","version":"1.0.0"}"#)]),
        ),
        (
            "another version",
            archive(&[(json, Regular, br#"{"name":"app","version":"2.0.0"}"#)]),
        ),
        ("a tail", with_tail),
        (
            "cut",
            tarball(
                &json!({ "name": "app", "version": "1.0.0" }),
                &[("a", b"b")],
            )[..60]
                .to_vec(),
        ),
        ("not gzip", b"\x1f\x8bhello".to_vec()),
    ];
    for (what, bytes) in bad {
        let answer = registry.put(&alice, "/app", &with_tarball(&bytes)).await;
        assert_eq!(answer.status, 400, "{what}");
    }
    // Many times its size when unpacked: allowed up to a limit, in constant memory.
    let big = archive(&[
        (json, Regular, manifest),
        (b"package/zeros", Regular, &bomb),
    ]);
    assert!(big.len() < 1 << 20);
    registry
        .put(&alice, "/app", &with_tarball(&big))
        .await
        .assert(201);
}

/// A gzip of a tar with one file of zeros that is never finished: `times` 32 MiB.
fn bomb(times: usize) -> Vec<u8> {
    use flate2::{Compress, Compression, FlushCompress};

    let deflate = |bytes: &[u8]| {
        let mut compress = Compress::new(Compression::best(), false);
        let mut out = Vec::with_capacity(1 << 20);
        let status = compress.compress_vec(bytes, &mut out, FlushCompress::Sync);
        status.unwrap();
        assert_eq!(compress.total_in(), bytes.len() as u64);
        out
    };
    let manifest = archive(&[(
        b"package/package.json",
        tar::EntryType::Regular,
        br#"{"name":"app","version":"1.0.0"}"#,
    )]);
    let mut start = Vec::new();
    let mut gzip = flate2::read::GzDecoder::new(&manifest[..]);
    std::io::Read::read_to_end(&mut gzip, &mut start).unwrap();
    // Without the two empty blocks at its end.
    start.truncate(1024);
    let mut header = tar::Header::new_gnu();
    header.set_path("package/zeros").unwrap();
    header.set_mode(0o644);
    header.set_size((times as u64) << 25);
    header.set_cksum();
    start.extend_from_slice(header.as_bytes());
    // Pieces that end at a whole byte may be strung together.
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    bytes.extend(deflate(&start));
    bytes.extend(deflate(&vec![0; 1 << 25]).repeat(times));
    bytes
}

#[tokio::test]
async fn a_tarball_that_grows_without_measure() {
    let registry = Registry::with(Start {
        tune: Some(|config| config.publish.max_unpacked = 64 << 20),
        ..Start::default()
    })
    .await;
    let alice = registry.user("alice").await;
    let bytes = bomb(30);
    assert!(bytes.len() < 2 << 20, "{}", bytes.len());
    let answer = registry.put(&alice, "/app", &with_tarball(&bytes)).await;
    let answer = answer.assert(400);
    assert!(
        answer.error().contains("when unpacked"),
        "{}",
        answer.error()
    );
    registry.get("/app").await.assert(404);
    let left = std::fs::read_dir(registry.data().join("tmp")).unwrap();
    assert_eq!(left.count(), 0);
}
