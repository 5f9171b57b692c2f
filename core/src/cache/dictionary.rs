//! The text that packed values refer to.

/// The envelopes of the usual model APIs, Markdown and frequent English. Values that are packed with it cannot be unpacked
/// without it: it is part of the entries' encoding, for ever.
pub(super) const DICTIONARY: &[u8] = include_bytes!("dictionary.txt");
