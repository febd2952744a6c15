//! [`Filling`]: the mark of what does not have everything yet, so that it is neither served nor copied as if
//! it were whole.

use serde::{Deserialize, Serialize};

use super::{Ground, Spot};
use crate::{error::RegistryError, lifecycle::crash_point, storage::Tokens};

/// The name of the mark.
const NAME: &str = "being-filled";

/// What fills it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::runtime) struct Filling {
    /// What to run again.
    pub(in crate::runtime) command: String,
    /// What tells where everything comes from.
    pub(in crate::runtime) source: String,
    /// Whether tarballs are there already, and only what would be in a database comes.
    pub(in crate::runtime) has_tarballs: bool,
    /// Whether it had neither packages nor accounts when this began.
    pub(in crate::runtime) was_empty: bool,
    /// Whether no token was ever revoked there: it had no accounts, or is of before it was moved.
    pub(in crate::runtime) takes_tokens: bool,
}

impl Filling {
    /// Goes on with what was `begun` before, if anything was; `with_tokens` if all are wanted anyway.
    pub(in crate::runtime) fn go_on(&mut self, begun: Option<Self>, with_tokens: bool) {
        if let Some(begun) = begun {
            self.was_empty = begun.was_empty;
            self.takes_tokens = begun.takes_tokens;
        }
        self.takes_tokens |= with_tokens;
    }

    /// Which tokens it takes that are in `source` alone.
    pub(in crate::runtime) fn tokens(&self, source: &'static str) -> Tokens {
        if self.takes_tokens {
            Tokens::Moved
        } else {
            Tokens::OnlyIn(source)
        }
    }

    /// Whether it comes from the same, by the same way.
    fn goes_on(&self, other: &Self) -> bool {
        self.command == other.command && self.source == other.source
    }

    /// What fills `ground`.
    async fn of(ground: &Ground) -> Result<Option<Self>, RegistryError> {
        let Some(text) = ground.read(NAME).await? else {
            return Ok(None);
        };
        let filling = serde_json::from_str(&text);
        let damaged = |_| RegistryError::Settings {
            message: format!(
                "{} says that something is being moved here, and is damaged; take everything away that is \
                 in {}, and move it here again",
                ground.path(NAME),
                ground.name()
            ),
        };
        filling.map(Some).map_err(damaged)
    }

    fn refusal(&self, ground: &Ground) -> RegistryError {
        let (place, mark) = (ground.name(), ground.path(NAME));
        let otherwise = if self.was_empty {
            format!("or take away everything that is in {place}")
        } else {
            format!("or, to go on with what {place} has got so far, delete the mark")
        };
        RegistryError::Settings {
            message: format!(
                "{place} does not have everything yet (it has the mark {mark}): run `rustaccio {}` \
                 again, with the same settings, until it has come to its end; {otherwise}",
                self.command
            ),
        }
    }
}

/// Fails where one of `grounds` is being filled, as far as it concerns settings that may have a database.
pub(in crate::runtime) async fn require_whole(
    grounds: &[Ground],
    has_database: bool,
) -> Result<(), RegistryError> {
    for ground in grounds {
        if let Some(filling) = Filling::of(ground).await?
            && !(filling.has_tarballs && has_database && ground.spot() != Spot::Database)
        {
            return Err(filling.refusal(ground));
        }
    }
    Ok(())
}

/// Whether what is in `ground` beside tarballs has come from a database that is still the newest.
pub(super) async fn has_come_from_database(ground: &Ground) -> Result<bool, RegistryError> {
    let filling = Filling::of(ground).await?;
    Ok(filling.is_some_and(|filling| filling.has_tarballs))
}

/// What `filling` goes on with of `grounds`, if it was begun before. Fails where something else has begun.
pub(in crate::runtime) async fn begun(
    grounds: &[Ground],
    filling: &Filling,
) -> Result<Option<Filling>, RegistryError> {
    let mut begun = None;
    for ground in grounds {
        if let Some(there) = Filling::of(ground).await? {
            if !there.goes_on(filling) {
                return Err(there.refusal(ground));
            }
            begun = Some(there);
        }
    }
    Ok(begun)
}

/// Marks all of `grounds`.
pub(in crate::runtime) async fn begin(
    grounds: &[Ground],
    filling: &Filling,
) -> Result<(), RegistryError> {
    let text = serde_json::to_string_pretty(filling).map_err(RegistryError::internal)?;
    for ground in grounds {
        ground.write(NAME, &text).await?;
    }
    crash_point("target-begun");
    Ok(())
}

/// Takes the marks away.
pub(in crate::runtime) async fn end(grounds: &[Ground]) -> Result<(), RegistryError> {
    for ground in grounds {
        ground.remove(NAME).await?;
    }
    Ok(())
}
