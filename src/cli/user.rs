//! `rustaccio user`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    output::{Format, end},
    password::new_password,
    table::Table,
    work,
};
use crate::{
    auth::AccountSummary,
    config::Config,
    error::RegistryError,
    events::Event,
    models::{Timestamp, Username},
    runtime::{open_auth, recorded, require_folder},
    storage::Profile,
};

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// List all users
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Make an account, whether visitors may make one themselves or not
    Add {
        #[command(flatten)]
        user: Named,
        /// Her e-mail address
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        #[command(flatten)]
        password: Password,
        #[command(flatten)]
        format: Format,
    },
    /// Give a user another password, which ends her logins; tokens of `npm token create` stay
    Passwd {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        password: Password,
        #[command(flatten)]
        format: Format,
    },
    /// Let nothing of a user count any more, neither her password nor a login nor a token
    Disable {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        format: Format,
    },
    /// Let everything of a disabled user count again
    Enable {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        format: Format,
    },
    /// Take the second factor from a user who has lost it
    ResetSecondFactor {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// The name of the user
    #[arg(value_name = "USER", value_parser = username)]
    name: Username,
}

#[derive(Debug, Args)]
pub(super) struct Password {
    /// Read the password from the first line of standard input; without this, the terminal is asked
    #[arg(long)]
    password_stdin: bool,
}

/// A name that a user can have.
pub(super) fn username(text: &str) -> Result<Username, String> {
    text.parse().map_err(|_| {
        "a name has letters of ASCII, digits and any of - _ . ! ~ * ' ( ) @ $ +, and 214 of them at most"
            .to_owned()
    })
}

/// A user as programs read her.
#[derive(Debug, Serialize)]
struct User {
    name: String,
    disabled: bool,
    disabled_at: Option<Timestamp>,
    second_factor: bool,
    tokens: usize,
    /// `None` where nobody knows.
    created: Option<Timestamp>,
    password_changed: Option<Timestamp>,
    email: String,
}

impl From<AccountSummary> for User {
    fn from(account: AccountSummary) -> Self {
        let record = account.record;
        let factor = record.second_factor.as_ref();
        Self {
            name: account.name,
            disabled: record.disabled.is_some(),
            disabled_at: record.disabled,
            second_factor: factor.is_some_and(|factor| !factor.pending),
            tokens: account.tokens,
            created: Some(record.created).filter(|created| created.unix_millis() > 0),
            password_changed: record.password_changed,
            email: record.profile.email.clone(),
        }
    }
}

#[derive(Serialize)]
struct Users {
    users: Vec<User>,
}

/// What has become of an account.
#[expect(clippy::struct_field_names, reason = "programs read it by this name")]
#[derive(Serialize)]
struct Changed<'a> {
    user: &'a str,
    /// Whether it was otherwise before.
    changed: bool,
    #[serde(skip)]
    text: String,
}

pub(super) fn run(command: &UserCommand, settings: &Config, out: &mut impl Write) -> ExitCode {
    let done = match command {
        UserCommand::List { format } => work::run(list(settings)).map(|users| {
            let text = table(&users.users);
            format.write(&users, text, out).map(|()| true)
        }),
        other => work::run(change(other, settings)).map(|changed| show(other, &changed, out)),
    };
    end("user", done)
}

async fn list(settings: &Config) -> Result<Users, RegistryError> {
    require_folder(settings)?;
    let auth = open_auth(settings).await?;
    auth.require_local_accounts()?;
    let all = auth.all_users().await?;
    Ok(Users {
        users: all.into_iter().map(User::from).collect(),
    })
}

fn table(users: &[User]) -> String {
    if users.is_empty() {
        return "there are no users; `rustaccio user add NAME` makes one\n".to_owned();
    }
    let mut table = Table::new(["USER", "STATE", "2FA", "TOKENS", "CREATED", "E-MAIL"]);
    for user in users {
        let state = if user.disabled { "disabled" } else { "active" };
        let factor = if user.second_factor { "yes" } else { "no" };
        table.row([
            user.name.clone(),
            state.to_owned(),
            factor.to_owned(),
            user.tokens.to_string(),
            user.created.map(day).unwrap_or_default(),
            user.email.clone(),
        ]);
    }
    table.to_string()
}

/// The day of a time.
pub(super) fn day(time: Timestamp) -> String {
    time.to_string().chars().take(10).collect()
}

