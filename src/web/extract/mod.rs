//! What handlers take from a request, typed; what cannot be is refused before they run.

mod base_url;
mod body;
mod caller;
mod forwarded;
mod path;
mod query;

pub(super) use base_url::{Base, Bases, PublicPrefix, base_of};
pub(super) use body::{BodyReader, Json, small_body};
pub(super) use caller::{
    Actor, Credentials, FullActor, User, Visitor, identify, one_time_pass, unidentified,
    unless_hidden,
};
pub(super) use path::{
    Agent, FileName, OrganisationName, Package, PathText, TagName, TeamName, VersionText,
};
pub(super) use query::Query;
