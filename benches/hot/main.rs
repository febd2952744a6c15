//! Benchmarks of what requests spend their time in: `cargo bench`, or `cargo bench -- render` for
//! some. What whole requests cost beside other servers, `./scripts/bench` measures.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark ends where something is not as it should be"
)]

mod samples;

use std::{hint::black_box, io};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use rustaccio::{
    config::{PackageRule, PackagesConfig},
    models::{
        AuthIdentity, BaseUrl, ContentCoding, Origin, PackageName, Principal, Right, Tag,
        Timestamp, Version,
    },
    policy::Rules,
    registry::{
        self,
        packument::{Form, Hosted, Ours, Packument, View, merge, render},
        publish::{
            body::PublishBody,
            intent::{Route, classify},
            scanner::{AttachmentSink, ScanLimits, ScannedBody, Scanner},
        },
    },
    web,
};

const NAME: &str = "library";
/// Versions of the packuments: what is small, common, and the largest that upstream has.
const SIZES: [usize; 3] = [10, 300, 3000];
/// Bytes of the tarballs that are published.
const TARBALLS: [usize; 2] = [10_000, 1_000_000];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    names(&mut criterion);
    paths(&mut criterion);
    rules(&mut criterion);
    documents(&mut criterion);
    edits(&mut criterion);
    renderings(&mut criterion);
    compression(&mut criterion);
    publishes(&mut criterion);
    criterion.final_summary();
}

fn name() -> PackageName {
    NAME.parse().unwrap()
}

fn bytes(length: usize) -> Throughput {
    Throughput::Bytes(length as u64)
}

fn names(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("package name parse");
    for text in ["lodash", "@babel/plugin-transform-runtime"] {
        group.bench_with_input(BenchmarkId::from_parameter(text), text, |bencher, text| {
            bencher.iter(|| black_box(text).parse::<PackageName>());
        });
    }
    group.finish();
}

fn paths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("path canonical form");
    for path in [
        "/lodash",
        "/@babel%2fcore",
        "/@babel/core/-/core-7.26.0.tgz",
    ] {
        group.bench_with_input(BenchmarkId::from_parameter(path), path, |bencher, path| {
            bencher.iter(|| web::bench::canonical_path(black_box(path)));
        });
    }
    group.finish();
}

/// The decision where the last of some rules matches, as in a company with a few scopes.
fn rules(criterion: &mut Criterion) {
    let rule = |pattern: &str, readers: Principal| PackageRule {
        pattern: pattern.to_owned(),
        access: vec![readers],
        publish: vec![Principal::Authenticated],
        unpublish: vec![Principal::Authenticated],
        proxy: Vec::new(),
        merge: None,
        storage: None,
    };
    let team = || Principal::Named("team".to_owned());
    let config = PackagesConfig {
        rules: vec![
            rule("@company/*", team()),
            rule("@{board,legal}/**", team()),
            rule("internal-*", team()),
            rule("@*/*", Principal::All),
            rule("**", Principal::All),
        ],
    };
    let rules = Rules::compile(&config).unwrap();
    let identity = AuthIdentity {
        username: Some("user".to_owned()),
        groups: vec!["other".to_owned(), "team".to_owned()],
    };
    let mut group = criterion.benchmark_group("rule decision");
    for text in ["@company/app", "@babel/core", "lodash"] {
        let name: PackageName = text.parse().unwrap();
        group.bench_with_input(BenchmarkId::from_parameter(text), &name, |bencher, name| {
            bencher.iter(|| rules.allow(Some(&identity), Right::Access, black_box(name)));
        });
    }
    group.finish();
}

fn documents(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packument shell parse");
    for count in SIZES {
        let json = samples::packument(NAME, count);
        group.throughput(bytes(json.len()));
        group.bench_with_input(
            BenchmarkId::from_parameter(count),
            &json,
            |bencher, json| {
                bencher.iter(|| Packument::parse(black_box(json)));
            },
        );
    }
    group.finish();

    let mut group = criterion.benchmark_group("packument merge");
    let ours = Packument::parse(&samples::packument(NAME, 3)).unwrap();
    for count in SIZES {
        let upstream = Packument::parse(&samples::packument(NAME, count)).unwrap();
        group.bench_with_input(
            BenchmarkId::from_parameter(count),
            &upstream,
            |bencher, upstream| {
                bencher.iter(|| merge(black_box(&ours), upstream));
            },
        );
    }
    group.finish();
}

