//! What browsers see.

/// The languages of pages by their tags; the first one is that of whoever asks for none of them.
pub const LANGUAGES: [&str; 6] = ["en", "de", "es", "fr", "zh", "ja"];

/// Settings of the web interface.
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// Whether there is a web interface.
    pub enable: bool,
    /// Its title.
    pub title: String,
    /// Its language for browsers that ask for none that there is.
    pub language: &'static str,
    /// Whether people sign in there.
    pub sign_in: bool,
    /// Whether `npm login` may go through the browser.
    pub web_login: bool,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            enable: true,
            title: "Rustaccio".to_owned(),
            language: LANGUAGES[0],
            sign_in: true,
            web_login: false,
        }
    }
}
