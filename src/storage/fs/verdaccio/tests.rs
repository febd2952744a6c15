//! Folders as Verdaccio makes them.
