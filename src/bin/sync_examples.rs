//! Writes the example files and the reference anew from the table of settings.

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for example in rustaccio::config::examples() {
        let path = root.join(example.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        write(&path, &example.text)?;
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a tool for developers, not the server"
)]
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)
}
