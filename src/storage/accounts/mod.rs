//! [`Accounts`]: users, their tokens and logins, and the organisations that they belong to.

mod file;
mod organisation;
mod session;
mod state;

pub use file::Accounts;
pub use organisation::{OrganisationRecord, Role, TeamRecord};
pub use session::{LoginSession, SessionPurpose, SessionState};
pub use state::{
    AccountsError, PackageNameText, Profile, SecondFactorRecord, TokenKind, TokenRecord, UserRecord,
};
