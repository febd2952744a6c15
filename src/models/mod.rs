//! Floor 0: plain types with their invariants. No I/O, no async, no HTTP framework.

mod action;
mod base_url;
mod content_coding;
mod identity;
mod integrity;
mod origin;
mod package_name;
mod principal;
mod restrictions;
mod revision;
mod second_factor;
mod tag;
mod tarball_name;
mod team;
mod time;
mod uplink_name;
mod username;
mod version;

pub use action::Action;
pub use base_url::{BaseUrl, InvalidBaseUrl};
pub use content_coding::ContentCoding;
pub use identity::{AuthIdentity, Caller, TokenLimits};
pub use integrity::{Algorithm, Digest, Integrity, InvalidIntegrity, Verifier};
pub use origin::Origin;
pub use package_name::{InvalidPackageName, PackageName};
pub use principal::Principal;
pub use restrictions::{Permission, Restrictions, Visibility};
pub use revision::Revision;
pub use second_factor::{Proof, SecondFactor, SecondFactorMode, ShownPass};
pub use tag::{InvalidTag, Tag};
pub use tarball_name::{InvalidTarballName, TarballName};
pub use team::{InvalidTeam, Organisation, Team};
pub use time::{Timestamp, http_date, parse_http_date};
pub use uplink_name::{InvalidUplinkName, UplinkName};
pub use username::{InvalidUsername, Username};
pub use version::{InvalidVersion, Version, VersionKey, without_build};
