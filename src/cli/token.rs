//! `rustaccio token`.

use std::{io::Write, process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use super::{
    output::{Format, end, say},
    table::Table,
    user::{day, username},
    work,
};
use crate::{
    auth::{TokenRequest, token_created},
    config::{Config, parse_span},
    error::RegistryError,
    events::Event,
    models::{PackageName, Timestamp, Username},
    runtime::{open_auth, recorded, require_folder},
    storage::{TokenKind, TokenRecord},
};

/// How much of a key a table shows, which has room beside the rest in 80 columns.
const SHOWN: usize = 8;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// List the tokens that count, those of logins too
    List {
        /// Only those of this user
        #[arg(long, value_name = "USER", value_parser = username)]
        user: Option<Username>,
        #[command(flatten)]
        format: Format,
    },
    /// Make a token for a user, as `npm token create` does; it is shown this once
    Create(Box<Wish>),
    /// End a token at once, or all of a user
    Revoke {
        /// The token, its key, or at least six characters that its key begins with
        #[arg(value_name = "TOKEN", required_unless_present = "all")]
        token: Option<String>,
        /// End all tokens of a user, those of logins too
        #[arg(long, requires = "user", conflicts_with = "token")]
        all: bool,
        /// The user whose tokens all end
        #[arg(long, value_name = "USER", requires = "all", value_parser = username)]
        user: Option<Username>,
        #[command(flatten)]
        format: Format,
    },
}

/// What a token is to be.
#[derive(Debug, Args)]
pub(super) struct Wish {
    /// Whose it is
    #[arg(long, value_name = "USER", value_parser = username)]
    user: Username,
    /// A name for it, to tell it from others
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// It may only read
    #[arg(long)]
    readonly: bool,
    /// It works only from this network, such as 10.0.0.0/8; may be given several times
    #[arg(long, value_name = "NETWORK")]
    cidr: Vec<String>,
    /// It works only for this package; may be given several times
    #[arg(long, value_name = "NAME")]
    package: Vec<PackageName>,
    /// It works only for packages of this scope, such as @acme; may be given several times
    #[arg(long, value_name = "SCOPE", value_parser = scope)]
    scope: Vec<String>,
    /// It ends after so long, such as 90d; without this, it does not end by itself
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    expires: Option<Duration>,
    /// It works without the second factor of its user, as automation needs it
    #[arg(long)]
    bypass_second_factor: bool,
    #[command(flatten)]
    format: Format,
}

fn scope(text: &str) -> Result<String, String> {
    let is_scope = text.len() > 1
        && text.starts_with('@')
        && format!("{text}/x").parse::<PackageName>().is_ok();
    if is_scope {
        Ok(text.to_owned())
    } else {
        Err("a scope begins with @, as in @acme".to_owned())
    }
}

/// A token as programs read it.
#[expect(clippy::struct_field_names, reason = "programs read it by this name")]
#[derive(Serialize)]
struct Token<'a> {
    key: &'a str,
    /// How it begins; all of it when it is made.
    token: &'a str,
    user: &'a str,
    /// `login` or `token`.
    kind: &'static str,
    name: Option<&'a str>,
    readonly: bool,
    cidr: Vec<String>,
    packages: Vec<String>,
    scopes: &'a [String],
    bypass_second_factor: bool,
    created: Timestamp,
    expires: Option<Timestamp>,
}

impl<'a> Token<'a> {
    fn of(record: &'a TokenRecord) -> Self {
        Self {
            key: &record.key,
            token: &record.prefix,
            user: &record.user,
            kind: match record.kind {
                TokenKind::Login => "login",
                TokenKind::Npm | TokenKind::Ended => "token",
            },
            name: record.name.as_deref(),
            readonly: record.readonly,
            cidr: record.cidr.iter().map(ToString::to_string).collect(),
            packages: record
                .packages
                .iter()
                .map(|name| name.0.to_string())
                .collect(),
            scopes: &record.scopes,
            bypass_second_factor: record.bypass_second_factor,
            created: record.created,
            expires: record.expires,
        }
    }
}

#[derive(Serialize)]
struct Tokens<'a> {
    tokens: Vec<Token<'a>>,
}

#[derive(Serialize)]
struct Revoked {
    /// How many.
    revoked: usize,
    /// Their keys.
    keys: Vec<String>,
}

