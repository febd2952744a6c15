//! [`Headings`]: headings with ids that links can lead to, one level below those of the page.

use std::fmt;

use comrak::{
    Anchorizer,
    adapters::{HeadingAdapter, HeadingMeta},
    nodes::Sourcepos,
};
use parking_lot::Mutex;

/// Writes the headings of one README.
#[derive(Default)]
pub(super) struct Headings(Mutex<Anchorizer>);

/// The name of the package is the page's own first heading.
fn level_of(heading: &HeadingMeta) -> u8 {
    heading.level.saturating_add(1).min(6)
}

impl HeadingAdapter for Headings {
    fn enter(
        &self,
        output: &mut dyn fmt::Write,
        heading: &HeadingMeta,
        _: Option<Sourcepos>,
    ) -> fmt::Result {
        let id = self.0.lock().anchorize(&heading.content);
        write!(output, "<h{} id=\"", level_of(heading))?;
        comrak::html::escape(output, &id)?;
        output.write_str("\">")
    }

    fn exit(&self, output: &mut dyn fmt::Write, heading: &HeadingMeta) -> fmt::Result {
        writeln!(output, "</h{}>", level_of(heading))
    }
}
