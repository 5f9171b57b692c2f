//! Targets for bytes in fewer bytes: the cache's values, the queue's blocks, and the encoding of single fields.

use gateway_core::cache::packed::{PACKED_MAX, pack, unpack};
use gateway_core::codec::{Decoder, Encoded, Reader, Writer, get_varint, put_varint};
use gateway_core::queue::{Garbage, Queue};
use gateway_core::stored::{Stored, load_versioned};

use crate::fields::Fields;
use crate::memory::bounded;
use crate::server::START_MS;
use crate::stored::saved;

/// The first four bytes say how long the others are to be unpacked. The whole is also packed, as a cache's value and as
/// records of a queue.
pub fn packed(data: &[u8]) {
    if let Some((len, bytes)) = data.split_first_chunk::<4>() {
        let len = u32::from_le_bytes(*len) as usize % (PACKED_MAX + 1_000);
        let mut room = Vec::new();
        let unpacked = bounded(data.len(), || unpack(bytes, len, &mut room).map(<[u8]>::to_vec));
        if let Ok(value) = unpacked {
            assert_eq!(value.len(), len);
            check_pack(&value);
        }
    }
    check_pack(data);
    // Longer, and with much that repeats.
    check_pack(&data.repeat(9));
    // A block is compressed once it is full, which takes a hundred times as long as all else here.
    if data.first().is_some_and(|first| first % 32 == 0) {
        check_records(data);
    }
}

fn check_pack(value: &[u8]) {
    let Some(packed) = pack(value) else { return };
    assert!(packed.len() < value.len());
    let mut room = vec![7; 10];
    assert_eq!(unpack(&packed, value.len(), &mut room), Ok(value));
    assert!(
        unpack(&packed, value.len() + 1, &mut room).is_err() && unpack(&packed, value.len() - 1, &mut room).is_err()
    );
}

/// Records that are pushed, compressed, saved and loaded are the same records.
fn check_records(data: &[u8]) {
    let long = data.repeat(1 + 70_000 / (data.len() + 1));
    let records: Vec<&[u8]> = data.split(|byte| *byte == b'\n').chain([long.as_slice(), b"last"]).collect();
    let mut queue = Queue::new();
    queue.push(START_MS, 0, records.iter().copied(), 0);
    queue.push(START_MS + 1, 0, records.iter().copied(), 0);
    if let Some(work) = queue.take_work() {
        work.run(&mut Garbage::default());
    }
    let bytes = saved(&queue);
    let mut loaded = load_versioned::<Queue>(&mut Fields::new(&bytes), Queue::ENCODING).expect("a queue loads");
    for queue in [&mut queue, &mut loaded] {
        let mut expected = records.iter().chain(&records);
        queue.peek(START_MS + 1, u64::MAX, &mut |record, _| {
            assert!(expected.next().is_some_and(|expected| *expected == record), "another record");
        });
        assert!(expected.next().is_none(), "a record is missing");
    }
}

/// Fields with tags, as in a rewritten AOF.
pub fn codec(data: &[u8]) {
    let mut at = 0;
    if let Some(value) = get_varint(data, &mut at) {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        assert!(out.len() <= at && at <= 10);
        assert_eq!(get_varint(&out, &mut 0), Some(value));
    }
    #[derive(Debug, PartialEq)]
    enum Field {
        Uint(u64),
        Int(i64),
        Bytes(Vec<u8>),
    }
    let fields = |bytes: &[u8]| {
        let (mut reader, mut fields) = (Decoder::new(bytes), Vec::new());
        loop {
            // A field of another kind is refused, and stays to be read.
            if let Ok(value) = reader.uint() {
                fields.push(Field::Uint(value));
            } else if let Ok(value) = reader.int() {
                fields.push(Field::Int(value));
            } else if let Ok(value) = reader.bytes(bytes.len()) {
                fields.push(Field::Bytes(value));
            } else {
                return (fields, reader.finish().is_ok());
            }
        }
    };
    let (read, _) = bounded(data.len(), || fields(data));
    let mut out = Encoded::default();
    for field in &read {
        match field {
            Field::Uint(value) => out.uint(*value),
            Field::Int(value) => out.int(*value),
            Field::Bytes(value) => out.bytes(value),
        }
    }
    assert!(out.0.len() <= data.len());
    assert_eq!(fields(&out.0), (read, true));
    // A wide integer is two fields.
    let mut reader = Decoder::new(data);
    if let Ok(wide) = reader.int128() {
        let mut out = Encoded::default();
        out.int128(wide);
        assert_eq!(Decoder::new(&out.0).int128(), Ok(wide));
    }
}