pub(super) fn run(command: &TokenCommand, settings: &Config, out: &mut impl Write) -> ExitCode {
    let done = match command {
        TokenCommand::List { user, format } => {
            work::run(list(user.as_ref(), settings)).map(|records| {
                let tokens = records.iter().map(|record| Token::of(record)).collect();
                let tokens = Tokens { tokens };
                let text = table(&tokens.tokens);
                format.write(&tokens, text, out).map(|()| true)
            })
        }
        TokenCommand::Create(wish) => work::run(create(wish, settings)).map(|(token, record)| {
            let made = Token {
                token: token.expose_secret(),
                ..Token::of(&record)
            };
            if !wish.format.json {
                say(format_args!(
                    "a token for {}; it is not shown again",
                    wish.user
                ));
            }
            let text = format_args!("{}\n", made.token);
            wish.format.write(&made, text, out).map(|()| true)
        }),
        TokenCommand::Revoke {
            token,
            user,
            format,
            ..
        } => {
            let ended = revoke(token.as_deref(), user.as_ref(), settings);
            work::run(ended).map(|keys| {
                let revoked = Revoked {
                    revoked: keys.len(),
                    keys,
                };
                let text = match revoked.revoked {
                    1 => "1 token is revoked\n".to_owned(),
                    count => format!("{count} tokens are revoked\n"),
                };
                format.write(&revoked, text, out).map(|()| true)
            })
        }
    };
    end("token", done)
}

async fn list(
    user: Option<&Username>,
    settings: &Config,
) -> Result<Vec<Arc<TokenRecord>>, RegistryError> {
    require_folder(settings)?;
    let auth = open_auth(settings).await?;
    let Some(user) = user else {
        return auth.all_tokens().await;
    };
    if auth.knows_all_users() {
        auth.require_account(user).await?;
    }
    auth.tokens(user).await
}

fn table(tokens: &[Token<'_>]) -> String {
    if tokens.is_empty() {
        return "there are no tokens\n".to_owned();
    }
    let mut table = Table::new([
        "KEY", "USER", "TOKEN", "KIND", "NAME", "CREATED", "EXPIRES", "ACCESS",
    ]);
    for token in tokens {
        let access = if token.readonly {
            "read"
        } else {
            "read, write"
        };
        let limits = [&token.cidr[..], &token.packages, token.scopes].concat();
        let access = [&[access.to_owned()][..], &limits].concat();
        table.row([
            token.key.chars().take(SHOWN).collect(),
            token.user.to_owned(),
            format!("{}…", token.token),
            token.kind.to_owned(),
            token.name.unwrap_or_default().to_owned(),
            day(token.created),
            token.expires.map_or_else(|| "never".to_owned(), day),
            access.join(" "),
        ]);
    }
    table.to_string()
}

async fn create(
    wish: &Wish,
    settings: &Config,
) -> Result<(SecretString, TokenRecord), RegistryError> {
    require_folder(settings)?;
    recorded(settings, "token.create", async |told| {
        let auth = open_auth(settings).await?;
        let request = TokenRequest {
            name: wish.name.clone(),
            readonly: wish.readonly,
            bypass_second_factor: wish.bypass_second_factor,
            cidr: wish.cidr.clone(),
            lifetime: wish.expires,
            packages: wish.package.clone(),
            scopes: wish.scope.clone(),
        };
        let (token, record) = auth.grant_token(&wish.user, request).await?;
        told.tell(&token_created(&record));
        Ok((token, record))
    })
    .await
}

/// Ends the token that is meant, or all of `user`; their keys.
async fn revoke(
    token: Option<&str>,
    user: Option<&Username>,
    settings: &Config,
) -> Result<Vec<String>, RegistryError> {
    require_folder(settings)?;
    recorded(settings, "token.revoke", async |told| {
        let auth = open_auth(settings).await?;
        let meant = match (token, user) {
            (Some(token), _) => vec![auth.find_token(token).await?],
            (None, Some(user)) => {
                if auth.knows_all_users() {
                    auth.require_account(user).await?;
                }
                auth.tokens(user).await?
            }
            (None, None) => Vec::new(),
        };
        let mut keys = Vec::new();
        for record in meant {
            if auth.end_token(&record).await? {
                told.tell(&Event::TokenRevoked {
                    user: record.user.clone(),
                    token: record.prefix.clone(),
                });
                keys.push(record.key.clone());
            }
        }
        Ok(keys)
    })
    .await
}
