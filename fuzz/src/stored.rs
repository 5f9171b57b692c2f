//! Targets for the encodings of the core's values: what loads is a value like any other.

use gateway_core::codec::{Decoder, Encoded};
use gateway_core::stored::{Stored, load_versioned};

use crate::fields::{Fields, Written};
use crate::memory::bounded;

pub fn saved(value: &impl Stored) -> Vec<u8> {
    let mut out = Written::default();
    value.save(&mut out);
    out.0
}

fn digest(value: &impl Stored) -> Vec<u8> {
    let mut out = Written::default();
    value.digest(&mut out);
    out.0
}

/// Loads the bytes in every version that is read, and checks what becomes of them.
pub fn check<T: Stored + Clone>(data: &[u8]) {
    for encoding in T::ENCODING_MIN..=T::ENCODING {
        let loaded = bounded(data.len(), || load_versioned::<T>(&mut Fields::new(data), encoding));
        if let Ok(value) = loaded {
            check_value(value, data.len());
        }
    }
    for encoding in [T::ENCODING + 1, 1_023, u32::MAX] {
        assert!(load_versioned::<T>(&mut Fields::new(data), encoding).is_err(), "a newer version is read");
    }
}

fn check_value<T: Stored + Clone>(mut value: T, len: usize) {
    let (bytes, same) = (saved(&value), digest(&value));
    // A few fields are saved longer than they may come: a nested version, an integer in its widest form.
    assert!(bytes.len() <= 2 * len + 64, "{len} bytes are saved as {}", bytes.len());

    let mut from = Fields::new(&bytes);
    let again = load_versioned::<T>(&mut from, T::ENCODING).expect("what was saved does not load");
    assert!(from.is_at_end(), "what was saved is not read to its end");
    assert!(digest(&again) == same, "what was saved loads as another value");
    assert!(saved(&again) == bytes, "what was loaded is saved in another form");

    // The form in which a rewritten AOF has it.
    let mut encoded = Encoded::default();
    again.save(&mut encoded);
    let mut from = Decoder::new(&encoded.0);
    let decoded = load_versioned::<T>(&mut from, T::ENCODING).expect("what was encoded does not load");
    assert!(from.finish().is_ok() && digest(&decoded) == same, "what was encoded loads as another value");
    for cut in [1, encoded.0.len() / 2, encoded.0.len().saturating_sub(1)] {
        let mut from = Decoder::new(&encoded.0[..cut.min(encoded.0.len().saturating_sub(1))]);
        assert!(load_versioned::<T>(&mut from, T::ENCODING).is_err(), "a part of a value loads");
    }

    assert!(digest(&value.clone()) == same, "a copy is another value");
    assert!(value.total_bytes() <= (8 << 20) + 512 * len, "{} bytes of {len}", value.total_bytes());
    let _ = value.allocations();
    // Defragmentation: every buffer is moved, with a pause after each.
    let mut from = Some(0);
    while let Some(index) = from {
        from = value.buffers(index, &mut |buffer| {
            let moved = buffer.clone();
            *buffer = moved;
            false
        });
        assert!(from.is_none_or(|next| next > index), "defragmentation does not go on");
    }
    assert!(digest(&value) == same, "a value that was moved is another one");
}
