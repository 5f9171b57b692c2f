//! Packs into LZ4 blocks that are quick to unpack.
//!
//! A block is a list of sequences: some bytes as they are, and then a match, which is a copy of earlier bytes. The cost of
//! unpacking is their number, about 3 ns for each, whatever their length. So matches are worth taking from six bytes on: a
//! match of four saves a single byte, and a packer that takes all matches (such as `lz4_flex`) makes more than half of its
//! sequences of matches that save one or two bytes.

use std::sync::LazyLock;

use super::dictionary::DICTIONARY;

/// The shortest match that is taken, in bytes. The format allows 4.
const MATCH_MIN: usize = 6;

/// Bounds of the format, in bytes: how far back a match may reach, and how far from the block's end it must start and end.
const OFFSET_MAX: usize = 65_535;
const START_TO_END_MIN: usize = 12;
const END_TO_END_MIN: usize = 5;

/// The size of the table of positions, as a power of two: 32 KB.
const HASH_BITS: u32 = 13;

/// The positions where bytes were last seen in a text, by the hash of the first [`MATCH_MIN`] bytes.
#[derive(Clone)]
struct Seen(Box<[u32; 1 << HASH_BITS]>);

/// The [`MATCH_MIN`] bytes from `at` on, in the upper part of a number.
fn first_bytes(text: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*text.get(at..)?.first_chunk()?) << (64 - 8 * MATCH_MIN))
}

impl Seen {
    /// Remembers a position with its first bytes, and returns the one it replaces, where the same bytes may be: the caller
    /// compares them.
    fn replace(&mut self, bytes: u64, at: usize) -> usize {
        // The multiplier is that of LZ4 itself.
        let hash = bytes.wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - HASH_BITS);
        std::mem::replace(&mut self.0[hash as usize], at as u32) as usize
    }

    fn add(&mut self, text: &[u8], at: usize) {
        if let Some(bytes) = first_bytes(text, at) {
            self.replace(bytes, at);
        }
    }
}

static SEEN_IN_DICTIONARY: LazyLock<Seen> = LazyLock::new(|| {
    let mut seen = Seen(Box::new([0; 1 << HASH_BITS]));
    for at in 0..DICTIONARY.len() {
        seen.add(DICTIONARY, at);
    }
    seen
});

struct Match {
    from: usize,
    at: usize,
    len: usize,
}

struct Packer {
    /// The dictionary and the value behind it.
    text: Vec<u8>,
    seen: Seen,
    /// The sequences so far, and how far they reach in the text.
    packed: Vec<u8>,
    packed_to: usize,
}

/// The value as a block that refers to [`DICTIONARY`].
pub(super) fn pack(value: &[u8]) -> Vec<u8> {
    let mut packer = Packer {
        text: [DICTIONARY, value].concat(),
        seen: SEEN_IN_DICTIONARY.clone(),
        packed: Vec::with_capacity(value.len()),
        packed_to: DICTIONARY.len(),
    };
    let mut at = packer.packed_to;
    while at < packer.text.len() {
        let Some(found) = packer.find(at) else {
            // The longer nothing was found, the wider the steps: what does not pack is soon behind.
            at += 1 + (at - packer.packed_to) / 64;
            continue;
        };
        packer.take(found);
        at = packer.packed_to;
    }
    packer.write(packer.text.len(), None);
    packer.packed
}

impl Packer {
    fn find(&mut self, at: usize) -> Option<Match> {
        let end = self.text.len();
        if at + START_TO_END_MIN > end {
            return None;
        }
        let bytes = first_bytes(&self.text, at)?;
        let from = self.seen.replace(bytes, at);
        if first_bytes(&self.text, from)? != bytes || !(1..=OFFSET_MAX).contains(&(at - from)) {
            return None;
        }
        let len = common(self.text.get(from..)?, self.text.get(at..end - END_TO_END_MIN)?);
        Some(Match { from, at, len })
    }

    fn take(&mut self, found: Match) {
        // It may begin earlier: there the table knew of another place.
        let before = self.text[self.packed_to..found.at].iter().rev();
        let earlier = before.zip(self.text[..found.from].iter().rev()).take_while(|(one, other)| one == other).count();
        self.write(found.at - earlier, Some((found.at - found.from, found.len + earlier)));
        self.packed_to = found.at + found.len;
        // A place near the end is enough to find what goes on.
        self.seen.add(&self.text, self.packed_to - 2);
    }

