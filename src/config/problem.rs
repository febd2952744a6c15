//! [`Problem`]: what is wrong with a setting, and where it came from.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::show::displayable;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The environment variable of this name.
    Variable(String),
    /// A file, by its path or by the variable that held it.
    File(String),
    /// npm's settings on this machine, in the file or variable of this name.
    Npm(String),
}

impl Source {
    /// A path as it was meant where it was written: a relative one in a file is from the folder of that
    /// file on.
    pub(super) fn from_its_folder(&self, path: &str) -> String {
        match self {
            Self::File(file) if !path.is_empty() => {
                let folder = Path::new(file).parent().unwrap_or(Path::new(""));
                let path: PathBuf = folder.join(path).components().collect();
                path.display().to_string()
            }
            _ => path.to_owned(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Variable(name) | Self::File(name) => f.write_str(name),
            Self::Npm(place) => write!(f, "npm's {place}"),
        }
    }
}

/// What is wrong with a setting, or noteworthy about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting: a variable, or a path in a file.
    pub setting: String,
    /// Its value as far as it may be shown; empty where it does not help.
    pub value: String,
    /// Where the value came from.
    pub source: Source,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Problem {
    pub(super) fn new(
        setting: impl Into<String>,
        value: impl Into<String>,
        source: &Source,
        message: impl Into<String>,
    ) -> Self {
        Self {
            setting: setting.into(),
            value: displayable(&value.into()),
            source: source.clone(),
            message: message.into(),
        }
    }
}

/// All of `problems`, a line each.
pub fn describe(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.setting)?;
        if !self.value.is_empty() {
            write!(f, " = `{}`", self.value)?;
        }
        if self.source.to_string() != self.setting {
            write!(f, " ({})", self.source)?;
        }
        write!(f, ": {}", self.message)
    }
}