/// What a publish does with the manifest that is there: it is read, gets a version, is written.
fn edits(criterion: &mut Criterion) {
    let now = Timestamp::from_unix_millis(1_750_000_000_000);
    let version: Version = "99.0.0".parse().unwrap();
    let file = format!("{NAME}-99.0.0.tgz").parse().unwrap();
    let mut group = criterion.benchmark_group("manifest edit");
    for count in SIZES {
        let packument = Packument::parse(&samples::packument(NAME, count)).unwrap();
        let manifest = packument.version("0.0.1").unwrap().clone();
        let mut hosted = Hosted::new(&name(), Origin::Local, now);
        for (text, raw) in packument.versions() {
            let file = format!("{NAME}-{text}.tgz").parse().unwrap();
            let version: Version = text.parse().unwrap();
            hosted.add_version(&version, &file, raw.clone(), &[], now);
        }
        let stored = hosted.to_json();
        group.throughput(bytes(stored.len()));
        group.bench_with_input(
            BenchmarkId::from_parameter(count),
            &stored,
            |bencher, stored| {
                bencher.iter(|| {
                    let mut hosted = Hosted::parse(black_box(stored)).unwrap();
                    hosted.add_version(&version, &file, manifest.clone(), &[Tag::latest()], now);
                    hosted.to_json()
                });
            },
        );
    }
    group.finish();
}

fn renderings(criterion: &mut Criterion) {
    let base: BaseUrl = "https://npm.example.org/registry".parse().unwrap();
    for (form, title) in [
        (Form::Full, "packument render full"),
        (Form::Abbreviated, "packument render abbreviated"),
    ] {
        let mut group = criterion.benchmark_group(title);
        for count in SIZES {
            let json = samples::packument(NAME, count);
            let packument = Packument::parse(&json).unwrap();
            let name = name();
            let view = View {
                name: &name,
                base: &base,
                signing: None,
                ours: &Ours::None,
            };
            group.throughput(bytes(json.len()));
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter(|| render(black_box(&packument), form, view));
            });
        }
        group.finish();
    }
}

fn compression(criterion: &mut Criterion) {
    let codings = [
        ContentCoding::Gzip,
        ContentCoding::Brotli,
        ContentCoding::Zstd,
    ];
    let efforts = [("for one", false), ("for many", true)];
    let kinds = codings
        .iter()
        .flat_map(|coding| efforts.map(|effort| (*coding, effort)));
    for (coding, (effort, is_for_many)) in kinds {
        let title = format!("compress {} {effort}", coding.token().unwrap_or_default());
        let mut group = criterion.benchmark_group(title);
        group.sample_size(10);
        for count in SIZES {
            let body = samples::packument(NAME, count);
            group.throughput(bytes(body.len()));
            group.bench_with_input(
                BenchmarkId::from_parameter(count),
                &body,
                |bencher, body| {
                    bencher
                        .iter(|| registry::bench::compress(black_box(body), coding, is_for_many));
                },
            );
        }
        group.finish();
    }
}

/// Where the tarball goes: nowhere.
struct Nowhere;

impl AttachmentSink for Nowhere {
    fn begin(&mut self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        black_box(bytes);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes a body apart that arrives in pieces of the size in which sockets are read.
fn scan(body: &Bytes) -> ScannedBody {
    let mut scanner = Scanner::new(ScanLimits::default());
    for piece in body.chunks(64 * 1024) {
        scanner.feed(piece, &mut Nowhere).unwrap();
    }
    scanner.finish().unwrap()
}

fn publishes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish body scan");
    for length in TARBALLS {
        let body = samples::publish_body(NAME, length);
        group.throughput(bytes(body.len()));
        group.bench_with_input(
            BenchmarkId::from_parameter(length),
            &body,
            |bencher, body| bencher.iter(|| scan(black_box(body))),
        );
    }
    group.finish();

    let scanned = scan(&samples::publish_body(NAME, 10_000));
    let mut group = criterion.benchmark_group("publish body parse");
    group.bench_function("parse", |bencher| {
        bencher.iter(|| PublishBody::parse(black_box(&scanned)));
    });
    let name = name();
    group.bench_function("classify", |bencher| {
        bencher.iter_batched(
            || PublishBody::parse(&scanned).unwrap(),
            |body| classify(&name, Route::Plain, body),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}
