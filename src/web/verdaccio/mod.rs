//! `/-/verdaccio/…`: what Verdaccio's own pages read and send, so that scripts and themes that use it go on working.
//! Who may do what is decided by the same use cases as for clients.

mod accounts;
mod data;
mod only_json;
mod shapes;

pub(super) use accounts::{LOGIN, change_password, sign_in, sign_up};
pub(super) use data::{packages, readme, readme_of_version, search, sidebar};
