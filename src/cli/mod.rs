//! The command line: one file a subcommand.

mod backup;
mod cache;
mod chosen;
mod conclusion;
mod config;
mod fsck;
mod healthcheck;
mod import;
mod migrate;
mod mirror;
mod progress;
mod serve;
mod shadow;
mod signing_key;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{ArgAction, Parser, Subcommand};

use crate::{
    config::{Config, Env, FEATURES, Problem, Sources},
    runtime::find_problems,
    telemetry::check_logs,
};

/// What a wrong setting or argument ends with.
const USAGE: u8 = 2;

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
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, such as `4873` or `0.0.0.0:4873`; overrules every other setting
    #[arg(short, long, global = true, value_name = "ADDRESS")]
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
    /// Ask the registry that runs with these settings whether it is ready; ends with 0 if it is
    Healthcheck,
    /// Check everything that is stored; the registry must not be running
    Fsck {
        /// Put right what can be; nothing that was published is deleted
        #[arg(long)]
        repair: bool,
    },
    /// Move everything into Postgres or a bucket, or back; the registry must not be running
    Migrate {
        /// Which way
        way: migrate::Way,
        /// Replace what is another in the target; without it, that is reported and left as it is
        #[arg(long)]
        overwrite: bool,
        /// Take tokens that only the source has, though they may have been revoked in the target
        #[arg(long)]
        with_tokens: bool,
    },
    /// Make a snapshot of everything that is hosted; the registry may be running
    Backup {
        /// The folder of all snapshots; what they have in common is on the disk once
        folder: PathBuf,
        /// Read the tarballs that an earlier snapshot has, and compare them with their manifests
        #[arg(long)]
        verify: bool,
        /// After a complete snapshot, remove what is older than the newest N complete ones
        #[arg(long, value_name = "N")]
        keep: Option<std::num::NonZeroUsize>,
    },
    /// Copy a backup to where the settings say; the registry must not be running
    Restore {
        /// A snapshot, or a folder of snapshots, of which the newest complete one is taken
        folder: PathBuf,
        /// Replace what is another in the target; without it, that is reported and left as it is
        #[arg(long)]
        overwrite: bool,
        /// Take tokens that only the backup has, though they may have been revoked since
        #[arg(long)]
        with_tokens: bool,
        /// Take a snapshot that lacks something; of a folder, the newest one whatever it lacks
        #[arg(long)]
        incomplete: bool,
    },
    /// Take over the packages of another registry; the registry must not be running
    Import(import::ImportCommand),
    /// Have everything at hand that lockfiles name, so that it installs without an upstream
    Mirror(mirror::MirrorCommand),
    /// Compare what two registries answer that both run
    Shadow(shadow::ShadowCommand),
    /// Look after what came from upstream; the registry may be running
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Look after the key that published versions are signed with
    #[command(subcommand)]
    SigningKey(signing_key::SigningKeyCommand),
    /// Look at the settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
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
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::serve(&settings, out),
        Command::Healthcheck => healthcheck::run(&settings, out),
        Command::Fsck { repair } => fsck::run(&settings, repair, out),
        Command::Migrate {
            way,
            overwrite,
            with_tokens,
        } => {
            let accepted = crate::runtime::Accepted {
                overwrite,
                with_tokens,
                incomplete: false,
            };
            migrate::run(migrate::Task::Migrate(way, accepted), &settings, out)
        }
        Command::Backup {
            folder,
            verify,
            keep,
        } => {
            let backup = crate::runtime::Backup { verify, keep };
            backup::run(&folder, backup, &settings, out)
        }
        Command::Restore {
            folder,
            overwrite,
            with_tokens,
            incomplete,
        } => {
            let accepted = crate::runtime::Accepted {
                overwrite,
                with_tokens,
                incomplete,
            };
            migrate::run(migrate::Task::Restore(&folder, accepted), &settings, out)
        }
        Command::Import(command) => import::run(&command, &settings, env, out),
        Command::Mirror(command) => mirror::run(&command, &settings, env, out),
        Command::Shadow(command) => shadow::run(&command, &settings, env, out),
        Command::Cache(command) => cache::run(&command, &settings, out),
        Command::SigningKey(command) => signing_key::run(command, &settings, out),
        Command::Config(command) => config::run(&command, &settings, out),
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
