//! Records as an object: newline-delimited JSON, compressed.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use serde::de::IgnoredAny;

use super::put::Poison;

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// The records that are not JSON.
pub fn poison(records: &[Vec<u8>]) -> Vec<Poison> {
    let reasons = records.iter().enumerate().filter_map(|(index, record)| Some((index, check(record).err()?)));
    reasons.map(|(index, reason)| Poison { index, reason: format!("not JSON: {reason}") }).collect()
}

/// One record a line, otherwise byte for byte as it was pushed; compressed.
pub fn encode_lines(is_gzip: bool, records: &[&[u8]]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::with_capacity(records.iter().map(|record| record.len() + 1).sum());
    for record in records {
        // In JSON, a line break can only be white space between tokens; in a string it would have been
        // written as an escape.
        lines.extend(record.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        lines.push(b'\n');
    }
    if is_gzip {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&lines)?;
        return encoder.finish();
    }
    zstd::bulk::compress(&lines, ZSTD_LEVEL)
}

/// Deeply nested text does no harm: nothing is built from it.
fn check(record: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(record).map_err(|error| error.to_string())?;
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn each_record_is_a_line() {
        let records: [&[u8]; 3] = [b"{\"a\":1.50}", b"[1,\r\n\"\\n\"]", b" null"];
        let lines = b"{\"a\":1.50}\n[1,  \"\\n\"]\n null\n";
        let object = encode_lines(false, &records).unwrap();
        assert_eq!(zstd::bulk::decompress(&object, 1_000).unwrap(), lines);
        let (object, mut read) = (encode_lines(true, &records).unwrap(), Vec::new());
        flate2::read::GzDecoder::new(&*object).read_to_end(&mut read).unwrap();
        assert_eq!(read, lines);
    }

    #[test]
    fn what_is_not_json_is_named() {
        for bad in [b"".to_vec(), b"{\"a\":NaN}".to_vec(), b"\"\xff\"".to_vec(), b"\"\n\"".to_vec(), b"1 2".to_vec()] {
            let found = poison(&[b"{}".to_vec(), bad.clone(), b"1".to_vec(), bad]);
            assert_eq!(found.iter().map(|found| found.index).collect::<Vec<_>>(), [1, 3]);
            assert!(found[0].to_string().starts_with("record 1: not JSON: "), "{}", found[0]);
        }
        let deep = [vec![b'['; 1_000_000], vec![b']'; 1_000_000]].concat();
        assert!(poison(&[deep]).is_empty());
    }
}
