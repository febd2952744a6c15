//! What Verdaccio's pages read of a package: its document, with one version in full sight.

use super::{
    Packument,
    render::{Form, VersionWriter, View},
    write_key, write_member, write_object,
};

/// What such a page does not get.
const LEFT_OUT: [&str; 7] = [
    "_rustaccio",
    "_uplinks",
    "_distfiles",
    "_attachments",
    "_rev",
    "name",
    "readme",
];

/// Renders `packument` with `shown`, which is JSON, as its `latest`.
pub fn render_sidebar(packument: &Packument, shown: &[u8], view: View<'_>) -> Vec<u8> {
    let mut out = vec![b'{'];
    write_key(&mut out, "versions");
    out.push(b'{');
    let mut writer = VersionWriter::new(Form::Full, view);
    for (version, raw) in &packument.versions {
        write_key(&mut out, version);
        writer.write(&mut out, raw, version);
    }
    out.push(b'}');
    write_key(&mut out, "time");
    let times = packument.time.iter();
    write_object(&mut out, times.map(|(key, raw)| (key.as_str(), &raw[..])));
    if packument.field("users").is_none() {
        write_member(&mut out, "users", b"{}");
    }
    let tags = serde_json::to_vec(&packument.dist_tags).unwrap_or_else(|_| b"{}".to_vec());
    write_member(&mut out, "dist-tags", &tags);
    // Where upstream is, and when it was asked, is no business of readers.
    write_member(&mut out, "_uplinks", b"{}");
    let is_kept = |key: &str| !LEFT_OUT.contains(&key) && key != "latest";
    for (key, raw) in packument.fields.iter().filter(|(key, _)| is_kept(key)) {
        write_member(&mut out, key, raw);
    }
    write_member(&mut out, "latest", shown);
    out.push(b'}');
    out
}
