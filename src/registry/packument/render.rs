//! What clients get: the full and the abbreviated form, with tarball addresses of this registry.

use std::{collections::HashSet, io, sync::Arc};

use bytes::Bytes;

use super::{
    Dist, Packument,
    members::{Member, Members, member, text},
    quoted,
    version::has_install_script,
    write_key, write_member, write_object, write_text,
};
use crate::{
    models::{BaseUrl, PackageName, TarballName},
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
/// Whether a field of a version is in the abbreviated form (npm's `package-metadata.md`, and what
/// clients have come to read since).
fn is_kept_in_version(key: &str) -> bool {
    matches!(
        key,
        "name"
            | "version"
            | "deprecated"
            | "bin"
            | "dist"
            | "engines"
            | "funding"
            | "directories"
            | "dependencies"
            | "devDependencies"
            | "peerDependencies"
            | "optionalDependencies"
            | "bundleDependencies"
            | "bundledDependencies"
            | "cpu"
            | "os"
            | "libc"
            | "peerDependenciesMeta"
            | "acceptDependencies"
            | "_hasShrinkwrap"
            | "hasInstallScript"
    )
}

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
    /// Whether `version` was published here.
    pub fn contains(&self, version: &str) -> bool {
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

/// A rendered piece is handed on when it has so many bytes: it is still in the processor's cache.
const PIECE: usize = 64 * 1024;

/// Renders `packument` for clients, whole.
pub fn render(packument: &Packument, form: Form, view: View<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    let collected = render_pieces(packument, form, view, |piece| {
        body.extend_from_slice(piece);
        Ok(())
    });
    debug_assert!(collected.is_ok(), "memory takes everything");
    body
}

/// Renders `packument` for clients and gives the body piece by piece to `take`, until that fails.
pub fn render_pieces(
    packument: &Packument,
    form: Form,
    view: View<'_>,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
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
    let mut writer = VersionWriter::new(form, view);
    for (version, raw) in &packument.versions {
        write_key(&mut out, version);
        writer.write(&mut out, raw, version);
        if out.len() >= PIECE {
            // The last byte tells whether a comma is next.
            let last = out.pop();
            take(&out)?;
            out.clear();
            out.extend(last);
        }
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
    take(&out)
}

/// Renders one version, as `/:package/:version` shows it.
pub fn render_version(raw: &Bytes, version: &str, view: View<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + 128);
    VersionWriter::new(Form::Full, view).write(&mut out, raw, version);
    out
}

/// Writes versions one after the other, with room that is used again for each.
pub(super) struct VersionWriter<'a> {
    form: Form,
    view: View<'a>,
    /// What stands before the file name of each tarball.
    folder: String,
    members: Vec<Member<'a>>,
    in_dist: Vec<Member<'a>>,
}

impl<'a> VersionWriter<'a> {
    pub(super) fn new(form: Form, view: View<'a>) -> Self {
        Self {
            form,
            view,
            folder: format!("{}/{}/-/", view.base, view.name),
            members: Vec::new(),
            in_dist: Vec::new(),
        }
    }

    pub(super) fn write(&mut self, out: &mut Vec<u8>, raw: &'a [u8], version: &str) {
        if !collect(raw, &mut self.members) {
            // It was found valid as part of the document.
            out.extend_from_slice(raw);
            return;
        }
        out.push(b'{');
        let (mut scripts, mut has_mark) = (None, false);
        let members = std::mem::take(&mut self.members);
        for Member { key, value } in &members {
            match &**key {
                "scripts" => scripts = Some(*value),
                "hasInstallScript" => has_mark = true,
                _ => {}
            }
            if self.form == Form::Abbreviated && !is_kept_in_version(key) {
                continue;
            }
            write_key(out, key);
            if key == "dist" {
                self.write_dist(out, value, version);
            } else {
                out.extend_from_slice(value);
            }
        }
        self.members = members;
        // Clients do not send it, and the abbreviated form has no `scripts` to see it from.
        if !has_mark && scripts.is_some_and(has_install_script) {
            write_member(out, "hasInstallScript", b"true");
        }
        out.push(b'}');
    }

    /// A version's `dist` with the addresses of its tarball and its attestations here, and signed
    /// if nobody has; the rest stays as it was.
    fn write_dist(&mut self, out: &mut Vec<u8>, raw: &'a [u8], version: &str) {
        let View {
            name,
            base,
            signing,
            ours,
        } = self.view;
        let is_object = collect(raw, &mut self.in_dist);
        let tarball = self.in_dist.iter().find(|member| member.key == "tarball");
        let tarball = tarball.and_then(|member| text(member.value));
        let file = tarball.and_then(|address| TarballName::at(&address, name, version));
        let Some(file) = file.filter(|_| is_object) else {
            out.extend_from_slice(raw);
            return;
        };
        let signing = signing.filter(|signing| signing.signs_upstream || ours.contains(version));
        let signatures = signing.and_then(|signing| {
            let dist = Dist::read(raw).filter(|dist| !dist.is_signed)?;
            let signature = signature(&signing.keys, name, version, &dist.integrity_text?);
            Some(format!("[{signature}]"))
        });
        out.push(b'{');
        let mut is_signed = false;
        for Member { key, value } in &self.in_dist {
            write_key(out, key);
            match (&**key, &signatures) {
                ("tarball", _) => {
                    // Both are made of characters that may stand in JSON as they are.
                    out.push(b'"');
                    out.extend_from_slice(self.folder.as_bytes());
                    out.extend_from_slice(file.as_str().as_bytes());
                    out.push(b'"');
                }
                ("attestations", _) => write_attestations(out, value, base),
                ("signatures", Some(signatures)) => {
                    is_signed = true;
                    out.extend_from_slice(signatures.as_bytes());
                }
                _ => out.extend_from_slice(value),
            }
        }
        if let Some(signatures) = signatures.filter(|_| !is_signed) {
            write_member(out, "signatures", signatures.as_bytes());
        }
        out.push(b'}');
    }
}

/// Fills `members` with those of `json`, each key once: of several the last counts, in the place of
/// the first, as in JavaScript. Whether `json` is an object.
fn collect<'a>(json: &'a [u8], members: &mut Vec<Member<'a>>) -> bool {
    members.clear();
    let mut coming = Members::of(json);
    for member in coming.by_ref() {
        match members.iter_mut().find(|known| known.key == member.key) {
            Some(known) => *known = member,
            None => members.push(member),
        }
    }
    coming.is_complete()
}

/// `dist.attestations` with an address here: clients ask the registry that they are configured
/// with, at the path of this address.
fn write_attestations(out: &mut Vec<u8>, raw: &[u8], base: &BaseUrl) {
    let url = member(raw, "url").and_then(text);
    let own = url
        .as_ref()
        .and_then(|url| url.split_once(ATTESTATIONS_PATH));
    let mut members = Vec::new();
    let (true, Some((_, own))) = (collect(raw, &mut members), own) else {
        out.extend_from_slice(raw);
        return;
    };
    let url = format!("{base}{ATTESTATIONS_PATH}{own}");
    out.push(b'{');
    for Member { key, value } in &members {
        write_key(out, key);
        if key == "url" {
            write_text(out, &url);
        } else {
            out.extend_from_slice(value);
        }
    }
    out.push(b'}');
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
