//! Anything that is loaded is either refused or can be used like any other queue.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

fn use_it(mut queue: Queue) {
    let now_ms = TIME_MAX_MS;
    let mut held = queue.held(now_ms);
    held += queue.dead(now_ms).size;
    let mut read = Size::default();
    queue.peek(now_ms, u64::MAX, &mut |record, _| read += Size { records: 1, bytes: record.len() as u64 });
    assert!(read.records <= held.records && read.bytes <= held.bytes);
    assert_eq!(digest(&loaded(&saved(&queue)).unwrap()), digest(&queue));
    run_work(&mut queue);
    let half = Limits { max_records: held.records / 2 + 1, max_bytes: held.bytes / 2 + 1 };
    if let Ok(plan) = queue.plan_push(now_ms, [1].into_iter(), half, WhenFull::DropOldest) {
        let new = usize::from(plan.skip_new == 0);
        queue.push(now_ms, plan.drop_oldest, [b"x".as_slice()].into_iter().take(new), plan.skip_new as u64);
    }
    let lease = BatchLease { id: queue.next_id(now_ms, 0, 7), until_ms: now_ms, deliveries_max: 2 };
    match queue.next_batch(now_ms, 2, 100) {
        Next::Again(id) => queue.lease_again(now_ms, BatchLease { id, ..lease }),
        Next::New { records } => queue.lease(now_ms, lease, records),
        Next::Nothing => {}
    }
    let some = queue.leased.batches().iter().find(|(_, batch)| batch.has_any(&[0, 1]) == Ok(true)).map(|(id, _)| id);
    let new_id = queue.next_id(now_ms, 0, 7);
    some.into_iter().for_each(|id| queue.dead_letter_records(now_ms, id, new_id, &[0, 1]));
    queue.pop(0, 1);
    assert_eq!(digest(&rewritten(&queue)), digest(&queue));
    let dead: Vec<_> = queue.dead_batches().map(|(id, _)| id).collect();
    dead.into_iter().for_each(|id| queue.requeue(1, id));
    queue.pop(now_ms, u64::MAX);
    assert_eq!(queue.waiting(now_ms).records, 0);
    queue.move_exhausted(now_ms);
    assert_eq!(queue.leased(now_ms), Tally::default());
}

/// A queue that has all kinds of parts, each with data that can be compressed.
fn filled(lens: &[usize], popped: u64) -> Queue {
    let mut queue = Queue::new();
    for (len, at_ms) in lens.iter().zip(1_000..) {
        queue.push(at_ms, 0, [vec![2; *len].as_slice()], 0);
    }
    queue.lease(2_000, BatchLease { id: id(5), until_ms: 3_000, deliveries_max: 3 }, 2);
    queue.lease(2_000, BatchLease { id: id(6), until_ms: 3_000, deliveries_max: 3 }, 1);
    queue.dead_letter(2_000, id(6));
    queue.push(2_000, 0, [b"once".as_slice(), b"one", b"two", b"three"], 0);
    queue.remember(2_000, b"id", 60_000);
    queue.lease(2_000, BatchLease { id: id(7), until_ms: 3_000, deliveries_max: 3 }, 4);
    queue.dead_letter_records(2_000, id(7), id(8), &[1, 3]);
    queue.pop(2_000, popped);
    queue
}

/// A part that is cut short, has bytes left or is changed anywhere: refused, and nothing of it is in the queue.
#[test]
fn a_part_that_is_refused_changes_nothing() {
    let mut queue = filled(&[1_000; 300], 0);
    (0..50).for_each(|id| queue.remember(2_000, &[id], 60_000));
    let mut parts = Vec::new();
    queue.save_parts(&mut |part, payload| parts.push((part, payload.0)));
    let mut copy = Queue::new();
    for (part, bytes) in parts {
        let before = digest(&copy);
        for end in (0..bytes.len()).step_by(1 + bytes.len() / 500) {
            assert!(copy.load_part(part, &bytes[..end]).is_err());
        }
        assert!(copy.load_part(part, &[&bytes[..], b"u"].concat()).is_err());
        assert!(digest(&copy) == before, "{part:?}");
        copy.load_part(part, &bytes).unwrap();
    }
    assert_eq!(digest(&copy), digest(&queue));
}

