//! Publishing and changing a package: from the bytes of a `PUT` to what is to be stored.

pub mod archive;
mod archive_path;
mod base64;
pub mod body;
mod commit;
mod data;
pub mod error;
pub mod hashing;
pub mod intent;
pub mod manifest;
pub mod put;
pub mod receive;
pub mod scanner;
pub mod selection;
