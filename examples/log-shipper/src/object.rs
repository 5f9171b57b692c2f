//! A batch as an object: newline-delimited JSON, compressed.

use serde::de::IgnoredAny;
use std::fmt;
use std::io;

/// zstd's own default.
const LEVEL: i32 = 3;

#[derive(Debug)]
pub enum Error {
    /// Record `index`, from 0, is no JSON text.
    NotJson {
        index: usize,
        reason: String,
    },
    Compression(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson { index, reason } => write!(f, "record {index} is not JSON: {reason}"),
            Self::Compression(error) => write!(f, "cannot compress: {error}"),
        }
    }
}

/// One record a line, otherwise byte for byte as they are.
pub fn encode(records: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
    let mut lines = Vec::with_capacity(records.iter().map(|record| record.len() + 1).sum());
    for (index, record) in records.iter().enumerate() {
        check(record).map_err(|reason| Error::NotJson { index, reason })?;
        // In JSON a line break is white space between tokens; in a string it would have been written as \n.
        lines.extend(record.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        lines.push(b'\n');
    }
    zstd::bulk::compress(&lines, LEVEL).map_err(Error::Compression)
}

/// Deeply nested text is no danger: nothing is built from it.
fn check(record: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(record).map_err(|error| error.to_string())?;
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_is_a_line() {
        let records = [b"{\"a\":1.50}".to_vec(), b"[1,\r\n\"\\n\"]".to_vec(), b" null".to_vec()];
        let object = encode(&records).unwrap();
        let lines = zstd::bulk::decompress(&object, 1_000).unwrap();
        assert_eq!(lines, b"{\"a\":1.50}\n[1,  \"\\n\"]\n null\n");
    }

    #[test]
    fn what_is_not_json_is_named() {
        for bad in [b"".to_vec(), b"{\"a\":NaN}".to_vec(), b"\"\xff\"".to_vec(), b"\"\n\"".to_vec(), b"1 2".to_vec()] {
            let error = encode(&[b"{}".to_vec(), bad]).unwrap_err().to_string();
            assert!(error.starts_with("record 1 is not JSON: "), "{error}");
        }
        let deep = [vec![b'['; 1_000_000], vec![b']'; 1_000_000]].concat();
        assert!(encode(&[deep]).is_ok());
    }
}
