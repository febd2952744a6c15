//! Floor 3: the upstream registries.

mod body;
mod breaker;
mod client;
mod error;
mod standing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use indexmap::IndexMap;

pub use body::decoded_length;
pub use client::{
    DirectAnswer, PackumentAnswer, TarballBody, TarballResponse, Uplink, Validators,
    decode_packument,
};
pub use error::UplinkError;
pub use standing::{Answered, Failed, Standing};

use crate::{
    config::UplinksConfig, lifecycle::SharedClock, models::UplinkName, net::ClientError,
    telemetry::Metrics,
};

/// All uplinks by name.
#[derive(Debug)]
pub struct Uplinks {
    by_name: IndexMap<UplinkName, Arc<Uplink>>,
}

impl Uplinks {
    /// Makes a client for each configured uplink.
    pub fn new(
        config: &UplinksConfig,
        clock: &SharedClock,
        metrics: &Metrics,
    ) -> Result<Self, ClientError> {
        let origins: Arc<[url::Origin]> = config
            .uplinks
            .iter()
            .map(|(_, uplink)| uplink.url.origin())
            .chain(config.allowed_origins.iter().map(url::Url::origin))
            .collect();
        let by_name = config
            .uplinks
            .iter()
            .map(|(name, settings)| {
                let uplink = Uplink::new(
                    name.clone(),
                    settings,
                    Arc::clone(&origins),
                    Arc::clone(clock),
                    metrics.uplink(name.as_str()),
                )?;
                Ok((name.clone(), Arc::new(uplink)))
            })
            .collect::<Result<_, ClientError>>()?;
        Ok(Self { by_name })
    }

    /// All of them, in the order of the settings.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Uplink>> {
        self.by_name.values()
    }

    /// The uplink of this name; `npmjs` is another name of the built-in `default`.
    pub fn get(&self, name: &UplinkName) -> Option<&Arc<Uplink>> {
        self.by_name.get(name).or_else(|| {
            let built_in: UplinkName = "default".parse().ok()?;
            self.by_name
                .get(&built_in)
                .filter(|_| name.as_str() == "npmjs")
        })
    }
}
