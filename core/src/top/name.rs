//! What is counted: a key, and for refusals what refused it.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The longest key that is kept as a whole, in bytes. Of a longer one the beginning is kept.
pub const KEY_SHOWN_MAX: usize = 128;

/// The longest label in bytes.
pub const LABEL_MAX: usize = 64;

/// What has refused a key: the name of a policy or of a command.
#[derive(Debug, Clone, Copy)]
pub struct Label<'a> {
    text: &'a [u8],
    hash: u64,
}

impl<'a> Label<'a> {
    /// A label of at most [`LABEL_MAX`] bytes. That of a command is made when the program is compiled.
    ///
    /// The hash is that of FNV-1a (Fowler, Noll and Vo, <https://www.rfc-editor.org/rfc/rfc9923>), which fits short texts,
    /// but takes eight bytes at once while there are as many.
    #[inline]
    pub const fn new(text: &'a [u8]) -> Self {
        const PRIME: u64 = 0x0100_0000_01b3;
        let (mut hash, mut rest) = (0xcbf2_9ce4_8422_2325_u64 ^ text.len() as u64, text);
        while let Some((word, after)) = rest.split_first_chunk() {
            hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME);
            rest = after;
        }
        while let [byte, after @ ..] = rest {
            hash = (hash ^ *byte as u64).wrapping_mul(PRIME);
            rest = after;
        }
        Self { text, hash }
    }
}

/// A key, maybe with a label, and their fingerprint.
///
/// Names are told apart by their fingerprints alone. That of a key is 64 bits of XXH3 with a secret seed: a name has the
/// same one as one of the few thousand that are kept by a chance of less than 1 in 10^15, and nobody can look for such
/// names without the seed.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a> {
    key: &'a [u8],
    label: &'a [u8],
    fingerprint: u64,
}

impl<'a> Name<'a> {
    /// A key without a label.
    #[inline]
    pub fn new(seed: u64, key: &'a [u8]) -> Self {
        Self { key, label: &[], fingerprint: xxh3_64_with_seed(key, seed) }
    }

    /// The same key with a label.
    #[must_use]
    #[inline]
    pub fn labelled(&self, label: Label<'a>) -> Self {
        Self { label: label.text, fingerprint: self.fingerprint ^ label.hash, ..*self }
    }

    /// The part of the key that is kept.
    pub(super) fn shown(&self) -> &'a [u8] {
        self.key.get(..KEY_SHOWN_MAX).unwrap_or(self.key)
    }

    /// The label, of which no more than [`LABEL_MAX`] bytes are kept.
    pub(super) fn label(&self) -> &'a [u8] {
        self.label.get(..LABEL_MAX).unwrap_or(self.label)
    }

    #[inline]
    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}
