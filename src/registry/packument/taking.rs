//! Taking over what another registry has of a package.

use bytes::Bytes;

use super::{
    Fields, Hosted, Packument, members::member, parse_fields, quoted, text_of, write_object,
};
use crate::models::{
    Algorithm, Integrity, Origin, PackageName, Tag, TarballName, Timestamp, Version,
};

/// What only the registry that keeps a document says in it.
const OF_THE_KEEPER: [&str; 10] = [
    "_id",
    "name",
    "_rev",
    "_attachments",
    "_uplinks",
    "_distfiles",
    "_rustaccio",
    "_etag",
    "_cached",
    "users",
];
/// What is true only under the name of the registry that said it.
const OF_THE_SIGNER: [&str; 2] = ["signatures", "attestations"];

/// The digests of a version's tarball, as a document has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// `sha512-…`, of `dist.integrity`.
    pub sha512: Option<String>,
    /// `dist.shasum`, in lower case.
    pub shasum: Option<String>,
}

impl Digests {
    /// Those of a raw version.
    pub fn of(version: &[u8]) -> Self {
        let dist = member(version, "dist").unwrap_or(b"{}");
        let text = |key: &str| super::members::text(member(dist, key)?);
        let integrity = text("integrity").and_then(|text| text.parse::<Integrity>().ok());
        let strongest = integrity.as_ref().map(Integrity::strongest);
        let of = |algorithm: Algorithm| strongest.filter(|digest| digest.algorithm == algorithm);
        let shasum = text("shasum").filter(|text| Integrity::from_shasum(text).is_ok());
        Self {
            sha512: of(Algorithm::Sha512).map(ToString::to_string),
            shasum: shasum
                .map(|text| text.to_ascii_lowercase())
                .or_else(|| Some(of(Algorithm::Sha1)?.to_hex())),
        }
    }

    /// Whether they are of other bytes; `false` where they have nothing in common to compare.
    pub fn differ(&self, other: &Self) -> bool {
        match (&self.sha512, &other.sha512, &self.shasum, &other.shasum) {
            (Some(one), Some(other), _, _) | (_, _, Some(one), Some(other)) => one != other,
            _ => false,
        }
    }
}

/// A version of another registry whose tarball is here.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The version.
    pub version: Version,
    /// Its tarball.
    pub file: TarballName,
    /// What it is to say of itself, see [`taken_version`].
    pub manifest: Bytes,
}

/// A version as another registry says it in `raw`, with what is true here of its tarball. `None` where it
/// is no object.
pub fn taken_version(
    name: &PackageName,
    version: &Version,
    raw: &Bytes,
    tarball: (&str, &Digests),
    origin: Origin,
) -> Option<Bytes> {
    let mut fields = parse_fields(raw).ok()?;
    let (address, digests) = tarball;
    let mut dist = fields
        .get("dist")
        .and_then(|raw| parse_fields(raw).ok())
        .unwrap_or_default();
    let mut set = |key: &str, value: &Option<String>| {
        if let Some(value) = value {
            dist.insert(key.to_owned(), quoted(value));
        }
    };
    set("integrity", &digests.sha512);
    set("shasum", &digests.shasum);
    set("tarball", &Some(address.to_owned()));
    if origin == Origin::Local {
        for key in OF_THE_SIGNER {
            dist.shift_remove(key);
        }
    }
    let id = format!("{name}@{version}");
    for (key, value) in [
        ("name", name.as_str()),
        ("version", version.as_str()),
        ("_id", &id),
    ] {
        fields.insert(key.to_owned(), quoted(value));
    }
    fields.insert("dist".to_owned(), object(&dist));
    Some(object(&fields))
}

fn object(fields: &Fields) -> Bytes {
    let mut out = Vec::new();
    let members = fields.iter().map(|(key, raw)| (key.as_str(), &raw[..]));
    write_object(&mut out, members);
    out.into()
}

/// What has come of [`Hosted::take`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Took {
    /// Whether anything is another than before.
    pub is_changed: bool,
    /// Dist-tags that point elsewhere here than there, and stay so.
    pub other_tags: Vec<String>,
}

impl Hosted {
    /// Whether nothing was published here but what `source` has too: then the source decides what the
    /// document says.
    pub fn follows(&self, source: &Packument) -> bool {
        let mut own = self.packument.versions.keys();
        own.all(|version| source.versions.contains_key(version))
    }

