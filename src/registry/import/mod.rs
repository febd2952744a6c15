//! Importing the packages of another registry as hosted ones.
//!
//! What was done is told by what is stored, and by nothing else: a version whose manifest is here with
//! the same digest is not asked for again, and a tarball that is here is read instead of downloaded. So an
//! import that was killed goes on where it was.

mod one;
mod place;
mod report;
mod source;
mod tarball;

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use one::Package;
pub use place::Place;
pub use report::Imported;
pub use source::{Names, Source};

use crate::{
    lifecycle::SharedClock,
    models::{Origin, PackageName},
    storage::{Blobs, MetadataStore, TemporaryFolder},
};

/// After so many packages in a row that the source did not answer for, it does not answer at all.
const MANY_FAILURES: usize = 5;

/// Where packages are imported to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Manifests.
    pub metadata: Arc<dyn MetadataStore>,
    /// Tarballs.
    pub blobs: Arc<dyn Blobs>,
    /// Where tarballs are on their way; `None` where nothing is to be written.
    pub temporary: Option<TemporaryFolder>,
}

/// An import.
pub struct Import<'i> {
    /// Where packages come from.
    pub source: &'i Place,
    /// Where they go.
    pub target: &'i Target,
    /// Whose names new packages are; `None` where the source says it, else ours.
    pub origin: Option<Origin>,
    /// How many packages are worked on at a time.
    pub jobs: usize,
    /// What time it is.
    pub clock: SharedClock,
    /// Hears what was done so far, and how many packages there are.
    pub watch: &'i (dyn Fn(&Imported, usize) + Sync),
}

impl Import<'_> {
    /// Imports `names`. What cannot be imported is in the report, and keeps nothing else from it.
    pub async fn run(&self, names: &[PackageName]) -> Imported {
        let mut imported = Imported {
            dry_run: self.target.temporary.is_none(),
            ..Imported::default()
        };
        let packages = stream::iter(names).map(|name| async move {
            let package = Package {
                import: self,
                name: name.clone(),
            };
            Box::pin(package.run()).await
        });
        let mut packages = packages.buffer_unordered(self.jobs.max(1));
        let mut unanswered = 0;
        while let Some(done) = packages.next().await {
            unanswered = if done.is_unanswered {
                unanswered + 1
            } else {
                0
            };
            imported.packages += 1;
            imported.add(done.report);
            (self.watch)(&imported, names.len());
            if done.is_hopeless || unanswered >= MANY_FAILURES {
                let left = names.len() - imported.packages;
                if left > 0 {
                    imported.failures.push(format!(
                        "{left} further packages were not tried; put right what failed, and run this \
                         again: it goes on where it was"
                    ));
                }
                break;
            }
        }
        imported
    }
}
