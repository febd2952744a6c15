//! What a client sees of a hosted package whose name upstream has too. Computed, never stored.

use super::Packument;

/// `upstream`'s versions under those of `hosted`: ours win, and so do our dist-tags, except that
/// `latest` is upstream's unless ours was tagged so.
pub fn merge(hosted: &Packument, upstream: &Packument) -> Packument {
    let mut merged = upstream.clone();
    for (key, raw) in &hosted.fields {
        merged.fields.insert(key.clone(), raw.clone());
    }
    for (version, raw) in &hosted.versions {
        merged.versions.insert(version.clone(), raw.clone());
    }
    for (tag, version) in &hosted.dist_tags {
        merged.dist_tags.insert(tag.clone(), version.clone());
    }
    for (key, raw) in &hosted.time {
        let is_ours = key != "created" || !upstream.time.contains_key(key);
        if is_ours {
            merged.time.insert(key.clone(), raw.clone());
        }
    }
    if let Some(modified) = hosted.modified().max(upstream.modified()) {
        let modified = super::quoted(&modified.to_string());
        merged.time.insert("modified".to_owned(), modified);
    }
    merged
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn packument(json: &str) -> Packument {
        Packument::parse(&Bytes::from(json.to_owned())).unwrap()
    }

    #[test]
    fn ours_win() {
        let hosted = packument(
            r#"{"name":"n","versions":{"1.0.0":{"a":"ours"},"1.0.1-fix":{}},"dist-tags":{"fix":"1.0.1-fix"},
            "time":{"created":"2026-02-01T00:00:00Z","1.0.1-fix":"2026-02-01T00:00:00Z"}}"#,
        );
        let upstream = packument(
            r#"{"name":"n","license":"MIT","versions":{"1.0.0":{"a":"theirs"},"2.0.0":{}},"dist-tags":{"latest":"2.0.0"},
            "time":{"created":"2020-01-01T00:00:00Z","modified":"2021-01-01T00:00:00Z","2.0.0":"2021-01-01T00:00:00Z"}}"#,
        );
        let merged = merge(&hosted, &upstream);
        assert_eq!(merged.version("1.0.0").unwrap(), r#"{"a":"ours"}"#);
        assert_eq!(merged.versions().count(), 3);
        assert_eq!(merged.resolve("latest"), Some("2.0.0"));
        assert_eq!(merged.resolve("fix"), Some("1.0.1-fix"));
        assert_eq!(merged.text("license").as_deref(), Some("MIT"));
        assert_eq!(merged.modified(), hosted.modified());
        assert_eq!(merged.time["created"], r#""2020-01-01T00:00:00Z""#);
    }
}