    /// Writes a sequence: the bytes up to `end` as they are, and a match's offset and length.
    fn write(&mut self, end: usize, copy: Option<(usize, usize)>) {
        let literals = &self.text[self.packed_to..end];
        let more = copy.map_or(0, |(_, len)| len - 4);
        self.packed.push((literals.len().min(15) << 4 | more.min(15)) as u8);
        write_rest(&mut self.packed, literals.len());
        self.packed.extend_from_slice(literals);
        if let Some((offset, _)) = copy {
            self.packed.extend_from_slice(&(offset as u16).to_le_bytes());
            write_rest(&mut self.packed, more);
        }
    }
}

/// What of a length does not fit into a sequence's first byte, which then says 15.
fn write_rest(packed: &mut Vec<u8>, len: usize) {
    if let Some(rest) = len.checked_sub(15) {
        packed.extend(std::iter::repeat_n(255, rest / 255));
        packed.push((rest % 255) as u8);
    }
}

/// How many bytes both begin with alike.
fn common(one: &[u8], other: &[u8]) -> usize {
    let (eights, other_eights) = (one.as_chunks::<8>().0, other.as_chunks::<8>().0);
    let alike = 8 * eights.iter().zip(other_eights).take_while(|(one, other)| one == other).count();
    alike + one.iter().zip(other).skip(alike).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The sequences of a block as how many bytes are as they are, and how many are copied.
    fn sequences(mut block: &[u8]) -> Vec<(usize, usize)> {
        fn byte(block: &mut &[u8]) -> usize {
            let (first, rest) = block.split_first().unwrap();
            *block = rest;
            usize::from(*first)
        }
        fn len(block: &mut &[u8], first: usize) -> usize {
            let more: Vec<usize> = if first < 15 { vec![] } else { vec![byte(block)] };
            let mut len = first + more.iter().sum::<usize>();
            let mut last = more.last().copied().unwrap_or(0);
            while last == 255 {
                last = byte(block);
                len += last;
            }
            len
        }
        let mut sequences = Vec::new();
        loop {
            let first = byte(&mut block);
            let literals = len(&mut block, first >> 4);
            block = &block[literals..];
            if block.is_empty() {
                sequences.push((literals, 0));
                return sequences;
            }
            block = &block[2..];
            sequences.push((literals, 4 + len(&mut block, first & 15)));
        }
    }

    /// The block as any LZ4 reads it, and as the format wants it.
    fn check(value: &[u8]) {
        let block = pack(value);
        let unpacked = lz4_flex::block::decompress_with_dict(&block, value.len(), DICTIONARY);
        assert_eq!(unpacked.ok().as_deref(), Some(value));
        let sequences = sequences(&block);
        let (&(last, _), others) = sequences.split_last().unwrap();
        assert!(others.iter().all(|&(_, copied)| copied >= MATCH_MIN));
        if let Some(&(_, copied)) = others.last() {
            assert!(last >= END_TO_END_MIN && copied + last >= START_TO_END_MIN);
        }
    }

    #[test]
    fn short_and_long_values_are_packed() {
        for len in (0..600).chain([65_535, 65_536, 70_000, 262_144]) {
            check(&vec![b'x'; len]);
            check(&b"0123456789abcdef".repeat(len / 16 + 1)[..len]);
            check(&DICTIONARY.repeat(len / DICTIONARY.len() + 1)[..len]);
        }
    }

    /// Hardly more bytes than `lz4_flex` packs it in, for little more than half of the sequences.
    #[test]
    fn a_completion_is_packed_in_few_sequences() {
        let value = include_bytes!("../../../tests/vectors/completion.json");
        check(value);
        let all = lz4_flex::block::compress_with_dict(value, DICTIONARY);
        let few = pack(value);
        let count = |block| sequences(block).len();
        assert!(few.len() * 100 <= all.len() * 104, "{} and {} bytes", few.len(), all.len());
        assert!(count(&few) * 100 <= count(&all) * 60, "{} and {} sequences", count(&few), count(&all));
    }

    proptest! {
        #[test]
        fn any_bytes_are_packed(words in prop::collection::vec("[a-d]{1,9}", 0..2_000), bytes: Vec<u8>) {
            check(words.concat().as_bytes());
            check(&bytes);
        }
    }
}
