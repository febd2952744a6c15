//! The managed profile.
