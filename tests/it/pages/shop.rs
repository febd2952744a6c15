//! A registry with packages as teams have them.

use serde_json::{Value, json};

use crate::support::{Package, Registry, User, registry::Start};

/// Who may see what.
const FILE: &str = "packages:
  '@secret/*': { access: $authenticated, publish: $authenticated }
  '**': { access: $all, publish: $authenticated, unpublish: $authenticated }
";
/// What only those who are signed in may see.
pub(super) const HIDDEN: &str = "@secret/plans";
pub(super) const MAIN: &str = "@acme/colours";

const NAMES: &[(&str, &str)] = &[
    (
        "router",
        "Routes requests to handlers, with typed parameters",
    ),
    (
        "logger",
        "Structured logs with levels, in JSON or for people",
    ),
    ("queue", "Jobs in the background, with retries and backoff"),
    (
        "settings",
        "Reads settings from files and the environment, and checks them",
    ),
    ("errors", "Errors that say what to do next"),
    ("dates", "Dates and times in all zones, without surprises"),
    ("forms", "Forms with validation, for every framework"),
    (
        "tables",
        "Tables that sort, filter and scroll a million rows",
    ),
    ("icons", "Our icons as components"),
    ("i18n", "Messages in many languages, with plurals"),
    ("http-client", "Asks other services, and gives up in time"),
    ("cache", "Keeps what was asked before, in memory or Redis"),
    ("auth", "Signs people in with our identity provider"),
    ("feature-flags", "Turns features on for some"),
    ("metrics", "Counts and times what happens"),
    ("database", "Queries with types that are right"),
    ("mailer", "Sends mail from templates"),
    ("test-kit", "What our tests share"),
    ("eslint-config", "Rules for our code"),
    ("tsconfig", "Settings for TypeScript"),
    ("build", "Builds and bundles our applications"),
    ("cli", "The command line of our platform"),
    ("markdown", "Markdown as safe HTML"),
    ("charts", "Charts that are readable"),
    ("maps", "Maps with our layers"),
];

const README: &str = r#"# Colours

Names, contrast and palettes for everything that we draw. `@acme/colours` knows the
[contrast](https://www.w3.org/TR/WCAG22/#contrast-minimum) of each pair, and refuses those that nobody can read.

> [!NOTE]
> Palettes are made once, when they are first asked for.

## Install and use

```ts
import { palette, contrast } from "@acme/colours";

// The accent of our brand, on paper.
const accent = palette("brand").accent;
if (contrast(accent, "white") < 4.5) {
  throw new Error(`nobody can read ${accent}`);
}
```

## What there is

| function | does | since |
|---|---|---|
| `palette(name)` | a palette by its name | 1.0.0 |
| `contrast(a, b)` | how well `a` can be read on `b`, from 1 to 21 | 1.0.0 |
| `nearest(colour)` | the nearest colour that has a name | 2.0.0 |

- [x] sRGB and Display P3
- [ ] CMYK

See [how to contribute](CONTRIBUTING.md), and [what there is](#what-there-is).
"#;

/// Somebody who publishes.
async fn publish(
    registry: &Registry,
    user: &User,
    package: (&str, &str),
    fields: Value,
    tag: &str,
) {
    let (name, version) = package;
    let package = Package::with(name, version, &fields, &[("index.js", b"// nothing\n")]);
    let done = registry.publish_as(user, &package, tag).await;
    done.assert(201);
}

fn colours(version: &str) -> Value {
    let mut fields = json!({
        "description": "Names, contrast and palettes for everything that we draw",
        "author": { "name": "Grace Hopper", "email": "grace@acme.example", "url": "https://acme.example" },
        "license": "MIT",
        "homepage": "https://acme.example/colours",
        "repository": { "type": "git", "url": "git+https://github.com/acme/colours.git" },
        "bugs": { "url": "https://github.com/acme/colours/issues" },
        "keywords": ["colour", "contrast", "palette"],
        "engines": { "node": ">=20" },
        "type": "module",
        "types": "index.d.ts",
        "dependencies": { "@acme/errors": "^1.0.0", "culori": "^4.0.1" },
        "peerDependencies": { "react": ">=18" },
        "devDependencies": { "@acme/test-kit": "^1.0.0", "typescript": "^5.9.0" },
        "readme": README,
    });
    if version == "0.9.0" {
        fields["scripts"] = json!({ "postinstall": "node build.js" });
    }
    fields
}

/// A registry with more packages than a page shows; alice has published them.
pub(super) async fn open(variables: &[(&str, &str)]) -> Registry {
    let variables = variables
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    let registry = Registry::with(Start {
        variables: variables.collect(),
        file: FILE,
        ..Start::default()
    })
    .await;
    let alice = registry.user("alice").await;
    for (scope, ending, version) in [("", "-of-old", "0.1.0"), ("@acme/", "", "1.4.2")] {
        for (name, description) in NAMES {
            let name = format!("{scope}{name}{ending}");
            let fields =
                json!({ "description": description, "author": "Ada Lovelace <ada@acme.example>" });
            publish(&registry, &alice, (&name, version), fields, "latest").await;
        }
    }
    publish(
        &registry,
        &alice,
        (HIDDEN, "1.0.0"),
        json!({ "description": "Not for everybody" }),
        "latest",
    )
    .await;
    let needs =
        json!({ "description": "Draws with our colours", "dependencies": { MAIN: "^1.0.0" } });
    publish(&registry, &alice, ("@acme/paint", "3.1.0"), needs, "latest").await;
    for version in ["0.9.0", "1.0.0", "1.1.0"] {
        publish(
            &registry,
            &alice,
            (MAIN, version),
            colours(version),
            "latest",
        )
        .await;
    }
    publish(
        &registry,
        &alice,
        (MAIN, "2.0.0-beta.1"),
        colours("2.0.0-beta.1"),
        "beta",
    )
    .await;
    let mut document = registry.get("/@acme%2fcolours").await.assert(200).json();
    document["versions"]["0.9.0"]["deprecated"] =
        json!("use 1.0.0: this one computes contrast wrongly");
    registry
        .put(&alice, "/@acme%2fcolours", &document)
        .await
        .assert(201);
    registry
}
