//! Floor 4: who is calling, and how callers come to have accounts and tokens.

mod cidr;
mod credentials;
mod hook;
mod local;
mod passwords;
mod resolver;
mod throttle;
mod tokens;

pub use credentials::{Credentials, MalformedCredentials};
pub use hook::AuthHook;
pub use local::{Auth, AuthOptions, LoggedIn, TokenRequest};
pub use resolver::{Authentication, CredentialProblem};
