//! What browsers see.

/// Settings of the web interface.
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// Whether there is a web interface.
    pub enable: bool,
    /// Its title.
    pub title: String,
    /// Whether `npm login` may go through the browser.
    pub web_login: bool,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            enable: true,
            title: "Rustaccio".to_owned(),
            web_login: false,
        }
    }
}