    /// Takes over `versions` of `source`, with their times, and what the document says of all of them:
    /// dist-tags, owners, the README, fields that nobody here knows. Where something else was published
    /// here, what is here stays, and only what is missing is added. No version is removed.
    pub fn take(&mut self, source: &Packument, versions: &[Taken], now: Timestamp) -> Took {
        let before = self.clone();
        let is_new = self.is_gone();
        let follows = self.follows(source);
        for taken in versions {
            let is_here = self.packument.versions.contains_key(taken.version.as_str());
            if follows || !is_here {
                self.take_version(source, taken, now);
            }
        }
        self.take_fields(source, follows);
        let other_tags = self.take_tags(source, follows);
        self.repair_latest();
        if is_new && let Some(created) = source.time.get("created") {
            self.packument
                .time
                .insert("created".to_owned(), created.clone());
        }
        let is_changed = *self != before;
        if is_changed {
            self.touch(now);
            // Nothing has happened to it since.
            let modified = source.time.get("modified").filter(|raw| is_time(raw));
            if is_new && let Some(modified) = modified {
                self.packument
                    .time
                    .insert("modified".to_owned(), modified.clone());
            }
        }
        Took {
            is_changed,
            other_tags,
        }
    }

    fn take_version(&mut self, source: &Packument, taken: &Taken, now: Timestamp) {
        let version = taken.version.as_str();
        let is_new = !self.packument.versions.contains_key(version);
        let manifest = taken.manifest.clone();
        self.packument.versions.insert(version.to_owned(), manifest);
        let time = source.time.get(version).filter(|raw| is_time(raw)).cloned();
        let time = time.or_else(|| is_new.then(|| quoted(&now.to_string())));
        if let Some(time) = time {
            self.packument.time.insert(version.to_owned(), time);
        }
        if is_new {
            self.own.tombstones.shift_remove(version);
            self.own.removed = None;
            let stub = quoted(version);
            let stub = Bytes::from([b"{\"version\":", &stub[..], b"}"].concat());
            self.edit_object("_attachments", |files| {
                files.insert(taken.file.as_str().to_owned(), stub);
            });
        }
    }

    fn take_fields(&mut self, source: &Packument, follows: bool) {
        for (key, raw) in &source.fields {
            if OF_THE_KEEPER.contains(&key.as_str()) {
                continue;
            }
            if follows || !self.packument.fields.contains_key(key) {
                self.packument.fields.insert(key.clone(), raw.clone());
            }
        }
        let fans = source.fields.get("users");
        let fans = fans
            .and_then(|raw| parse_fields(raw).ok())
            .unwrap_or_default();
        let is_fan = |raw: &Bytes| raw == "true";
        let fans: Vec<_> = fans.into_iter().filter(|(_, raw)| is_fan(raw)).collect();
        if !fans.is_empty() {
            self.edit_object("users", |users| users.extend(fans));
        }
    }

    fn take_tags(&mut self, source: &Packument, follows: bool) -> Vec<String> {
        let mut others = Vec::new();
        let Packument {
            versions,
            dist_tags,
            ..
        } = &mut self.packument;
        for (tag, version) in &source.dist_tags {
            if tag.parse::<Tag>().is_err() || !versions.contains_key(version) {
                continue;
            }
            match dist_tags.get(tag) {
                Some(own) if own == version => {}
                Some(_) if !follows => others.push(tag.clone()),
                _ => {
                    dist_tags.insert(tag.clone(), version.clone());
                }
            }
        }
        others
    }
}

