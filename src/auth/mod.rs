//! Floor 4: who is calling, and how callers come to have accounts and tokens.

mod cidr;
mod company_service;
mod credentials;
mod enrolment;
mod hashes;
mod hook;
mod http_plugin;
mod kept_outside;
mod known;
mod local;
mod new_hash;
mod new_token;
mod outside;
mod passwords;
mod resolver;
mod second_factor;
mod sessions;
mod throttle;
mod tokens;
mod verdaccio_tokens;
mod web_login;

pub use company_service::CompanyService;
pub use credentials::{Credentials, MalformedCredentials};
pub use enrolment::{SecondFactorAnswer, SecondFactorChange};
pub use hook::AuthHook;
pub use http_plugin::HttpPlugin;
pub use local::{Auth, AuthOptions, LoggedIn, TokenRequest};
pub use outside::{Outside, Sender};
pub use resolver::{Authentication, CredentialProblem, Presented};
pub(crate) use second_factor::SEED_SEAL;
pub use second_factor::SecondFactors;
pub use sessions::{SessionIds, SessionView};
pub use verdaccio_tokens::{VerdaccioTokens, fuzz as fuzz_verdaccio_token};
pub use web_login::Approval;
