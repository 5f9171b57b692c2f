//! Accounts in the database have names; keys of the server are any bytes.

use std::fmt::Write;

/// A key as a text that a database takes: itself, but `\\` for a backslash, and `\xHH` for a zero byte and for each byte
/// that is not of a UTF-8 text. Two keys never have the same name.
pub fn name_of(key: &[u8]) -> String {
    let mut name = String::with_capacity(key.len());
    for chunk in key.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => name.push_str("\\\\"),
                '\0' => name.push_str("\\x00"),
                letter => name.push(letter),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(name, "\\x{byte:02x}");
        }
    }
    name
}

/// The key that has this name; `None` if no key has.
pub fn key_of(name: &str) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('\\') {
        key.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('\\') {
            key.push(b'\\');
            rest = after;
        } else {
            let digits = rest.strip_prefix('x')?.get(..2)?;
            key.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[3..];
        }
    }
    key.extend_from_slice(rest.as_bytes());
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_texts_and_lead_back_to_their_keys() {
        for (key, name) in [
            (&b"team:ml"[..], "team:ml"),
            ("Zoë 🦀".as_bytes(), "Zoë 🦀"),
            (b"a\\b", "a\\\\b"),
            (b"a\\x00", "a\\\\x00"),
            (b"a\0b", "a\\x00b"),
            (b"\xff\xc3", "\\xff\\xc3"),
            (b"", ""),
        ] {
            assert_eq!(name_of(key), name);
            assert_eq!(key_of(name).as_deref(), Some(key));
        }
        for name in ["\\", "\\x", "\\x0", "\\xgg", "\\n", "\\xé"] {
            assert_eq!(key_of(name), None, "{name}");
        }
    }
}
