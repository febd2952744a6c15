//! What is logged, and how it looks.

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line an event with the names of all its parts, for people.
    #[default]
    Pretty,
    /// One short line an event, for people.
    Compact,
    /// One JSON object an event, for machines.
    Json,
}

/// Settings of the log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The level of our own events: `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
    /// `RUST_LOG`: replaces all directives.
    pub directives: Option<String>,
    /// Whether dependencies may be as verbose as we are.
    pub verbose_dependencies: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Pretty,
            directives: None,
            verbose_dependencies: false,
        }
    }
}
