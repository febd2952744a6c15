//! Prometheus' text format, version 0.0.4, as strictly as its servers read it.

use std::collections::{BTreeMap, BTreeSet};

/// A family of metrics.
#[derive(Debug, Default)]
pub(super) struct Family {
    pub(super) kind: String,
    pub(super) help: String,
    pub(super) samples: Vec<Sample>,
}

/// One line.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// All families of a scrape, which must be right in every respect.
#[derive(Debug)]
pub(super) struct Scrape(pub(super) BTreeMap<String, Family>);

impl Scrape {
    #[track_caller]
    pub(super) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n') && !text.contains("\n\n"), "{text}");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(is_name(name) && !help.is_empty(), "{line}");
                name.clone_into(&mut current);
                let family = Family {
                    help: help.to_owned(),
                    ..Family::default()
                };
                assert!(
                    families.insert(current.clone(), family).is_none(),
                    "twice: {line}"
                );
                continue;
            }
            let family = families.get_mut(&current).unwrap();
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, current, "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(
                    family.kind.is_empty() && family.samples.is_empty(),
                    "{line}"
                );
                kind.clone_into(&mut family.kind);
                continue;
            }
            assert!(!line.starts_with('#') && !family.kind.is_empty(), "{line}");
            let sample = sample(line);
            let of_family: &[&str] = match &*family.kind {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            let belongs = of_family
                .iter()
                .any(|end| sample.name == format!("{current}{end}"));
            assert!(belongs, "{line} in {current}");
            assert!(
                seen.insert((sample.name.clone(), sample.labels.clone())),
                "twice: {line}"
            );
            family.samples.push(sample);
        }
        for (name, family) in &families {
            match &*family.kind {
                "counter" => assert!(name.ends_with("_total"), "{name}"),
                "histogram" => family.check_histograms(name),
                _ => assert!(!name.ends_with("_total"), "{name}"),
            }
        }
        Self(families)
    }

    /// The sum of all samples of this name that have these labels.
    pub(super) fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.0.values().flat_map(|family| &family.samples);
        let has = |sample: &&Sample| {
            let mut labels = labels.iter();
            sample.name == name
                && labels.all(|(key, value)| sample.labels.get(*key).is_some_and(|it| it == value))
        };
        samples.filter(has).map(|sample| sample.value).sum()
    }

    /// The same of what is counted one by one.
    #[track_caller]
    pub(super) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        // The sum of nothing is a negative zero.
        (self.get(name, labels) + 0.0).to_string().parse().unwrap()
    }

    /// The families, and the names of lines.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let lines = self.0.values().flat_map(|family| &family.samples);
        let names = lines.map(|sample| sample.name.as_str());
        names.chain(self.0.keys().map(String::as_str)).collect()
    }
}

impl Family {
    fn check_histograms(&self, name: &str) {
        let mut buckets: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
        let mut counts = BTreeMap::new();
        for sample in &self.samples {
            let mut labels = sample.labels.clone();
            let end = labels.remove("le");
            if sample.name.ends_with("_bucket") {
                let end = number(&end.unwrap());
                buckets.entry(labels).or_default().push((end, sample.value));
            } else if sample.name.ends_with("_count") {
                counts.insert(labels, sample.value);
            }
        }
        assert_eq!(buckets.len(), counts.len(), "{name}");
        for (labels, buckets) in buckets {
            let are_sorted = buckets
                .windows(2)
                .all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
            assert!(are_sorted, "{name} {buckets:?}");
            let last = buckets.last().unwrap();
            assert!(last.0.is_infinite(), "{name} {buckets:?}");
            assert_eq!(Some(&last.1), counts.get(&labels), "{name}");
        }
    }
}

#[track_caller]
fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(after) = rest.strip_prefix('{') {
        rest = after;
        loop {
            let (key, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(key) && !key.contains(':'), "{line}");
            let (value, after) = value(after);
            assert!(
                labels.insert(key.to_owned(), value).is_none(),
                "twice: {line}"
            );
            if let Some(after) = after.strip_prefix('}') {
                rest = after;
                break;
            }
            rest = after.strip_prefix(',').unwrap();
        }
    }
    let value = rest.strip_prefix(' ').unwrap();
    assert!(!value.contains(' '), "{line}");
    Sample {
        name: name.to_owned(),
        labels,
        value: number(value),
    }
}

/// The text up to the next quote, and what comes after that.
fn value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match characters.next().unwrap().1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                other => panic!("\\{other} in {text}"),
            }),
            other => value.push(other),
        }
    }
    panic!("no end: {text}");
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        text => text.parse().unwrap(),
    }
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
    !text.is_empty() && text.chars().all(is_part) && !text.starts_with(|c: char| c.is_ascii_digit())
}
