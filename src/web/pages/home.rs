//! `/` and `/-/web`: what was published here, newest first, or what a search finds.

use askama::Template;
use axum::response::Response;
use serde_json::Value;

use super::{
    text::{line, person},
    visit::{Shell, Visit},
};
use crate::{error::RegistryError, models::Timestamp, search::Window, web::extract::Query};

/// Packages on a page.
const PAGE: usize = 50;
const MAX_DESCRIPTION: usize = 240;

/// `GET /` and `GET /-/web?q=…&from=…`
pub(in crate::web) async fn home(visit: Visit, query: Query) -> Response {
    let page = page(&visit, &query).await;
    visit.answer(page)
}

async fn page<'v>(visit: &'v Visit, query: &Query) -> Result<Home<'v>, RegistryError> {
    let text = query.get("q").map(str::trim).unwrap_or_default();
    let from = query.get("from").and_then(|from| from.parse().ok());
    let from: usize = from.unwrap_or(0);
    let window = Window { from, size: PAGE };
    let registry = &visit.state.registry;
    let (rows, total) = if text.is_empty() {
        let found = registry.newest(&visit.caller, window).await?;
        let rows = found
            .hits
            .iter()
            .map(|hit| Row::of(&hit.to_json()))
            .collect();
        (rows, found.total)
    } else {
        let found = registry.search(&visit.caller, text, window).await?;
        let rows: Vec<Row> = found.objects.iter().map(Row::of).collect();
        (rows, found.total)
    };
    let next = from.saturating_add(PAGE);
    let more = (total > next).then(|| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("q", text)
            .append_pair("from", &next.to_string());
        format!("{}/-/web?{}", visit.shell.prefix, query.finish())
    });
    Ok(Home {
        shell: &visit.shell,
        query: text.to_owned(),
        rows,
        total,
        more,
        commands: commands(&visit.shell.registry),
    })
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    shell: &'a Shell,
    query: String,
    rows: Vec<Row>,
    total: usize,
    /// Where the next page is.
    more: Option<String>,
    commands: [(&'static str, String); 4],
}

/// A package in a list.
struct Row {
    name: String,
    version: String,
    description: String,
    date: Option<Timestamp>,
    author: String,
    is_deprecated: bool,
    is_hosted: bool,
}

impl Row {
    /// From an object of `/-/v1/search`.
    fn of(object: &Value) -> Self {
        let package = &object["package"];
        let text = |key: &str, most| line(package[key].as_str().unwrap_or_default(), most);
        let mut author = person(&package["author"]);
        if author.is_empty() {
            author = person(&package["publisher"]);
        }
        Self {
            name: text("name", 214),
            version: text("version", 60),
            description: text("description", MAX_DESCRIPTION),
            date: package["date"].as_str().and_then(Timestamp::parse_rfc3339),
            author,
            is_deprecated: object["flags"]["deprecated"].is_string(),
            is_hosted: object["verdaccioPrivate"] == true,
        }
    }
}

/// How each client is told of this registry.
fn commands(registry: &str) -> [(&'static str, String); 4] {
    [
        (
            "npm",
            format!("npm config set registry {registry}\nnpm publish"),
        ),
        (
            "pnpm",
            format!("pnpm config set registry {registry}\npnpm publish"),
        ),
        (
            "Yarn",
            format!("yarn config set npmRegistryServer {registry}\nyarn npm publish"),
        ),
        (
            "Bun",
            format!(
                "printf '[install]\\nregistry = \"{registry}\"\\n' >> bunfig.toml\nbun publish"
            ),
        ),
    ]
}
