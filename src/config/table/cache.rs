//! Settings of the cache of what came from upstream.

use super::{
    Kind::{Path, Seconds, Size, Switch},
    Setting,
};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_CACHE_DIR",
        "",
        Path(|target, path| target.config.storage.cache.folder = Some(path)),
        "The folder of what came from upstream. Without it, `cache` in the data folder. All of it \
         may be deleted at any time; several registries may share one.",
    ),
    Setting::new(
        "RUSTACCIO_CACHE_MAX_SIZE",
        "",
        Size(|target, bytes| target.config.storage.cache.max_size = Some(bytes)),
        "How large the cache may become, such as `20gb`; what was used longest ago goes first. \
         Without it, there is no limit.",
    ),
    Setting::new(
        "RUSTACCIO_CACHE_MAX_AGE",
        "",
        Seconds(3600..=315_360_000, |target, span| {
            target.config.storage.cache.max_age = Some(span);
        }),
        "How long the cache keeps what nobody uses, such as `30d`. Without it, there is no limit.",
    ),
    Setting::new(
        "RUSTACCIO_CACHE_SHARED",
        "false",
        Switch(|target, on| target.config.storage.cache.is_shared = on),
        "Whether all registries on a bucket share what came from upstream: it is kept in the bucket \
         too, apart from what is hosted, and what one of them has fetched the others need not ask \
         upstream for. The bounds hold for the folder and for the bucket, each by itself.",
    ),
];
