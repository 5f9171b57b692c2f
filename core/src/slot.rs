//! The slots of a cluster: which one a key belongs to.
//!
//! From the Redis Cluster specification, "Key distribution model" and "Hash tags":
//! <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>.

/// The number of slots in a cluster.
pub const SLOTS: u16 = 16_384;

/// The slot of a key: of its hash tag, the part between the first `{` and the next `}`, or of the whole key if there is no
/// such part or it is empty.
pub fn slot_of(key: &[u8]) -> u16 {
    let place = |of: &[u8], wanted: u8| of.iter().position(|&byte| byte == wanted);
    let tag = place(key, b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        rest.get(..place(rest, b'}')?).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM: the polynomial x^16 + x^12 + x^5 + 1, and no inversions.
fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = table();
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = ((byte as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the specification, and slots that a Redis 7.0.15 server told (CLUSTER KEYSLOT).
    #[test]
    fn slots_are_those_of_the_servers() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in [("", 0), ("foo", 12_182), ("{foo}bar", 12_182), ("a{foo}{bar}", 12_182), ("bar", 5_061)] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        // An empty tag, and braces that are not a pair, are part of the name.
        for key in ["{}foo", "foo{}{bar}", "{foo", "}foo{"] {
            assert_eq!(slot_of(key.as_bytes()), crc16(key.as_bytes()) % SLOTS, "{key}");
        }
        assert_eq!(slot_of(b"{{foo}}"), slot_of(b"{foo"));
    }
}
