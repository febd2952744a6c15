//! Settings of buckets, the cache, and what is remembered.

use super::*;

#[test]
fn what_is_remembered_depends_on_how_many_nodes_there_are() {
    let spans = |variables: &[(&str, &str)]| {
        let config = load(variables);
        assert!(
            config.problems().is_empty(),
            "{}",
            config.describe_problems()
        );
        let storage = config.storage;
        let seconds = |span: Duration| span.as_secs();
        (
            seconds(storage.package_cache_ttl),
            seconds(storage.negative_cache_ttl),
            seconds(storage.discovery_refresh),
        )
    };
    for single in ["", "single", "single-node", "single_node", "local"] {
        assert_eq!(spans(&[(MODE, single)]), (0, 30, 0), "{single}");
    }
    for multi in ["multi", "multi-node", "multi_node", "cluster"] {
        assert_eq!(spans(&[(MODE, multi)]), (120, 5, 15), "{multi}");
    }
    assert_eq!(spans(&[(MODE, "multi"), (TTL, "0")]), (0, 5, 15));
    assert_eq!(spans(&[(MODE, "multi"), (TTL, "")]), (120, 5, 15));
    assert_eq!(spans(&[(MODE, "multi"), (REFRESH, "0")]), (120, 5, 0));
    assert_eq!(spans(&[(REFRESH, "60")]), (0, 30, 60));
    check_problem(&load(&[(MODE, "many")]), &[MODE, "many", "multi-node"]);
}

#[test]
fn the_cache_is_bounded_as_it_is_written() {
    let bounds = |size: &str, age: &str| {
        let config = load(&[
            ("RUSTACCIO_CACHE_MAX_SIZE", size),
            ("RUSTACCIO_CACHE_MAX_AGE", age),
        ]);
        let days = |span: Duration| span.as_secs() / 86_400;
        let cache = config.storage.cache;
        (cache.max_size, cache.max_age.map(days))
    };
    assert_eq!(bounds("", ""), (None, None));
    assert_eq!(bounds("20gb", "4w"), (Some(20 << 30), Some(28)));
    let wrong = load(&[("RUSTACCIO_CACHE_MAX_SIZE", "large")]);
    check_problem(&wrong, &["RUSTACCIO_CACHE_MAX_SIZE", "must be a size"]);
}

#[test]
fn backends_need_their_features() {
    const CASES: [(&str, &str, &str); 9] = [
        ("RUSTACCIO_TARBALL_BACKEND", "s3", "s3"),
        ("RUSTACCIO_TARBALL_BACKEND", "gcs", "gcs"),
        ("RUSTACCIO_TARBALL_BACKEND", "azure", "azure"),
        ("RUSTACCIO_STATE_COORDINATION_BACKEND", "redis", "redis"),
        ("RUSTACCIO_STATE_COORDINATION_BACKEND", "s3", "s3"),
        ("RUSTACCIO_METADATA_BACKEND", "transactional", "postgres"),
        ("RUSTACCIO_RATE_LIMIT_BACKEND", "redis", "redis"),
        ("RUSTACCIO_QUOTA_BACKEND", "postgres", "postgres"),
        ("RUSTACCIO_OTEL_ENABLED", "true", "otel"),
    ];
    for (setting, value, feature) in CASES {
        let config = load(&[(setting, value)]);
        check_fine(&config);
        let all_but = |missing| FEATURES.map(|(name, _)| (name, name != missing));
        assert!(config.missing_features(&all_but("")).is_empty());
        let problems = config.missing_features(&all_but(feature));
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 1, "{setting}: {said:?}");
        let flag = format!("--features {feature}");
        for part in [setting, value, &flag] {
            assert!(said[0].contains(part), "{said:?}");
        }
    }
    assert!(
        load(&[])
            .missing_features(&FEATURES.map(|(name, _)| (name, false)))
            .is_empty()
    );
}

#[test]
fn buckets_are_set_in_all_ways() {
    let in_file = load_text(
        "store:\n  s3:\n    bucket: b\n    endpoint: http://s3.example/\n    accessKeyId: id\n    \
         secretAccessKey: key\n    prefix: /npm\n    forcePathStyle: false\n",
    );
    let in_environment = load(&[
        ("RUSTACCIO_S3_BUCKET", "b"),
        ("RUSTACCIO_S3_ENDPOINT", "http://s3.example"),
        ("RUSTACCIO_S3_ACCESS_KEY_ID", "id"),
        ("RUSTACCIO_S3_SECRET_ACCESS_KEY", "key"),
        ("RUSTACCIO_S3_PREFIX", "npm/"),
        ("RUSTACCIO_S3_FORCE_PATH_STYLE", "no"),
    ]);
    for config in [in_file, in_environment] {
        assert!(
            config.problems().is_empty(),
            "{}",
            config.describe_problems()
        );
        assert!(config.warnings().is_empty());
        let s3 = &config.storage.s3;
        assert_eq!((s3.bucket.as_str(), s3.prefix.as_str()), ("b", "npm/"));
        assert_eq!(s3.endpoint.as_deref(), Some("http://s3.example"));
        assert_eq!(s3.region, "us-east-1");
        assert!(!s3.force_path_style && s3.secret_access_key.is_some());
    }
    check_problem(
        &load(&[
            ("RUSTACCIO_S3_ENDPOINT", "s3.example"),
            ("RUSTACCIO_S3_PREFIX", "../x"),
        ]),
        &["RUSTACCIO_S3_ENDPOINT", "RUSTACCIO_S3_PREFIX"],
    );
}
