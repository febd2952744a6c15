//! [`Accounts`]: users and their tokens.

mod file;
mod state;

pub use file::Accounts;
pub use state::{AccountsError, PackageNameText, Profile, TokenKind, TokenRecord, UserRecord};
