//! [`Accounts`]: users, their tokens, and the organisations that they belong to.

mod file;
mod organisation;
mod state;

pub use file::Accounts;
pub use organisation::{OrganisationRecord, Role, TeamRecord};
pub use state::{
    AccountsError, PackageNameText, Profile, SecondFactorRecord, TokenKind, TokenRecord, UserRecord,
};
