//! What each fuzz target does with its input. The tests run the same over the kept inputs.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::header;
use rustaccio::{
    auth::{self, Credentials},
    config::{Config, Env, Sources},
    lockfile::Lockfile,
    models::{
        BaseUrl, Integrity, Origin, PackageName, Pattern, Tag, TarballName, Timestamp, Username,
        Version, VersionKey,
    },
    registry::{
        self,
        packument::{Form, Hosted, Ours, Packument, View, render},
        publish::{
            archive::{ArchiveLimits, inspect},
            body::PublishBody,
            intent::{Route, classify},
            scanner::{AttachmentSink, ScanLimits, Scanner},
        },
    },
    search::Query,
    storage,
    web::fuzz,
};

/// What a target does.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 15] = [
    ("audit_tree", audit_tree),
    ("authorization", authorization),
    ("htpasswd", htpasswd),
    ("lockfile", lockfile),
    ("names", names),
    ("packument", packument),
    ("patterns", patterns),
    ("provenance", provenance),
    ("publish_body", publish_body),
    ("queries", queries),
    ("requests", requests),
    ("settings", settings),
    ("sidecar", sidecar),
    ("tarball", tarball),
    ("verdaccio_tokens", verdaccio_tokens),
];

/// A tree that a client wants audited.
pub fn audit_tree(data: &[u8]) {
    registry::fuzz::audit_tree(data);
}

/// An `Authorization` header.
pub fn authorization(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Credentials::parse(text);
    }
}

/// A file of users: whoever is in it can get another hash, and somebody else can be added.
pub fn htpasswd(data: &[u8]) {
    storage::fuzz::htpasswd(data);
}

/// A lockfile of any client. What it names can be named.
pub fn lockfile(data: &[u8]) {
    let Ok(lockfile) = Lockfile::parse(data) else {
        return;
    };
    for locked in &lockfile.packages {
        assert!(locked.name.as_str().parse::<PackageName>().is_ok());
        assert!(locked.version.as_str().parse::<Version>().is_ok());
    }
    assert!(lockfile.names().len() <= lockfile.packages.len());
}

/// Every typed name, and texts like them. What is accepted comes back as it was.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(name) = text.parse::<PackageName>() {
        assert_eq!(name.as_str(), text);
        assert!(!text.contains("..") || !text.split('/').any(|part| part == ".."));
    }
    if let Ok(version) = text.parse::<Version>() {
        assert_eq!(version.as_str(), text);
    }
    if let Ok(file) = text.parse::<TarballName>() {
        assert!(!file.as_str().contains(['/', '\\', '\0']));
    }
    let _ = (text.parse::<Tag>(), text.parse::<Username>());
    let _ = (text.parse::<VersionKey>(), text.parse::<BaseUrl>());
    if let Ok(integrity) = text.parse::<Integrity>() {
        assert!(integrity.to_string().parse::<Integrity>().is_ok());
    }
}

/// A document: whatever can be read can be rendered, edited and read again.
pub fn packument(data: &[u8]) {
    let json = Bytes::copy_from_slice(data);
    let (Ok(name), Ok(base)) = ("fuzz".parse(), "http://localhost".parse()) else {
        return;
    };
    if let Ok(packument) = Packument::parse(&json) {
        for form in [Form::Full, Form::Abbreviated] {
            let view = View {
                name: &name,
                base: &base,
                signing: None,
                ours: &Ours::None,
            };
            let rendered = render(&packument, form, view);
            assert!(Packument::parse(&rendered.into()).is_ok());
        }
    }
    let now = Timestamp::from_unix_millis(0);
    if let Ok(mut hosted) = Hosted::parse(&json) {
        let versions: Vec<String> = hosted
            .packument()
            .versions()
            .map(|(v, _)| v.to_owned())
            .collect();
        for version in &versions {
            hosted.deprecate(version, "old", now);
        }
        if let Some(version) = versions.first() {
            hosted.set_tag(&Tag::latest(), version, now);
            hosted.remove_version(version, "fuzz", now);
        }
        let again = Hosted::parse(&hosted.to_json());
        assert!(again.is_ok_and(|again| again.packument() == hosted.packument()));
    }
    let _ = Hosted::new(&name, Origin::Local, now);
}

/// A pattern and a name, with a line between.
pub fn patterns(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (pattern, name) = text.split_once('\n').unwrap_or((text, "@scope/name"));
    if let Ok(pattern) = Pattern::compile(pattern) {
        pattern.matches(name);
    }
}

#[derive(Default)]
struct Sink(usize);

impl AttachmentSink for Sink {
    fn begin(&mut self, _name: &str) -> std::io::Result<()> {
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0 += bytes.len();
        Ok(())
    }

    fn end(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A Sigstore bundle.
pub fn provenance(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        registry::fuzz::provenance(text);
    }
}

/// The document of a `PUT`; where it is cut into pieces makes no difference.
pub fn publish_body(data: &[u8]) {
    let limits = ScanLimits {
        metadata_bytes: 1 << 20,
        ..ScanLimits::default()
    };
    let scan = |size: usize| {
        let (mut scanner, mut sink) = (Scanner::new(limits), Sink::default());
        for piece in data.chunks(size) {
            scanner.feed(piece, &mut sink)?;
        }
        scanner.finish().map(|scanned| (scanned, sink.0))
    };
    let whole = scan(data.len().max(1));
    let pieces = scan(3);
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => {
            assert!(whole == pieces);
            let Ok(name) = "fuzz".parse() else { return };
            for route in [Route::Plain, Route::Rev] {
                if let Ok(body) = PublishBody::parse(&whole.0) {
                    let _ = classify(&name, route, body);
                }
            }
        }
        (Err(_), Err(_)) => {}
        _ => panic!("pieces make a difference"),
    }
}

/// The text of a search.
pub fn queries(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Query::parse(text);
    }
}

/// A path or a header: its first byte says which.
pub fn requests(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let length = u64::try_from(rest.len()).unwrap_or(0) * 7;
    match kind % 5 {
        0 => {
            if let Ok(text) = std::str::from_utf8(rest) {
                fuzz::path(text);
            }
        }
        1 => fuzz::header(header::RANGE, rest, length),
        2 => fuzz::header(header::ACCEPT_ENCODING, rest, length),
        3 => fuzz::header(header::IF_NONE_MATCH, rest, length),
        _ => fuzz::header(header::IF_MODIFIED_SINCE, rest, length),
    }
}

/// A file with settings.
pub fn settings(data: &[u8]) {
    let env: Env = [("RUSTACCIO_CONFIG_BASE64", STANDARD.encode(data))]
        .into_iter()
        .collect();
    let config = Config::load(&Sources {
        env,
        ..Sources::default()
    });
    let _ = (config.describe_problems(), config.show(true));
}

/// A tarball.
pub fn tarball(data: &[u8]) {
    let limits = ArchiveLimits {
        unpacked_bytes: 1 << 20,
        entries: 100,
    };
    let _ = inspect(data, limits);
}

/// Verdaccio's file of a package.
pub fn sidecar(data: &[u8]) {
    storage::fuzz::sidecar(data);
}

/// A token that Verdaccio made, and what is under its signature or behind its key.
pub fn verdaccio_tokens(data: &[u8]) {
    auth::fuzz_verdaccio_token(data);
}
