//! Two registries in one process, each below `/registry` of a server that has pages of its own.

use std::{error::Error, future::Future, path::PathBuf, time::Duration};

use axum::{Router, routing::get};
use rustaccio::{
    app::{AppState, build_router},
    config::Config,
    error::RegistryError,
    runtime::build_state,
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let stopped = || async {
        // Without a handler for signals it can still be killed.
        let _ = tokio::signal::ctrl_c().await;
    };
    let inside = TcpListener::bind("127.0.0.1:4873").await?;
    let outside = TcpListener::bind("127.0.0.1:4874").await?;
    tokio::try_join!(
        serve(inside, ".rustaccio-data/inside".into(), stopped()),
        serve(outside, ".rustaccio-data/outside".into(), stopped()),
    )?;
    Ok(())
}

/// Serves one of them until `stopped` completes.
pub(crate) async fn serve(
    listener: TcpListener,
    data: PathBuf,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let (router, registry) = host(data).await?;
    axum::serve(listener, router)
        .with_graceful_shutdown(stopped)
        .await?;
    // What answers have left to be done belongs to the registry.
    registry.lifecycle().begin_shutdown();
    registry.lifecycle().drain(Duration::from_secs(60)).await;
    Ok(())
}

/// The program's own routes, with a registry among them.
async fn host(data: PathBuf) -> Result<(Router, AppState), RegistryError> {
    let mut config = Config::from_env();
    config.storage.data_dir = data;
    "/registry".clone_into(&mut config.url_prefix);
    let registry = build_state(&config, None).await?;
    let router = Router::new()
        .route("/", get(|| async { "a page of the program" }))
        .nest("/registry", build_router(registry.clone()));
    Ok((router, registry))
}
