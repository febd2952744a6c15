//! What handlers take from a request, typed; what cannot be is refused before they run.

mod base_url;
mod body;
mod caller;
mod path;
mod query;

pub(super) use base_url::{Base, PublicPrefix};
pub(super) use body::{BodyReader, Json};
pub(super) use caller::{Actor, Credentials, FullActor, User, Visitor, identify};
pub(super) use path::{FileName, Package, PathText, TagName, VersionText};
pub(super) use query::Query;
