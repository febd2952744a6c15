//! What somebody may have meant.

use crate::config::table::settings;

/// The setting whose path is nearest to `path`, if one is near.
pub(super) fn closest(path: &str) -> Option<String> {
    let near = settings()
        .map(|setting| (distance(&setting.path(), path), setting.path()))
        .min()?;
    (near.0 <= 1 + path.len() / 6).then_some(near.1)
}

/// Levenshtein's distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.chars().enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&other) {
            let above = *cell;
            left = (above + 1)
                .min(left + 1)
                .min(diagonal + usize::from(a != *b));
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
