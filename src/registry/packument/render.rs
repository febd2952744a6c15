//! What clients get: the full and the abbreviated form, with tarball addresses of this registry.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;

use super::{
    Dist, Fields, Packument, parse_fields, quoted, text_of, version::lacks_install_script_mark,
    write_object,
};
use crate::{
    models::{BaseUrl, PackageName},
    storage::SigningKeys,
};

/// Where registries serve attestations.
pub const ATTESTATIONS_PATH: &str = "/-/npm/v1/attestations/";

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
/// What Yarn 1 changes owners from, who asks for the abbreviated form of everything.
const KEPT_FOR_EDITS: [&str; 3] = ["_id", "_rev", "maintainers"];
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

/// Which versions of a document were published here.
#[derive(Clone, Debug)]
pub enum Ours {
    /// All of them.
    All,
    /// None.
    None,
    /// These.
    These(HashSet<String>),
}

impl Ours {
    fn contains(&self, version: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::These(versions) => versions.contains(version),
        }
    }
}

/// How versions are signed that nobody has signed.
#[derive(Clone, Debug)]
pub struct Signing {
    /// What they are signed with.
    pub keys: Arc<SigningKeys>,
    /// Whether versions that come from upstream are signed too.
    pub signs_upstream: bool,
}

/// What a packument is rendered for.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The package.
    pub name: &'a PackageName,
    /// The address that the client sees.
    pub base: &'a BaseUrl,
    /// How versions are signed that nobody has signed, if they are.
    pub signing: Option<&'a Signing>,
    /// Which versions were published here.
    pub ours: &'a Ours,
}

/// Renders `packument` for clients.
pub fn render(packument: &Packument, form: Form, view: View<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    let is_editable = !matches!(view.ours, Ours::None);
    out.push(b'{');
    for (key, raw) in &packument.fields {
        let is_kept = match form {
            Form::Full => !HIDDEN.contains(&key.as_str()),
            Form::Abbreviated => {
                key == "name" || (is_editable && KEPT_FOR_EDITS.contains(&key.as_str()))
            }
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
        write_version(&mut out, raw, version, form, view);
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
pub fn render_version(raw: &Bytes, version: &str, view: View<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + 128);
    write_version(&mut out, raw, version, Form::Full, view);
    out
}

fn write_version(out: &mut Vec<u8>, raw: &Bytes, version: &str, form: Form, view: View<'_>) {
    let Ok(mut fields) = parse_fields(raw) else {
        // It was parsed once already as part of the document.
        out.extend_from_slice(raw);
        return;
    };
    if lacks_install_script_mark(&fields) {
        fields.insert("hasInstallScript".to_owned(), Bytes::from_static(b"true"));
    }
    if let Some(dist) = rewritten_dist(&fields, raw, version, view) {
        fields.insert("dist".to_owned(), dist);
    }
    let kept = fields.iter().filter(|(key, _)| match form {
        Form::Full => true,
        Form::Abbreviated => KEPT_IN_VERSION.contains(&key.as_str()),
    });
    write_object(out, kept.map(|(key, raw)| (key.as_str(), &raw[..])));
}

/// The version's `dist` with the addresses of its tarball and its attestations here, and signed
/// if nobody has; the rest stays as it was.
fn rewritten_dist(fields: &Fields, raw: &Bytes, version: &str, view: View<'_>) -> Option<Bytes> {
    let View {
        name,
        base,
        signing,
        ours,
    } = view;
    let known = Dist::of(raw)?;
    let file = known.file(name, version)?;
    let mut dist = parse_fields(fields.get("dist")?).ok()?;
    dist.insert(
        "tarball".to_owned(),
        quoted(&format!("{base}/{name}/-/{file}")),
    );
    if let Some(attestations) = dist.get("attestations") {
        let attestations = rewritten_attestations(attestations, base);
        dist.extend(attestations.map(|raw| ("attestations".to_owned(), raw)));
    }
    let signing = signing.filter(|signing| signing.signs_upstream || ours.contains(version));
    if let (Some(signing), Some(integrity), false) =
        (signing, &known.integrity_text, known.is_signed)
    {
        let signature = signature(&signing.keys, name, version, integrity);
        dist.insert("signatures".to_owned(), format!("[{signature}]").into());
    }
    let mut out = Vec::new();
    write_object(
        &mut out,
        dist.iter().map(|(key, raw)| (key.as_str(), &raw[..])),
    );
    Some(out.into())
}

/// `dist.attestations` with an address here: clients ask the registry that they are configured
/// with, at the path of this address.
fn rewritten_attestations(raw: &Bytes, base: &BaseUrl) -> Option<Bytes> {
    let mut attestations = parse_fields(raw).ok()?;
    let url = text_of(attestations.get("url")?)?;
    let (_, own) = url.split_once(ATTESTATIONS_PATH)?;
    let url = quoted(&format!("{base}{ATTESTATIONS_PATH}{own}"));
    attestations.insert("url".to_owned(), url);
    let mut out = Vec::new();
    write_object(
        &mut out,
        attestations
            .iter()
            .map(|(key, raw)| (key.as_str(), &raw[..])),
    );
    Some(out.into())
}

/// What clients check: the signature of `name@version:integrity`.
pub fn signature(
    keys: &SigningKeys,
    name: &PackageName,
    version: &str,
    integrity: &str,
) -> serde_json::Value {
    let message = format!("{name}@{version}:{integrity}");
    serde_json::json!({ "keyid": &**keys.keyid(), "sig": keys.sign(&message) })
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
        let view = View {
            name: &"@s/n".parse().unwrap(),
            base: &"https://npm.example/pre".parse().unwrap(),
            signing: None,
            ours: &Ours::None,
        };
        String::from_utf8(render(&packument, form, view)).unwrap()
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
