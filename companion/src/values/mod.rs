//! Values as people write them in the configuration.

mod duration;
mod secret;

pub use duration::spanned as spanned_duration;
pub use secret::Secret;

/// What is wrong in a configuration: the place in the file, as an offset, and what is wrong there.
pub type Wrong = (usize, String);

/// For checks: this value is wrong.
pub fn wrong<T>(value: &toml::Spanned<T>, message: impl Into<String>) -> Wrong {
    (value.span().start, message.into())
}
