//! `/-/web/cached`: the packages of upstream that this node has in its cache.

use askama::Template;
use axum::response::Response;

use super::{
    text::moment,
    visit::{Shell, Visit},
};
use crate::{
    error::RegistryError,
    models::Timestamp,
    registry::{Behind, CachedRow},
    web::extract::Query,
};

/// Packages on a page.
const PAGE: usize = 50;

#[derive(Template)]
#[template(path = "cached.html")]
struct Page<'a> {
    shell: &'a Shell,
    rows: Vec<Row>,
    /// Where the next page is.
    more: Option<String>,
    /// When somebody looked; `None` while the first look goes on.
    at: Option<String>,
    others: usize,
    is_cut: bool,
    is_shared: bool,
    is_first: bool,
}

struct Row {
    name: String,
    uplink: String,
    used: Moment,
    fetched_at: Option<Moment>,
    tarballs: u32,
}

/// A time, for programs and for people.
struct Moment {
    time: Timestamp,
    text: String,
}

impl Moment {
    fn of(time: Timestamp) -> Self {
        let text = moment(time);
        Self { time, text }
    }
}

impl Row {
    fn of(row: CachedRow) -> Self {
        let package = row.package;
        Self {
            name: package.name.to_string(),
            uplink: package.uplink.to_string(),
            used: Moment::of(package.used),
            fetched_at: row.fetched_at.map(Moment::of),
            tarballs: package.tarballs,
        }
    }
}

/// `GET /-/web/cached?behind=…`
pub(in crate::web) async fn cached(visit: Visit, query: Query) -> Response {
    let page = page(&visit, query.get("behind")).await;
    visit.answer(page)
}

async fn page<'v>(visit: &'v Visit, behind: Option<&str>) -> Result<Page<'v>, RegistryError> {
    let behind = behind.map(parse).transpose()?;
    let registry = &visit.state.registry;
    let found = registry.cached_packages(&visit.caller, behind.as_ref(), PAGE);
    let found = found.await?;
    let shell = &visit.shell;
    let more = found.more.map(|last| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let place = format!("{}.{}", last.used.unix_millis(), last.name);
        query.append_pair("behind", &place);
        format!("{}/-/web/cached?{}", shell.prefix, query.finish())
    });
    Ok(Page {
        shell,
        rows: found.rows.into_iter().map(Row::of).collect(),
        more,
        at: found.at.map(moment),
        others: found.others,
        is_cut: found.is_cut,
        is_shared: found.is_shared,
        is_first: behind.is_none(),
    })
}

/// `1767323045678.@scope/name`
fn parse(text: &str) -> Result<Behind, RegistryError> {
    let parsed = text.split_once('.').and_then(|(used, name)| {
        Some(Behind {
            used: Timestamp::from_unix_millis(used.parse().ok()?),
            name: name.parse().ok()?,
        })
    });
    parsed.ok_or_else(|| RegistryError::bad_request("there is no such page"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_list_is_a_time_and_a_name() {
        let behind = parse("1000.@s/a.b").unwrap();
        assert_eq!(behind.used, Timestamp::from_unix_millis(1000));
        assert_eq!(behind.name.as_str(), "@s/a.b");
        for text in ["", "1", "x.a", "1.", "1.../a"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
