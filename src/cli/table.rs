//! [`Table`]: rows for people to read.

use std::fmt;

/// What is shown in the place of an empty cell.
const NOTHING: &str = "-";

/// Rows below one of headings, each column as wide as its widest cell.
#[derive(Clone, Debug)]
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// One with nothing below its headings.
    pub(super) fn new(headings: [&str; N]) -> Self {
        Self {
            rows: vec![headings.map(str::to_owned)],
        }
    }

    /// Adds a row. Characters that would do something to a terminal are shown as what they are.
    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| {
            if cell.is_empty() {
                return NOTHING.to_owned();
            }
            if cell.chars().any(char::is_control) {
                return cell.escape_debug().to_string();
            }
            cell
        }));
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &self.rows {
            let cells = row.iter().zip(widths);
            let cells: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "N", "LAST"]);
        table.row(["größer".to_owned(), "1".to_owned(), String::new()]);
        table.row(["a\x1b[2J".to_owned(), "22".to_owned(), "x".to_owned()]);
        let lines = [
            "NAME        N   LAST",
            "größer      1   -",
            "a\\u{1b}[2J  22  x",
            "",
        ];
        assert_eq!(table.to_string(), lines.join("\n"));
    }
}