fn show(command: &UserCommand, changed: &Changed<'_>, out: &mut impl Write) -> io::Result<bool> {
    let format = match command {
        UserCommand::List { format }
        | UserCommand::Add { format, .. }
        | UserCommand::Passwd { format, .. }
        | UserCommand::Disable { format, .. }
        | UserCommand::Enable { format, .. }
        | UserCommand::ResetSecondFactor { format, .. } => format,
    };
    let text = format_args!("{}\n", changed.text);
    format.write(changed, text, out).map(|()| true)
}

async fn change<'c>(
    command: &'c UserCommand,
    settings: &Config,
) -> Result<Changed<'c>, RegistryError> {
    match command {
        // Nothing is changed by it.
        UserCommand::List { .. } => Err(RegistryError::internal("a list changes nothing")),
        UserCommand::Add {
            user,
            email,
            password,
            ..
        } => add(&user.name, email.as_deref(), password, settings).await,
        UserCommand::Passwd { user, password, .. } => passwd(&user.name, password, settings).await,
        UserCommand::Disable { user, .. } => disable(&user.name, settings).await,
        UserCommand::Enable { user, .. } => enable(&user.name, settings).await,
        UserCommand::ResetSecondFactor { user, .. } => {
            reset_second_factor(&user.name, settings).await
        }
    }
}

async fn add<'c>(
    user: &'c Username,
    email: Option<&str>,
    password: &Password,
    settings: &Config,
) -> Result<Changed<'c>, RegistryError> {
    recorded(settings, "user.add", async |told| {
        let auth = open_auth(settings).await?;
        auth.require_local_accounts()?;
        let password = new_password(password.password_stdin, user)?;
        let profile = Profile {
            email: email.unwrap_or_default().to_owned(),
            ..Profile::default()
        };
        auth.add_user(user, &password, profile).await?;
        told.tell(&Event::UserRegistered {
            user: user.to_string(),
        });
        Ok(changed(user, format!("{user} has an account now")))
    })
    .await
}

async fn passwd<'c>(
    user: &'c Username,
    password: &Password,
    settings: &Config,
) -> Result<Changed<'c>, RegistryError> {
    require_folder(settings)?;
    recorded(settings, "user.passwd", async |told| {
        let auth = open_auth(settings).await?;
        // Before somebody types anything.
        auth.require_account(user).await?;
        let password = new_password(password.password_stdin, user)?;
        auth.reset_password(user, &password).await?;
        told.tell(&Event::PasswordChanged {
            user: user.to_string(),
        });
        let text = format!("{user} has another password, and her logins are ended");
        Ok(changed(user, text))
    })
    .await
}

async fn disable<'c>(user: &'c Username, settings: &Config) -> Result<Changed<'c>, RegistryError> {
    require_folder(settings)?;
    recorded(settings, "user.disable", async |told| {
        let auth = open_auth(settings).await?;
        if !auth.disable_account(user).await? {
            return Ok(as_before(user, format!("{user} was disabled already")));
        }
        told.tell(&Event::UserDisabled {
            user: user.to_string(),
        });
        let text = format!(
            "{user} is disabled: neither password nor logins nor tokens count; `rustaccio user enable {user}` undoes it"
        );
        Ok(changed(user, text))
    })
    .await
}

async fn enable<'c>(user: &'c Username, settings: &Config) -> Result<Changed<'c>, RegistryError> {
    require_folder(settings)?;
    recorded(settings, "user.enable", async |told| {
        let auth = open_auth(settings).await?;
        if !auth.enable_account(user).await? {
            return Ok(as_before(user, format!("{user} was not disabled")));
        }
        told.tell(&Event::UserEnabled {
            user: user.to_string(),
        });
        let text = format!("{user} is enabled: what she had counts again");
        Ok(changed(user, text))
    })
    .await
}

async fn reset_second_factor<'c>(
    user: &'c Username,
    settings: &Config,
) -> Result<Changed<'c>, RegistryError> {
    require_folder(settings)?;
    recorded(settings, "user.reset_second_factor", async |told| {
        let auth = open_auth(settings).await?;
        if !auth.reset_second_factor(user).await? {
            return Ok(as_before(user, format!("{user} had no second factor")));
        }
        told.tell(&Event::SecondFactorChanged {
            user: user.to_string(),
            change: "disabled",
        });
        let text = format!("{user} has no second factor any more, until she asks for another one");
        Ok(changed(user, text))
    })
    .await
}

fn changed(user: &Username, text: String) -> Changed<'_> {
    Changed {
        user: user.as_str(),
        changed: true,
        text,
    }
}

fn as_before(user: &Username, text: String) -> Changed<'_> {
    Changed {
        changed: false,
        ..changed(user, text)
    }
}
