//! What strangers publish. READMEs are in `tests/corpus/hostile_readmes`, and made here where they are long.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use super::odd;

/// A package of somebody who wishes its readers ill.
pub(super) struct Evil {
    pub(super) name: String,
    /// What is in its package.json.
    pub(super) fields: Value,
    /// What is in its packument, where nobody checks it.
    pub(super) document: Value,
}

fn evil(name: &str, fields: Value) -> Evil {
    Evil {
        name: name.to_owned(),
        fields,
        document: json!({}),
    }
}

pub(super) fn all() -> Vec<Evil> {
    let mut all = readmes();
    all.extend(long_readmes());
    all.extend(links());
    all.extend(texts());
    all.extend(types());
    all
}

fn readmes() -> Vec<Evil> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/hostile_readmes");
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let fields = json!({
            "readme": text,
            "description": text,
            "repository": "acme/app",
        });
        let mut evil = evil(name, fields);
        evil.document = json!({ "readme": text, "description": text });
        all.push(evil);
    }
    assert!(all.len() >= 6);
    all
}

/// What `make` makes of each number below `count`.
fn many(count: usize, make: impl Fn(usize) -> String) -> String {
    (0..count).map(make).collect::<Vec<_>>().concat()
}

/// READMEs that are long, deep or wide.
fn long_readmes() -> Vec<Evil> {
    let row = |cell: &str| format!("|{}\n", format!("{cell}|").repeat(200));
    let table = format!("{}{}{}", row("head"), row("---"), row("a cell").repeat(100));
    let megabyte =
        "A paragraph of *words* with `code` and [links](https://example.com).\n\n".repeat(16_000);
    let rows = [
        ("table", table),
        (
            "word",
            format!(
                "# {}\n\n{}\n\n`{}`",
                "w".repeat(10_000),
                "w".repeat(10_000),
                "w".repeat(10_000)
            ),
        ),
        (
            "code",
            format!(
                "```js\n{}\n```\n\n    {}\n",
                "w".repeat(10_000),
                "w".repeat(10_000)
            ),
        ),
        ("megabyte", megabyte),
        (
            "lists",
            many(1000, |depth| format!("{}- a\n", " ".repeat(2 * depth))),
        ),
        ("quotes", format!("{} deep", ">".repeat(1000))),
        (
            "elements",
            format!(
                "{}deep{}",
                "<div><b>".repeat(1000),
                "</b></div>".repeat(1000)
            ),
        ),
        ("details", "<details><summary>more</summary>".repeat(1000)),
        (
            "brackets",
            format!("{}{}", "[".repeat(5000), "](x)".repeat(5000)),
        ),
        ("emphasis", "*a **b ".repeat(5000)),
        ("headings", many(5000, |at| format!("# h{at}\n\n"))),
        (
            "footnotes",
            many(2000, |at| format!("a[^{at}]\n\n[^{at}]: note\n\n")),
        ),
        (
            "combining",
            format!(
                "# a{}\n\na{}",
                "\u{0301}\u{0489}\u{035b}".repeat(300),
                "\u{0301}\u{0489}".repeat(5000)
            ),
        ),
        ("lines", "\n".repeat(500_000)),
        (
            "nul",
            "a\0b<\0script>window.evil_nul = 1</script>".to_owned(),
        ),
    ];
    rows.into_iter()
        .map(|(name, readme)| evil(name, json!({ "readme": readme })))
        .collect()
}

/// Addresses in the fields of a manifest.
fn links() -> Vec<Evil> {
    let addresses = [
        (
            "javascript",
            "javascript:window.evil_link=1//https://example.com",
        ),
        ("data", "data:text/html,<script>window.evil_link=1</script>"),
        ("vbscript", "vbscript:window.evil_link=1"),
        (
            "quotes",
            "https://example.com/\"onmouseover=\"window.evil_link=1",
        ),
        ("tabs", "java\tscript:window.evil_link=1"),
        ("password", "https://user:password@evil.example/"),
        (
            "wide",
            "https://example.com/wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww",
        ),
    ];
    let evil = |(name, url): (&str, &str)| {
        evil(
            &format!("address-{name}"),
            json!({
                "homepage": url,
                "repository": { "type": "git", "url": url, "directory": "../../.." },
                "bugs": { "url": url, "email": url },
                "author": { "name": url, "url": url, "email": url },
                "maintainers": [{ "name": url, "url": url }],
                "license": { "type": url, "url": url },
                "funding": url,
                "keywords": [url],
                "engines": { url: url },
                "dependencies": { "good": url, "../../x": "1", "javascript:alert(1)": "1", "?q=1#x": "1" },
                "readme": "[relative](../x) [absolute](/x)",
            }),
        )
    };
    addresses.into_iter().map(evil).collect()
}

/// Texts that hide something, or take too much room.
fn texts() -> Vec<Evil> {
    let texts = [
        ("override", "good\u{202e}live\u{2066}x\u{2067}y".to_owned()),
        (
            "invisible",
            "a\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{00ad}b".repeat(50),
        ),
        (
            "flood",
            format!("z{}", "\u{0301}\u{0489}\u{035b}\u{0334}".repeat(200)),
        ),
        ("unbroken", "W".repeat(10_000)),
        (
            "controls",
            "a\u{0007}\u{001b}[31mred\u{0000}\r\nb".to_owned(),
        ),
        ("arabic", "مرحبا بالعالم".repeat(20)),
        ("emoji", "👩‍👩‍👧‍👦".repeat(200)),
        (
            "tags",
            "a\u{e0061}\u{e0062}\u{e007f}b\u{fff9}c\u{fffb}".to_owned(),
        ),
    ];
    let evil = |(name, text): (&str, String)| {
        let mut evil = evil(
            &format!("text-{name}"),
            json!({
                "description": text,
                "author": text,
                "keywords": vec![text.clone(); 60],
                "license": text,
                "maintainers": [{ "name": text }],
                "engines": { "node": text, text.clone(): text },
                "deprecated": text,
                "dependencies": { "good": text, text.clone(): "1" },
                "readme": text,
            }),
        );
        evil.document = json!({ "maintainers": [{ "name": text }], "author": text, "dist-tags": { "latest": "1.0.0", text: "1.0.0" } });
        evil
    };
    texts.into_iter().map(evil).collect()
}

/// Each field of a manifest has each odd type.
fn types() -> Vec<Evil> {
    const FIELDS: [&str; 20] = [
        "description",
        "author",
        "maintainers",
        "contributors",
        "license",
        "homepage",
        "repository",
        "bugs",
        "keywords",
        "engines",
        "dependencies",
        "devDependencies",
        "peerDependencies",
        "optionalDependencies",
        "deprecated",
        "readme",
        "scripts",
        "exports",
        "types",
        "type",
    ];
    let evil = |(name, value): (&str, Value)| {
        let fields: Map<String, Value> = FIELDS
            .iter()
            .map(|field| ((*field).to_owned(), value.clone()))
            .collect();
        let mut evil = evil(&format!("type-{name}"), Value::Object(fields));
        evil.document =
            json!({ "readme": value, "maintainers": value, "author": value, "description": value });
        evil
    };
    odd().into_iter().map(evil).collect()
}
