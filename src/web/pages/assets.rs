//! What pages load besides themselves: a stylesheet and a few modules, each at an address that names its content, so
//! that browsers keep it for ever.

use std::sync::LazyLock;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderValue, header};
use sha2::Digest as _;

use crate::{
    error::RegistryError,
    web::{error::Error, extract::PathText, state::WebState},
};

const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// Digits of the digest in an address.
const DIGITS: usize = 12;

/// A file of ours.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const ASSETS: [Asset; 3] = [
    Asset {
        name: "style.css",
        content_type: CSS,
        content: include_str!("../../../static/style.css"),
    },
    Asset {
        name: "page.js",
        content_type: JS,
        content: include_str!("../../../static/page.js"),
    },
    Asset {
        name: "icon.svg",
        content_type: SVG,
        content: include_str!("../../../static/icon.svg"),
    },
];

/// `style.<digest>.css`, for each of them.
static NAMES: LazyLock<[String; ASSETS.len()]> = LazyLock::new(|| {
    std::array::from_fn(|at| {
        let Asset { name, content, .. } = &ASSETS[at];
        let digest = hex::encode(sha2::Sha256::digest(content));
        let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
        format!("{stem}.{}.{extension}", &digest[..DIGITS])
    })
});

/// The file name under which `name` is served; itself, where it is none of ours.
pub(super) fn address_of(name: &'static str) -> &'static str {
    let found = ASSETS.iter().position(|asset| asset.name == name);
    found.and_then(|at| NAMES.get(at)).map_or(name, |name| name)
}

/// `GET /-/web/static/:file`
pub(in crate::web) async fn asset(
    State(state): State<WebState>,
    PathText(file): PathText,
) -> Result<Response, Error> {
    if !state.settings.has_pages {
        return Err(RegistryError::not_found("not found").into());
    }
    let mut all = ASSETS.iter().zip(&*NAMES);
    let found = all.find(|(_, name)| **name == file);
    let (asset, _) = found.ok_or_else(|| RegistryError::not_found("not found"))?;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static(asset.content_type),
        ),
        (header::CACHE_CONTROL, FOREVER),
    ];
    Ok((headers, Bytes::from_static(asset.content.as_bytes())).into_response())
}
