//! A registry in a program of one's own: settings as in `rustaccio`, with defaults of the house.
//!
//! ```text
//! cargo run --example custom_binary -- config.yml
//! ```

use std::{error::Error, path::PathBuf};

use rustaccio::{config::Config, runtime, telemetry::start_logs};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).map(PathBuf::from);
    let config = settings(file)?;
    start_logs(&config.log)?;
    // Serves until the process is asked to stop, then lets requests finish.
    runtime::run_standalone(config).await?;
    Ok(())
}

/// The settings of the environment, and of `file` if there is one.
pub(crate) fn settings(file: Option<PathBuf>) -> Result<Config, String> {
    let mut config = match file {
        Some(file) => Config::from_env_with_config_file(file)?,
        // What is wrong with them is told by whoever starts the registry.
        None => Config::from_env(),
    };
    if config.web.title == "Rustaccio" {
        "Packages of the house".clone_into(&mut config.web.title);
    }
    Ok(config)
}