#[test]
fn compressed_and_partly_taken_blocks_are_saved_as_they_are() {
    let mut queue = filled(&[1_000; 300], 0);
    run_work(&mut queue);
    queue.push(2_000, 70, [], 0);
    let bytes = saved(&queue);
    assert!(bytes.len() < 70_000, "{}", bytes.len());
    let copy = loaded(&bytes).unwrap();
    assert_eq!((digest(&copy), saved(&copy)), (digest(&queue), bytes));
    use_it(copy);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn any_bytes_are_refused_or_usable(bytes: Vec<u8>) {
        if let Ok(queue) = loaded(&bytes) {
            use_it(queue);
        }
    }

    #[test]
    fn mutated_values_are_refused_or_usable(
        lens in prop::collection::vec(prop_oneof![9 => 0..40usize, 1 => 2_000..3_000usize], 0..12),
        popped in 0..6u64,
        packed: bool,
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        cut: Index,
    ) {
        let mut queue = filled(&lens, popped);
        if packed {
            // A small record closes the block.
            queue.push(2_000, 0, [vec![3; 65_000].as_slice()], 0);
            run_work(&mut queue);
        }
        let mut bytes = saved(&queue);
        if changes.is_empty() {
            prop_assert_eq!(digest(&loaded(&bytes).unwrap()), digest(&queue));
            bytes.truncate(cut.index(bytes.len()));
            prop_assert!(loaded(&bytes).is_err());
        }
        for (place, byte) in changes {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(queue) = loaded(&bytes) {
            use_it(queue);
        }
    }
}

#[test]
fn a_count_reserves_nothing() {
    let mut out = Encoded::default();
    (0..7).for_each(|_| out.uint(0));
    out.int(0);
    [0, 0, 0, u64::MAX].into_iter().for_each(|count| out.uint(count));
    assert_eq!(loaded(&out.0).err(), Some(Corrupt("a field of another kind, or none")));
}

/// A queue of one block with these fields.
fn of_block(
    skipped: u64,
    base_ms: i64,
    index: &[u8],
    data_len: u64,
    packed: u64,
    data: &[u8],
) -> Result<Size, Corrupt> {
    let mut out = Encoded::default();
    (0..7).for_each(|_| out.uint(0));
    out.int(0);
    [0, 0, 0, 1, skipped].into_iter().for_each(|count| out.uint(count));
    out.int(base_ms);
    out.bytes(index);
    out.uint(data_len);
    out.uint(packed);
    out.bytes(data);
    [0, 0].into_iter().for_each(|count| out.uint(count));
    loaded(&out.0).map(|queue| queue.waiting(0))
}

#[test]
fn blocks_that_contradict_themselves_are_refused() {
    let index: &[u8] = &[1, 0, 2, 4];
    assert_eq!(of_block(0, 5, index, 3, 0, b"abc"), Ok(Size { records: 2, bytes: 3 }));
    assert_eq!(of_block(1, 5, index, 3, 0, b"abc"), Ok(Size { records: 1, bytes: 2 }));
    let large = vec![7; 100_000];
    assert_eq!(of_block(0, 5, &[0xa0, 0x8d, 6, 0], 100_000, 0, &large), Ok(Size { records: 1, bytes: 100_000 }));
    // A frame that claims to hold a gigabyte, and one that holds more than it should.
    let bomb = zstd::bulk::compress(&vec![0; 1 << 20], 1).unwrap();
    for refused in [
        of_block(2, 5, index, 3, 0, b"abc"),
        of_block(0, -1, index, 3, 0, b"abc"),
        of_block(0, TIME_MAX_MS, index, 3, 0, b"abc"),
        of_block(0, 5, &[], 0, 0, b""),
        of_block(0, 5, &[1, 0, 2], 3, 0, b"abc"),
        of_block(0, 5, &[1, 0, 1, 0], 3, 0, b"abc"),
        of_block(0, 5, index, 3, 0, b"ab"),
        of_block(0, 5, index, 3, 2, b"abc"),
        of_block(0, 5, index, 3, 1, b"abc"),
        of_block(0, 5, index, 2, 0, b"ab"),
        of_block(0, 5, index, u64::MAX, 0, b"abc"),
        of_block(0, 5, &[0xa0, 0x8d, 6, 0, 0, 0], 100_000, 0, &large),
        of_block(0, 5, index, 3, 1, &bomb),
        of_block(0, 5, &[0x80, 0x80, 0x40, 0], 1 << 20, 1, &bomb),
    ] {
        assert!(refused.is_err(), "{refused:?}");
    }
}

#[test]
fn only_known_versions_are_read() {
    let bytes = saved(&queue_of(3, 10, 1));
    for unknown in [Queue::ENCODING - 1, Queue::ENCODING + 1, u32::MAX] {
        assert!(load_versioned::<Queue>(&mut Decoder::new(&bytes), unknown).is_err());
    }
}

#[test]
fn queues_that_differ_have_different_digests() {
    let queue = |records: &[&[u8]], popped, at_ms| {
        let mut queue = Queue::new();
        queue.push(1_000, 0, [b"x".as_slice(); 3], 0);
        queue.pop(1_000, 3 - popped);
        queue.push(1_000, popped, records.iter().copied(), 0);
        queue.move_exhausted(at_ms);
        digest(&queue)
    };
    let same = queue(&[b"a", b"bc"], 1, 2_000);
    assert_eq!(same, queue(&[b"a", b"bc"], 1, 2_000));
    for other in [
        queue(&[b"ab", b"c"], 1, 2_000),
        queue(&[b"bc", b"a"], 1, 2_000),
        queue(&[b"a", b"bc", b""], 1, 2_000),
        queue(&[b"a", b"bc"], 2, 2_000),
        queue(&[b"a", b"bc"], 1, 2_001),
        queue(&[], 1, 2_000),
    ] {
        assert_ne!(same, other);
    }
}
