//! Following what other nodes change, where storage tells.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use tokio::{sync::mpsc, time::Instant};

use super::{Registry, discovery::is_damage};
use crate::{
    error::RegistryError,
    models::PackageName,
    storage::{Coherence, Epoch, Notice},
};

/// How often it is looked whether notices were lost.
const LOOK: Duration = Duration::from_secs(2);
/// Between attempts to fill the index, at most.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

impl Registry {
    /// Drops what is cached of packages that other nodes change, and lets searches find them, until
    /// the registry ends. Returns at once.
    pub fn follow_others(self: &Arc<Self>) {
        let Some(coherence) = self.store.metadata().coherence() else {
            return;
        };
        let (sender, changed) = mpsc::unbounded_channel();
        let registry = Arc::downgrade(self);
        coherence.watch(Box::new(move |notice| match registry.upgrade() {
            Some(registry) => {
                if let Notice::Package(name) = notice {
                    registry.documents.changed(name);
                    // It listens for as long as the registry lives.
                    let _ = sender.send(name.clone());
                }
                true
            }
            None => false,
        }));
        let (registry, coherence) = (Arc::downgrade(self), Arc::clone(coherence));
        let lifecycle = self.lifecycle.clone();
        self.lifecycle.spawn(async move {
            tokio::select! {
                () = lifecycle.shutdown_begun() => {}
                () = follow(registry, coherence, changed) => {}
            }
        });
    }

    /// Lets searches find exactly what is stored.
    async fn refill_index(&self) -> Result<(), RegistryError> {
        let names: HashSet<PackageName> = self.store.metadata().list().try_collect().await?;
        for entry in self.index.after("") {
            if !names.contains(&entry.name) {
                self.fill_readable(&entry.name).await?;
            }
        }
        for name in &names {
            self.fill_readable(name).await?;
        }
        Ok(())
    }

    /// Lets searches find what is stored of `name`. One that is damaged is for people to put right.
    pub(super) async fn fill_readable(&self, name: &PackageName) -> Result<(), RegistryError> {
        match self.fill_entry(name).await {
            Err(error) if is_damage(&error) => {
                tracing::error!(
                    package.name = %name,
                    error = &error as &dyn std::error::Error,
                    "a package cannot be found by searches"
                );
                Ok(())
            }
            done => done,
        }
    }
}

/// Keeps the index of `registry` as notices say, and fills it anew where some may be lost.
async fn follow(
    registry: Weak<Registry>,
    coherence: Arc<Coherence>,
    mut changed: mpsc::UnboundedReceiver<PackageName>,
) {
    // It is being filled, with all notices heard since.
    let mut filled_in: Option<Epoch> = coherence.epoch();
    let (mut pause, mut not_before) = (LOOK, Instant::now());
    loop {
        let name = tokio::select! {
            name = changed.recv() => match name {
                Some(name) => Some(name),
                None => return,
            },
            () = tokio::time::sleep(LOOK) => None,
        };
        let Some(registry) = registry.upgrade() else {
            return;
        };
        if let Some(name) = name
            && let Err(error) = registry.fill_readable(&name).await
        {
            filled_in = None;
            complain(&error);
        }
        let epoch = coherence.epoch();
        if epoch.is_some() && epoch != filled_in && Instant::now() >= not_before {
            match registry.refill_index().await {
                Ok(()) => (filled_in, pause) = (epoch, LOOK),
                Err(error) => {
                    complain(&error);
                    not_before = Instant::now() + pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

fn complain(error: &RegistryError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "searches may not find what other nodes have changed; trying again"
    );
}
