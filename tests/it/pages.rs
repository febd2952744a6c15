//! Pages, as people see them in a browser.

#[cfg(feature = "test-browser")]
mod browser;
mod hostile;
#[cfg(all(feature = "test-browser", feature = "test-clients"))]
mod npm_login;
#[cfg(feature = "test-browser")]
mod shop;
#[cfg(feature = "test-browser")]
mod walks;
