use redis::Value;

/// The slots of a cluster.
pub(super) const SLOTS: usize = 16_384;

/// The slot of a key: that of its hash tag, if it has one.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&letter| letter == b'{').and_then(|open| {
        let length = key[open + 1..].iter().position(|&letter| letter == b'}')?;
        (length > 0).then(|| &key[open + 1..open + 1 + length])
    });
    let mut sum: u16 = 0;
    for &byte in tag.unwrap_or(key) {
        sum ^= u16::from(byte) << 8;
        for _ in 0..8 {
            sum = if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 };
        }
    }
    sum % SLOTS as u16
}

/// The reply of CLUSTER SLOTS: the first and the last slot of each range, and the address of its primary.
pub(super) fn parse_slots(reply: Value) -> Option<Vec<(u16, u16, String)>> {
    let Value::Array(ranges) = reply else { return None };
    let mut made = Vec::with_capacity(ranges.len());
    for range in ranges {
        let Value::Array(parts) = range else { return None };
        let (Some(Value::Int(first)), Some(Value::Int(last)), Some(Value::Array(primary))) =
            (parts.first(), parts.get(1), parts.get(2))
        else {
            return None;
        };
        let host = match primary.first() {
            Some(Value::BulkString(host)) => String::from_utf8_lossy(host).into_owned(),
            _ => String::new(),
        };
        let Some(Value::Int(port)) = primary.get(1) else { return None };
        made.push((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, format!("{host}:{port}")));
    }
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::slot_of;

    #[test]
    fn slots_are_those_of_the_servers() {
        // From the specification of Redis Cluster.
        assert_eq!(slot_of(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
    }
}
