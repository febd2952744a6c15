//! What clients get: the full and the abbreviated form, with tarball addresses of this registry.

use bytes::Bytes;

use super::{
    Dist, Fields, Packument, parse_fields, quoted, version::lacks_install_script_mark, write_object,
};
use crate::models::{BaseUrl, PackageName};

/// One of the two forms of a packument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Everything.
    Full,
    /// `application/vnd.npm.install-v1+json`: what an install needs, and `time`.
    Abbreviated,
}

impl Form {
    /// The exact content type; a parameter behind it would change what pnpm makes of the body.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Full => "application/json",
            Self::Abbreviated => "application/vnd.npm.install-v1+json",
        }
    }
}

/// Fields of ours and of Verdaccio that are nobody else's business.
const HIDDEN: [&str; 3] = ["_rustaccio", "_uplinks", "_distfiles"];
/// Fields of a version in the abbreviated form (npm's `package-metadata.md`, and those that
/// clients have come to read since).
const KEPT_IN_VERSION: [&str; 21] = [
    "name",
    "version",
    "deprecated",
    "bin",
    "dist",
    "engines",
    "funding",
    "directories",
    "dependencies",
    "devDependencies",
    "peerDependencies",
    "optionalDependencies",
    "bundleDependencies",
    "bundledDependencies",
    "cpu",
    "os",
    "libc",
    "peerDependenciesMeta",
    "acceptDependencies",
    "_hasShrinkwrap",
    "hasInstallScript",
];

/// Renders `packument` for clients that see the registry at `base`.
pub fn render(packument: &Packument, name: &PackageName, form: Form, base: &BaseUrl) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.push(b'{');
    for (key, raw) in &packument.fields {
        let is_kept = match form {
            Form::Full => !HIDDEN.contains(&key.as_str()),
            Form::Abbreviated => key == "name",
        };
        if is_kept {
            write_member(&mut out, key, raw);
        }
    }
    if let (Form::Abbreviated, Some(modified)) = (form, packument.modified()) {
        write_member(&mut out, "modified", &quoted(&modified.to_string()));
    }
    let tags = serde_json::to_vec(&packument.dist_tags).unwrap_or_else(|_| b"{}".to_vec());
    write_member(&mut out, "dist-tags", &tags);
    write_key(&mut out, "versions");
    out.push(b'{');
    for (index, (version, raw)) in packument.versions.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&quoted(version));
        out.push(b':');
        write_version(&mut out, raw, name, version, form, base);
    }
    out.push(b'}');
    write_key(&mut out, "time");
    write_object(
        &mut out,
        packument
            .time
            .iter()
            .map(|(key, raw)| (key.as_str(), &raw[..])),
    );
    out.push(b'}');
    out
}

/// Renders one version, as `/:package/:version` shows it.
pub fn render_version(raw: &Bytes, name: &PackageName, version: &str, base: &BaseUrl) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + 128);
    write_version(&mut out, raw, name, version, Form::Full, base);
    out
}

fn write_version(
    out: &mut Vec<u8>,
    raw: &Bytes,
    name: &PackageName,
    version: &str,
    form: Form,
    base: &BaseUrl,
) {
    let Ok(mut fields) = parse_fields(raw) else {
        // It was parsed once already as part of the document.
        out.extend_from_slice(raw);
        return;
    };
    if lacks_install_script_mark(&fields) {
        fields.insert("hasInstallScript".to_owned(), Bytes::from_static(b"true"));
    }
    if let Some(dist) = rewritten_dist(&fields, raw, name, version, base) {
        fields.insert("dist".to_owned(), dist);
    }
    let kept = fields.iter().filter(|(key, _)| match form {
        Form::Full => true,
        Form::Abbreviated => KEPT_IN_VERSION.contains(&key.as_str()),
    });
    write_object(out, kept.map(|(key, raw)| (key.as_str(), &raw[..])));
}

/// The version's `dist` with the address of its tarball here; the rest stays as it was.
fn rewritten_dist(
    fields: &Fields,
    raw: &Bytes,
    name: &PackageName,
    version: &str,
    base: &BaseUrl,
) -> Option<Bytes> {
    let file = Dist::of(raw)?.file(name, version)?;
    let mut dist = parse_fields(fields.get("dist")?).ok()?;
    dist.insert(
        "tarball".to_owned(),
        quoted(&format!("{base}/{name}/-/{file}")),
    );
    let mut out = Vec::new();
    write_object(
        &mut out,
        dist.iter().map(|(key, raw)| (key.as_str(), &raw[..])),
    );
    Some(out.into())
}

fn write_key(out: &mut Vec<u8>, key: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.extend_from_slice(&quoted(key));
    out.push(b':');
}

fn write_member(out: &mut Vec<u8>, key: &str, raw: &[u8]) {
    write_key(out, key);
    out.extend_from_slice(raw);
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"_id":"@s/n","_rev":"1-a","name":"@s/n","readme":"r","_rustaccio":{},
        "dist-tags":{"latest":"1.0.0"},"time":{"created":"2026-01-01T00:00:00.000Z","modified":"2026-01-01T00:00:00.000Z","1.0.0":"2026-01-02T00:00:00.000Z"},
        "versions":{"1.0.0":{"name":"@s/n","version":"1.0.0","x":1.10,"scripts":{"install":"x"},
        "dist":{"shasum":"s","tarball":"https://up.example/@s/n/-/n-1.0.0.tgz","signatures":[{"sig":"\u0041"}]}}}}"#;

    fn rendered(form: Form) -> String {
        let packument = Packument::parse(&Bytes::from(DOCUMENT)).unwrap();
        let base = "https://npm.example/pre".parse().unwrap();
        String::from_utf8(render(&packument, &"@s/n".parse().unwrap(), form, &base)).unwrap()
    }

    #[test]
    fn the_full_form_keeps_everything_but_our_own() {
        insta::assert_snapshot!(rendered(Form::Full), @r#"{"_id":"@s/n","_rev":"1-a","name":"@s/n","readme":"r","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"@s/n","version":"1.0.0","x":1.10,"scripts":{"install":"x"},"dist":{"shasum":"s","tarball":"https://npm.example/pre/@s/n/-/n-1.0.0.tgz","signatures":[{"sig":"\u0041"}]},"hasInstallScript":true}},"time":{"created":"2026-01-01T00:00:00.000Z","modified":"2026-01-01T00:00:00.000Z","1.0.0":"2026-01-02T00:00:00.000Z"}}"#);
    }

    #[test]
    fn the_abbreviated_form_has_what_an_install_needs() {
        insta::assert_snapshot!(rendered(Form::Abbreviated), @r#"{"name":"@s/n","modified":"2026-01-02T00:00:00.000Z","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"@s/n","version":"1.0.0","dist":{"shasum":"s","tarball":"https://npm.example/pre/@s/n/-/n-1.0.0.tgz","signatures":[{"sig":"\u0041"}]},"hasInstallScript":true}},"time":{"created":"2026-01-01T00:00:00.000Z","modified":"2026-01-01T00:00:00.000Z","1.0.0":"2026-01-02T00:00:00.000Z"}}"#);
    }
}
