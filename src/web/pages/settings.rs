//! `/-/web/settings`: what a user changes about her account: her password, her tokens, her second factor.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use qrcode::{QrCode, render::svg};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{
    text::line,
    visit::{Sent, Shell, Visit},
};
use crate::{
    auth::{SecondFactorAnswer, SecondFactorChange, Sender, TokenRequest, token_created},
    error::RegistryError,
    events::Event,
    models::{PackageName, SecondFactorMode, Username},
    policy::require_no_limits,
    storage::TokenRecord,
};

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Template)]
#[template(path = "settings.html")]
struct Page<'a> {
    shell: &'a Shell,
    user: String,
    tokens: Vec<Row>,
    /// What it protects, where she has a second factor.
    second_factor: Option<SecondFactorMode>,
    news: News,
}

/// What has come of a form.
#[derive(Default)]
struct News {
    problem: Option<String>,
    done: bool,
    /// A token that is shown this once.
    token: Option<String>,
    /// The address that authenticator apps read, and its picture.
    seed: Option<Seed>,
    recovery_codes: Vec<String>,
}

struct Seed {
    address: String,
    secret: String,
    /// An image as a `data:` address.
    picture: String,
}

/// A token in the list.
struct Row {
    key: String,
    prefix: String,
    name: String,
    limits: Vec<String>,
    readonly: bool,
    created: String,
    expires: Option<String>,
}

impl Row {
    fn of(record: &Arc<TokenRecord>) -> Self {
        let packages = record.packages.iter().map(|name| name.0.to_string());
        let networks = record.cidr.iter().map(ToString::to_string);
        let limits = packages
            .chain(record.scopes.iter().cloned())
            .chain(networks);
        Self {
            key: record.key.clone(),
            prefix: record.prefix.clone(),
            name: line(record.name.as_deref().unwrap_or_default(), 60),
            limits: limits.map(|limit| line(&limit, 214)).collect(),
            readonly: record.readonly,
            created: record.created.day().to_string(),
            expires: record.expires.map(|time| time.day().to_string()),
        }
    }
}

/// The user whose account it is, if the browser may change it.
fn owner(visit: &Visit) -> Result<Username, RegistryError> {
    if !visit.state.settings.has_page_logins {
        return Err(RegistryError::not_found("not found"));
    }
    let name = visit.caller.username();
    let name = name.ok_or_else(|| RegistryError::unauthorized("You must be logged in"))?;
    require_no_limits(&visit.caller)?;
    Ok(name)
}

/// The user whose account a form changes: as with a client, her second factor is asked for.
async fn changer(visit: &Visit) -> Result<Username, RegistryError> {
    let name = owner(visit)?;
    let second_factors = visit.state.auth.second_factors();
    second_factors.require_for_account(&visit.caller).await?;
    Ok(name)
}

/// `GET /-/web/settings`
pub(in crate::web) async fn settings(visit: Visit) -> Response {
    if visit.caller.is_anonymous() && visit.state.settings.has_page_logins {
        return visit.go_to(&visit.shell.sign_in());
    }
    show(&visit, News::default(), StatusCode::OK).await
}

async fn show(visit: &Visit, news: News, status: StatusCode) -> Response {
    match page(visit, news).await {
        Ok(page) => visit.render(status, &page),
        Err(error) => visit.refuse(&error),
    }
}

async fn page(visit: &Visit, news: News) -> Result<Page<'_>, RegistryError> {
    let name = owner(visit)?;
    let tokens = visit.state.auth.tokens(&name).await?;
    let user = visit.state.auth.user(&name).await?;
    let factor = user.as_ref().and_then(|user| user.second_factor.as_ref());
    Ok(Page {
        shell: &visit.shell,
        user: name.to_string(),
        tokens: tokens.iter().rev().map(Row::of).collect(),
        second_factor: factor
            .filter(|factor| !factor.pending)
            .map(|factor| factor.mode),
        news,
    })
}

/// Shows the page again, with what has come of a form.
async fn after(visit: &Visit, done: Result<News, RegistryError>) -> Response {
    match done {
        Ok(news) => show(visit, News { done: true, ..news }, StatusCode::OK).await,
        Err(error) if error.status().is_server_error() => visit.refuse(&error),
        Err(error) => {
            let news = News {
                problem: Some(error.to_string()),
                ..News::default()
            };
            show(visit, news, error.status()).await
        }
    }
}

#[derive(Deserialize)]
pub(in crate::web) struct Password {
    old: SecretString,
    new: SecretString,
}

/// `POST /-/web/settings/password`. All logins end, this one too.
pub(in crate::web) async fn change_password(Sent(visit, form): Sent<Password>) -> Response {
    let work = async {
        let (form, user) = (form?, changer(&visit).await?);
        let sender = Sender::from(&visit.caller);
        let changed = visit
            .state
            .auth
            .change_password(&user, &form.old, &form.new, &sender);
        changed.await?;
        let user = user.to_string();
        visit
            .state
            .events
            .tell(&visit.caller, None, &Event::PasswordChanged { user });
        Ok::<_, RegistryError>(())
    };
    match work.await {
        Ok(()) => visit.go_to(&format!("{}/-/web/login", visit.shell.prefix)),
        Err(error) => after(&visit, Err(error)).await,
    }
}

#[derive(Deserialize)]
pub(in crate::web) struct NewToken {
    password: SecretString,
    #[serde(default)]
    name: String,
    #[serde(default)]
    readonly: Option<String>,
    #[serde(default)]
    days: String,
    #[serde(default)]
    networks: String,
    #[serde(default)]
    packages: String,
}

