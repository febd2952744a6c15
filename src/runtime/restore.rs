//! Filling what the settings name with a backup.

use std::path::Path;

use super::{
    backends::Backends,
    backup::Accepted,
    end::End,
    marks::{self, Filling},
    migrate::Watch,
    sealed::require_openable,
};
use crate::{
    config::Config,
    error::RegistryError,
    storage::{FolderClaim, Moved, Moving, TemporaryFolder, move_whole, require_same_key},
};

/// Copies everything of `from`, the backup in `folder`, to where the settings say. Nothing opens the target
/// until it has everything; only this goes on with it where it was broken off.
pub(super) async fn fill_from(
    from: &End,
    folder: &Path,
    config: &Config,
    accepted: Accepted,
    watch: Watch<'_>,
) -> Result<Moved, RegistryError> {
    let data = &config.storage.data_dir;
    let _claim = FolderClaim::take(data.clone()).await?;
    let temporary = TemporaryFolder::open(&data.join("tmp"))?;
    let to = Box::pin(Backends::open_to_fill(config)).await?;
    let to = End::target(config.clone(), to).await?;
    require_same_key(&*from.keys, &*to.keys).await?;
    require_openable(config, from, &to).await?;
    let source = tokio::fs::canonicalize(folder).await;
    let source = source.map_err(RegistryError::internal)?;
    let has_no_accounts = to.has_no_accounts().await?;
    let mut filling = Filling {
        command: format!("restore {}", source.display()),
        source: source.display().to_string(),
        has_tarballs: false,
        was_empty: has_no_accounts && to.has_no_packages().await?,
        takes_tokens: has_no_accounts,
    };
    let grounds = to.grounds();
    let begun = marks::begun(&grounds, &filling).await?;
    filling.go_on(begun, accepted.with_tokens);
    marks::begin(&grounds, &filling).await?;
    let moving = Moving {
        overwrite: accepted.overwrite,
        tarballs: Some(&temporary),
        is_one_of_many: false,
        watch,
    };
    let tokens = filling.tokens("the backup");
    let moved = move_whole(from.place(), to.place(), moving, tokens).await?;
    // What was left as it is was somebody's, who goes on with it; unless it came from here.
    let is_over = moved.failures.is_empty();
    if is_over && (moved.conflicts.is_empty() || !filling.was_empty) {
        marks::end(&grounds).await?;
    }
    Ok(moved)
}