fn is_time(raw: &Bytes) -> bool {
    text_of(raw).is_some_and(|text| Timestamp::parse_rfc3339(&text).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix_millis(1_767_225_600_000)
    }

    fn source(text: &str) -> Packument {
        Packument::parse(&Bytes::from(text.to_owned())).unwrap()
    }

    fn taken(source: &Packument, version: &str) -> Taken {
        let name: PackageName = "n".parse().unwrap();
        let version: Version = version.parse().unwrap();
        let raw = source.version(version.as_str()).unwrap();
        let digests = Digests {
            sha512: Some("sha512-x".to_owned()),
            shasum: Some("ab".to_owned()),
        };
        let tarball = ("http://here/n.tgz", &digests);
        Taken {
            file: TarballName::of(&name, &version).unwrap(),
            manifest: taken_version(&name, &version, raw, tarball, Origin::Local).unwrap(),
            version,
        }
    }

    const TWO: &str = r##"{"_id":"n","_rev":"7-x","name":"n","odd":{"a": 1.50},"readme":"# n","users":{"bob":true,"eve":false},
        "maintainers":[{"name":"bob"}],"dist-tags":{"latest":"1.0.0","next":"2.0.0","gone":"3.0.0"},
        "time":{"created":"2020-01-01T00:00:00.000Z","modified":"2021-01-01T00:00:00.000Z","1.0.0":"2020-02-01T00:00:00.000Z","2.0.0":"rubbish"},
        "versions":{"1.0.0":{"name":"n","version":"1.0.0","deprecated":"old","x": 1e2,"dist":{"tarball":"http://there/n.tgz","y":1,"signatures":[{}]}},
        "2.0.0":{"dist":{}}}}"##;

    #[test]
    fn a_new_package_is_as_it_was_there() {
        let source = source(TWO);
        let mut hosted = Hosted::new(&"n".parse().unwrap(), Origin::Local, now());
        let versions = ["1.0.0", "2.0.0"].map(|version| taken(&source, version));
        let took = hosted.take(&source, &versions, now());
        assert!(took.is_changed && took.other_tags.is_empty());
        let mut json: serde_json::Value = serde_json::from_slice(&hosted.to_json()).unwrap();
        assert!(json["_rev"].as_str().unwrap().starts_with("1-"));
        json["_rev"] = "1".into();
        insta::assert_snapshot!(
            json.to_string(),
            @r##"{"_attachments":{"n-1.0.0.tgz":{"version":"1.0.0"},"n-2.0.0.tgz":{"version":"2.0.0"}},"_id":"n","_rev":"1","_rustaccio":{"origin":"local"},"dist-tags":{"latest":"1.0.0","next":"2.0.0"},"maintainers":[{"name":"bob"}],"name":"n","odd":{"a":1.5},"readme":"# n","time":{"1.0.0":"2020-02-01T00:00:00.000Z","2.0.0":"2026-01-01T00:00:00.000Z","created":"2020-01-01T00:00:00.000Z","modified":"2021-01-01T00:00:00.000Z"},"users":{"bob":true},"versions":{"1.0.0":{"_id":"n@1.0.0","deprecated":"old","dist":{"integrity":"sha512-x","shasum":"ab","tarball":"http://here/n.tgz","y":1},"name":"n","version":"1.0.0","x":100.0},"2.0.0":{"_id":"n@2.0.0","dist":{"integrity":"sha512-x","shasum":"ab","tarball":"http://here/n.tgz"},"name":"n","version":"2.0.0"}}}"##
        );
        // Once more changes nothing.
        let again = Hosted::parse(&hosted.to_json()).unwrap();
        let mut twice = again.clone();
        assert!(
            !twice
                .take(&source, &versions, now().plus_millis(5))
                .is_changed
        );
        assert_eq!(twice.to_json(), again.to_json());
    }

    #[test]
    fn what_was_published_here_stays() {
        let source = source(TWO);
        let mut hosted = Hosted::new(&"n".parse().unwrap(), Origin::Local, now());
        let own = r#"{"name":"n","version":"9.0.0","dist":{"tarball":"http://x/n-9.0.0.tgz"}}"#;
        let file = "n-9.0.0.tgz".parse().unwrap();
        hosted.add_version(&"9.0.0".parse().unwrap(), &file, own.into(), &[], now());
        hosted.set_field("readme", "\"mine\"".into(), now());
        let took = hosted.take(&source, &[taken(&source, "1.0.0")], now());
        assert_eq!(took.other_tags, ["latest"]);
        let shown = hosted.packument();
        assert_eq!(shown.resolve("latest"), Some("9.0.0"));
        assert_eq!(shown.text("readme").as_deref(), Some("mine"));
        assert_eq!(shown.field("odd").unwrap(), r#"{"a": 1.50}"#);
        assert_eq!(shown.version("9.0.0").unwrap(), own);
        assert!(!shown.dist_tags().contains_key("next"));
    }

    #[test]
    fn digests_are_compared_by_what_they_share() {
        let of = |dist: &str| Digests::of(format!(r#"{{"dist":{dist}}}"#).as_bytes());
        let (one, other) = (
            "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d",
            "0000000000000000000000000000000000000000",
        );
        let shasum = |text: &str| of(&format!(r#"{{"shasum":"{text}"}}"#));
        assert!(shasum(one).differ(&shasum(other)));
        assert!(!shasum(one).differ(&shasum(&one.to_uppercase())));
        assert!(!shasum("rubbish").differ(&shasum(one)));
        let as_integrity = of(r#"{"integrity":"sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00="}"#);
        assert!(!as_integrity.differ(&shasum(one)) && as_integrity.differ(&shasum(other)));
        assert_eq!(Digests::of(b"{}"), Digests::default());
    }
}