impl NewToken {
    fn request(&self) -> Result<TokenRequest, RegistryError> {
        let words = |text: &str| -> Vec<String> {
            let words = text.split([',', ' ', '\n', '\r', '\t']);
            words
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let days = self.days.trim();
        let lifetime = match days.parse::<u32>() {
            Ok(days) if days > 0 => Some(DAY * days),
            _ if days.is_empty() => None,
            _ => {
                return Err(RegistryError::bad_request(
                    "the number of days is not valid",
                ));
            }
        };
        let (mut packages, mut scopes) = (Vec::new(), Vec::new());
        for word in words(&self.packages) {
            if word.starts_with('@') && !word.contains('/') {
                scopes.push(word);
            } else {
                let name = word.parse::<PackageName>();
                packages.push(name.map_err(|error| RegistryError::bad_request(error.to_string()))?);
            }
        }
        Ok(TokenRequest {
            name: Some(line(&self.name, 100)).filter(|name| !name.is_empty()),
            readonly: self.readonly.is_some(),
            bypass_second_factor: false,
            cidr: words(&self.networks),
            lifetime,
            packages,
            scopes,
        })
    }
}

/// `POST /-/web/settings/tokens`
pub(in crate::web) async fn create_token(Sent(visit, form): Sent<NewToken>) -> Response {
    let work = async {
        let (form, user) = (form?, changer(&visit).await?);
        let (auth, sender) = (&visit.state.auth, Sender::from(&visit.caller));
        let request = form.request()?;
        let (token, record) = auth
            .create_token(&user, &form.password, request, &sender)
            .await?;
        visit
            .state
            .events
            .tell(&visit.caller, None, &token_created(&record));
        Ok(News {
            token: Some(token.expose_secret().to_owned()),
            ..News::default()
        })
    };
    let done = work.await;
    after(&visit, done).await
}

#[derive(Deserialize)]
pub(in crate::web) struct Revoked {
    key: String,
}

/// `POST /-/web/settings/tokens/revoke`
pub(in crate::web) async fn revoke_token(Sent(visit, form): Sent<Revoked>) -> Response {
    let work = async {
        let (form, user) = (form?, changer(&visit).await?);
        let tokens = visit.state.auth.tokens(&user).await?;
        let found = tokens.iter().find(|record| record.key == form.key);
        if visit.state.auth.revoke(&user, &form.key).await?
            && let Some(record) = found
        {
            let event = Event::TokenRevoked {
                user: user.to_string(),
                token: record.prefix.clone(),
            };
            visit.state.events.tell(&visit.caller, None, &event);
        }
        Ok::<_, RegistryError>(News::default())
    };
    let done = work.await;
    after(&visit, done).await
}

#[derive(Deserialize)]
pub(in crate::web) struct SecondFactor {
    change: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    password: Option<SecretString>,
    #[serde(default)]
    code: String,
}

/// `POST /-/web/settings/second-factor`
pub(in crate::web) async fn change_second_factor(
    Sent(visit, form): Sent<SecondFactor>,
) -> Response {
    let work = async {
        let (form, user) = (form?, changer(&visit).await?);
        let password = form.password.unwrap_or_default();
        let mode = match form.mode.as_str() {
            "auth-only" => SecondFactorMode::AuthOnly,
            _ => SecondFactorMode::AuthAndWrites,
        };
        let change = match form.change.as_str() {
            "enable" => SecondFactorChange::Enable { mode, password },
            "confirm" => SecondFactorChange::Confirm {
                code: form.code.trim().to_owned(),
            },
            "disable" => SecondFactorChange::Disable { password },
            _ => return Err(RegistryError::bad_request("the form is not valid")),
        };
        let sender = Sender::from(&visit.caller);
        let answer = visit
            .state
            .auth
            .change_second_factor(&user, change, &sender)
            .await?;
        let (news, change) = match answer {
            SecondFactorAnswer::Seed(address) => {
                let seed = Some(seed(address)?);
                (
                    News {
                        seed,
                        ..News::default()
                    },
                    "asked",
                )
            }
            SecondFactorAnswer::RecoveryCodes(recovery_codes) => {
                let news = News {
                    recovery_codes,
                    ..News::default()
                };
                (news, "enabled")
            }
            SecondFactorAnswer::ModeChanged => (News::default(), "mode"),
            SecondFactorAnswer::Off => (News::default(), "disabled"),
        };
        let user = user.to_string();
        let event = Event::SecondFactorChanged { user, change };
        visit.state.events.tell(&visit.caller, None, &event);
        Ok(news)
    };
    let done = work.await;
    after(&visit, done).await
}

fn seed(address: String) -> Result<Seed, RegistryError> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let code = QrCode::new(&address).map_err(RegistryError::internal)?;
    let picture = code
        .render::<svg::Color<'_>>()
        .min_dimensions(220, 220)
        .dark_color(svg::Color("#000"))
        .light_color(svg::Color("#fff"))
        .build();
    let url: Option<url::Url> = address.parse().ok();
    let secret = url.and_then(|url| {
        let mut pairs = url.query_pairs();
        pairs
            .find(|(key, _)| key == "secret")
            .map(|(_, value)| value.into_owned())
    });
    Ok(Seed {
        secret: secret.unwrap_or_default(),
        picture: format!("data:image/svg+xml;base64,{}", STANDARD.encode(picture)),
        address,
    })
}
