//! The command line: one file a subcommand.

mod backup;
mod cache;
mod chosen;
mod completions;
mod conclusion;
mod config;
mod fsck;
mod healthcheck;
mod import;
mod migrate;
mod mirror;
mod output;
mod password;
mod progress;
mod reindex;
mod restore;
mod serve;
mod shadow;
mod signing_key;
mod table;
mod token;
mod user;
mod work;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};

use crate::{
    config::{Config, Env, FEATURES, Problem, Sources},
    runtime::find_problems,
    telemetry::check_logs,
};

/// What a wrong setting or argument ends with.
const USAGE: u8 = 2;
/// Where the options that all commands have stand among theirs.
const LAST: usize = 900;

/// A private npm registry and caching proxy.
#[derive(Debug, Parser)]
#[command(
    name = "rustaccio",
    version,
    disable_version_flag = true,
    after_help = "Everything can be set with RUSTACCIO_* variables; `rustaccio config reference` lists them."
)]
struct Cli {
    /// A YAML file with settings, in Verdaccio's words
    #[arg(short, long, global = true, value_name = "FILE", display_order = LAST)]
    config: Option<PathBuf>,
    /// Where to listen, such as `4873` or `0.0.0.0:4873`; overrules every other setting
    #[arg(short, long, global = true, value_name = "ADDRESS", display_order = LAST)]
    listen: Option<String>,
    /// Say what this is and what it runs on, for a report of a problem
    #[arg(short, long)]
    info: bool,
    /// Print version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: (),
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the registry (what happens without a command)
    Serve,
    /// Look after accounts; the registry may be running
    #[command(subcommand)]
    User(user::UserCommand),
    /// Look after tokens; the registry may be running
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Look after what came from upstream; the registry may be running
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Check everything that is stored; the registry must not be running on a data folder
    Fsck(fsck::FsckCommand),
    /// Rebuild manifests that are lost, and let searches find what is stored
    Reindex(reindex::ReindexCommand),
    /// Ask the registry that runs with these settings whether it is ready; ends with 0 if it is
    Healthcheck,
    /// Make a snapshot of everything that is hosted; the registry may be running
    Backup(backup::BackupCommand),
    /// Copy a backup to where the settings say; the registry must not be running
    Restore(restore::RestoreCommand),
    /// Move everything into Postgres or a bucket, or back; the registry must not be running
    Migrate(migrate::MigrateCommand),
    /// Take over the packages of another registry; the registry must not be running
    Import(import::ImportCommand),
    /// Have everything at hand that lockfiles name, so that it installs without an upstream
    Mirror(mirror::MirrorCommand),
    /// Compare what two registries answer that both run
    Shadow(shadow::ShadowCommand),
    /// Look after the key that published versions are signed with
    #[command(subcommand)]
    SigningKey(signing_key::SigningKeyCommand),
    /// Look at the settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Write what a shell completes commands with
    Completions(completions::CompletionsCommand),
    /// Write the manual
    Man(completions::ManCommand),
}

impl Command {
    /// Whether it does nothing with settings that have problems; others have their own words for them, or need
    /// none.
    fn works_with_settings(&self) -> bool {
        !matches!(
            self,
            Self::Serve | Self::Healthcheck | Self::Config(_) | Self::Completions(_) | Self::Man(_)
        )
    }
}

/// Runs what the process's arguments ask for.
pub fn main() -> ExitCode {
    run(
        std::env::args_os(),
        &Env::of_process(),
        &mut io::stdout().lock(),
    )
}

/// Runs what `arguments` ask for, in the environment `env`; answers go to `out`.
fn run(arguments: impl IntoIterator<Item = OsString>, env: &Env, out: &mut impl Write) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output, complaints to standard error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    if cli.info {
        return info(out);
    }
    let settings = Config::load(&Sources {
        env: env.clone(),
        file: cli.config,
        listen: cli.listen,
    });
    let command = cli.command.unwrap_or(Command::Serve);
    run_command(&command, &settings, env, out)
}

fn run_command(command: &Command, settings: &Config, env: &Env, out: &mut impl Write) -> ExitCode {
    if command.works_with_settings() && !settings.problems().is_empty() {
        return complain(settings.problems());
    }
    match command {
        Command::Serve => serve::serve(settings, out),
        Command::User(command) => user::run(command, settings, out),
        Command::Token(command) => token::run(command, settings, out),
        Command::Cache(command) => cache::run(command, settings, out),
        Command::Fsck(command) => fsck::run(*command, settings, out),
        Command::Reindex(command) => reindex::run(command, settings, env, out),
        Command::Healthcheck => healthcheck::run(settings, out),
        Command::Backup(command) => backup::run(command, settings, out),
        Command::Restore(command) => restore::run(command, settings, out),
        Command::Migrate(command) => migrate::run(command, settings, out),
        Command::Import(command) => import::run(command, settings, env, out),
        Command::Mirror(command) => mirror::run(command, settings, env, out),
        Command::Shadow(command) => shadow::run(command, settings, env, out),
        Command::SigningKey(command) => signing_key::run(*command, settings, out),
        Command::Config(command) => config::run(command, settings, out),
        Command::Completions(command) => completions::complete(*command, Cli::command(), out),
        Command::Man(command) => completions::manual(command, Cli::command(), out),
    }
}

/// What a report of a problem should say.
fn info(out: &mut impl Write) -> ExitCode {
    let features = FEATURES.iter().filter(|(_, is_built_in)| *is_built_in);
    let features: Vec<&str> = features.map(|(name, _)| *name).collect();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let written = writeln!(
        out,
        "rustaccio {}\nfeatures: {}\nsystem: {} {}, {processors} processors",
        env!("CARGO_PKG_VERSION"),
        features.join(" "),
        std::env::consts::OS,
        std::env::consts::ARCH,
    );
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// All that keeps a registry from starting, as far as settings tell.
fn all_problems(settings: &Config) -> io::Result<Vec<Problem>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut problems = runtime.block_on(find_problems(settings));
    if let Err(error) = check_logs(&settings.log) {
        let directives = settings.log.directives.as_deref().unwrap_or_default();
        problems.push(settings.problem("RUST_LOG", directives, &error.to_string()));
    }
    Ok(problems)
}

/// Says on standard error what is wrong with the settings.
fn complain(problems: &[Problem]) -> ExitCode {
    let mut err = io::stderr().lock();
    // There is nobody left to tell if this cannot be written.
    let _ = writeln!(err, "rustaccio cannot start with these settings:");
    for problem in problems {
        let _ = writeln!(err, "  {problem}");
    }
    ExitCode::from(USAGE)
}
