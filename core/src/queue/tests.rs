use super::*;
use crate::codec::{Decoder, Encoded};
use proptest::prelude::*;
use proptest::sample::Index;

const NO_LIMITS: Limits = Limits { max_records: u64::MAX, max_bytes: u64::MAX };

fn saved(queue: &Queue) -> Vec<u8> {
    let mut out = Encoded::default();
    queue.save(&mut out);
    out.0
}

fn loaded(bytes: &[u8]) -> Result<Queue, Corrupt> {
    let mut reader = Decoder::new(bytes);
    let queue = Queue::load(&mut reader, VERSION)?;
    reader.finish().map(|()| queue)
}

fn digest(queue: &Queue) -> Vec<u8> {
    let mut out = Encoded::default();
    queue.digest(&mut out);
    out.0
}

fn push(queue: &mut Queue, record: &[u8]) {
    queue.apply_push(0, [record], 0);
}

/// A queue of `count` records of `len` bytes, after `popped` more that are gone.
fn queue_of(count: u64, len: usize, popped: u64) -> Queue {
    let mut queue = Queue::new();
    (0..popped + count).for_each(|_| push(&mut queue, &vec![7; len]));
    queue.drop_front(popped);
    queue
}

/// The queue by its definition.
#[derive(Debug, Default)]
struct Model {
    records: VecDeque<Vec<u8>>,
    bytes: u64,
    pushed: u64,
    popped: u64,
    dropped: u64,
}

impl Model {
    fn pop(&mut self) -> bool {
        let record = self.records.pop_front();
        self.bytes -= record.as_ref().map_or(0, Vec::len) as u64;
        record.is_some()
    }

    fn push(&mut self, batch: Vec<Vec<u8>>, limits: Limits, when_full: WhenFull) -> Result<PushPlan, PushError> {
        if let Some(index) = batch.iter().position(|record| record.len() as u64 > limits.max_bytes) {
            return Err(PushError::TooLarge { index });
        }
        let over = |model: &Self| model.records.len() as u64 > limits.max_records || model.bytes > limits.max_bytes;
        let (before, new) = (self.records.len() as u64, batch.len());
        self.bytes += batch.iter().map(|record| record.len() as u64).sum::<u64>();
        self.records.extend(batch);
        if over(self) && when_full == WhenFull::Reject {
            while self.records.len() as u64 > before {
                self.bytes -= self.records.pop_back().unwrap().len() as u64;
            }
            return Err(PushError::Full);
        }
        self.pushed += new as u64;
        let mut dropped = 0;
        while over(self) && self.pop() {
            dropped += 1;
        }
        self.dropped += dropped;
        let drop_oldest = dropped.min(before);
        Ok(PushPlan { drop_oldest, skip_new: (dropped - drop_oldest) as usize })
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push { lens: Vec<usize>, limits: Limits, when_full: WhenFull },
    Pop(u64),
    Peek(u64),
    Move { from: usize, count: usize },
    SaveAndLoad,
}

fn record_len() -> impl Strategy<Value = usize> {
    prop_oneof![
        20 => 0..4usize,
        60 => 0..300usize,
        20 => 0..3_000usize,
        2 => 0..70_000usize,
        1 => 65_520..65_540usize,
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let max_records = prop_oneof![1 => 0..4u64, 20 => 0..2_000u64, 300 => Just(u64::MAX)];
    let max_bytes = prop_oneof![1 => 0..400u64, 20 => 0..2_000_000u64, 300 => Just(u64::MAX)];
    (max_records, max_bytes).prop_map(|(max_records, max_bytes)| Limits { max_records, max_bytes })
}

fn step() -> impl Strategy<Value = Step> {
    let when_full = prop_oneof![Just(WhenFull::DropOldest), Just(WhenFull::Reject)];
    prop_oneof![
        400 => (prop::collection::vec(record_len(), 1..5), limits(), when_full)
            .prop_map(|(lens, limits, when_full)| Step::Push { lens, limits, when_full }),
        300 => (1..4u64).prop_map(Step::Pop),
        1 => (0..2_000u64).prop_map(Step::Pop),
        200 => (0..20u64).prop_map(Step::Peek),
        10 => (0..8usize, 1..4usize).prop_map(|(from, count)| Step::Move { from, count }),
        2 => Just(Step::SaveAndLoad),
    ]
}

/// The `number`th record: any two differ where their length allows it.
fn record(number: u64, len: usize) -> Vec<u8> {
    let mut record = vec![number as u8; len];
    record.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, of_number)| *byte = of_number);
    record
}

fn assert_same(queue: &Queue, model: &Model) -> Result<(), TestCaseError> {
    prop_assert!(queue.front(u64::MAX).eq(model.records.iter().map(Vec::as_slice)));
    prop_assert!(queue.chunks().flatten().eq(queue.front(u64::MAX)));
    for chunk in queue.chunks() {
        let bytes: usize = chunk.clone().map(<[u8]>::len).sum();
        prop_assert!(chunk.len() > 0 && chunk.len() <= 512 && (bytes <= 65_536 || chunk.len() == 1));
    }
    Ok(())
}

proptest! {
    // A million steps in all.
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_queue_does_what_its_definition_says(steps in prop::collection::vec(step(), 2_000)) {
        let (mut queue, mut replica, mut model) = (Queue::new(), Queue::new(), Model::default());
        let mut number = 0;
        for step in steps {
            match step {
                Step::Push { lens, limits, when_full } => {
                    let batch: Vec<_> = lens.iter().map(|len| { number += 1; record(number, *len) }).collect();
                    let plan = queue.plan_push(lens.iter().copied(), limits, when_full);
                    if let Ok(PushPlan { drop_oldest, skip_new }) = plan {
                        for each in [&mut queue, &mut replica] {
                            let stored = batch.iter().skip(skip_new).map(Vec::as_slice);
                            each.apply_push(drop_oldest, stored, skip_new as u64);
                        }
                    }
                    prop_assert_eq!(plan, model.push(batch, limits, when_full));
                }
                Step::Pop(count) => {
                    prop_assert_eq!(queue.front(count).len() as u64, count.min(queue.len()));
                    let popped = (0..count).take_while(|_| model.pop()).count() as u64;
                    prop_assert_eq!(queue.drop_front(count), popped);
                    replica.drop_front(count);
                    model.popped += popped;
                }
                Step::Peek(count) => {
                    let oldest = model.records.iter().take(count as usize).map(Vec::as_slice);
                    prop_assert!(queue.front(count).eq(oldest));
                }
                Step::Move { from, count } => {
                    let mut left = count;
                    let next = queue.buffers(from, &mut |buffer| {
                        let mut moved = Vec::with_capacity(buffer.capacity());
                        moved.append(buffer);
                        *buffer = moved;
                        left -= 1;
                        left > 0
                    });
                    let end = queue.blocks.len();
                    prop_assert_eq!(next, (from + count < end).then_some(from + count));
                    prop_assert_eq!(count - left, count.min(end.saturating_sub(from)));
                }
                Step::SaveAndLoad => {
                    assert_same(&queue, &model)?;
                    let copy = loaded(&saved(&queue)).unwrap();
                    prop_assert_eq!(digest(&copy), digest(&queue));
                    replica = copy;
                }
            }
            prop_assert_eq!((queue.len(), queue.bytes()), (model.records.len() as u64, model.bytes));
            let counts = (queue.pushed(), queue.popped(), queue.dropped());
            prop_assert_eq!(counts, (model.pushed, model.popped, model.dropped));
        }
        assert_same(&queue, &model)?;
        // Blocks of another history, and a copy, are the same queue.
        prop_assert_eq!(digest(&replica), digest(&queue));
        prop_assert_eq!(digest(&queue.clone()), digest(&queue));
    }
}

/// Whatever was loaded can be used like any other queue.
fn use_it(mut queue: Queue) {
    assert_eq!(queue.front(u64::MAX).count() as u64, queue.len());
    assert_eq!(queue.front(u64::MAX).map(|record| record.len() as u64).sum::<u64>(), queue.bytes());
    let half = Limits { max_records: queue.len() / 2 + 1, max_bytes: queue.bytes() / 2 + 1 };
    let plan = queue.plan_push([1].into_iter(), half, WhenFull::DropOldest).unwrap();
    queue.apply_push(plan.drop_oldest, [b"x".as_slice()], u64::MAX);
    assert!(queue.len() <= half.max_records && queue.bytes() <= half.max_bytes);
    assert_eq!(digest(&loaded(&saved(&queue)).unwrap()), digest(&queue));
    assert!(queue.pushed() >= queue.len());
    queue.drop_front(u64::MAX);
    assert_eq!((queue.len(), queue.bytes(), queue.blocks.len()), (0, 0, 0));
}

/// Fields as [`Queue::save`] writes them, with a block here and there that is none and numbers that need not agree.
fn saved_badly() -> impl Strategy<Value = Vec<u8>> {
    // Each with the records in it and their bytes. The second has a longer length than it needs.
    let block = prop_oneof![
        6 => Just((vec![1, 7, 0, 2, 7, 7], 3, 3)),
        3 => Just((vec![0x81, 0, 7], 1, 1)),
        1 => prop::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| (bytes, 1, 1)),
        1 => Just((vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], 1, u64::MAX)),
    ];
    let off_by = || prop_oneof![6 => Just(0), 1 => 0..3u64, 1 => Just(u64::MAX), 1 => any::<u64>()];
    let offs = [off_by(), off_by(), off_by(), off_by()];
    (offs, prop::collection::vec(block, 0..4)).prop_map(|(offs, blocks)| {
        let sum = |value: fn(&(Vec<u8>, u64, u64)) -> u64| blocks.iter().map(value).fold(0, u64::wrapping_add);
        let mut out = Encoded::default();
        for (value, off) in [3, 3, sum(|block| block.1), sum(|block| block.2)].into_iter().zip(offs) {
            out.uint(value.wrapping_add(off));
        }
        blocks.iter().for_each(|block| out.bytes(&block.0));
        out.0
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn corrupt_values_are_refused_or_usable(bytes in prop_oneof![saved_badly(), any::<Vec<u8>>()]) {
        if let Ok(queue) = loaded(&bytes) {
            use_it(queue);
        }
    }

    #[test]
    fn mutated_values_are_refused_or_usable(
        lens in prop::collection::vec(0..40usize, 0..12),
        popped in 0..6u64,
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        cut: Index,
    ) {
        let mut queue = Queue::new();
        lens.iter().for_each(|len| push(&mut queue, &vec![2; *len]));
        queue.drop_front(popped);
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
    /// Four numbers that promise one record of ten bytes, and no record.
    struct Promise(Vec<u64>);
    impl Reader for Promise {
        fn uint(&mut self) -> Result<u64, Corrupt> {
            self.0.pop().ok_or(Corrupt("nothing"))
        }
        fn int(&mut self) -> Result<i64, Corrupt> {
            Err(Corrupt("nothing"))
        }
        fn bytes(&mut self, max_len: usize) -> Result<Vec<u8>, Corrupt> {
            assert_eq!(max_len, 10 + 10);
            Err(Corrupt("nothing"))
        }
    }
    assert_eq!(Queue::load(&mut Promise(vec![10, 1, 0, 0]), VERSION).err(), Some(Corrupt("nothing")));

    let mut out = Encoded::default();
    [0, 0, COUNT_MAX, COUNT_MAX].into_iter().for_each(|count| out.uint(count));
    assert_eq!(loaded(&out.0).err(), Some(Corrupt("a field of another kind, or none")));
}

#[test]
fn numbers_that_contradict_the_records_are_refused() {
    let block: &[u8] = &[1, 7, 2, 7, 7];
    let load = |popped, dropped, len, bytes, blocks: &[&[u8]]| {
        let mut out = Encoded::default();
        [popped, dropped, len, bytes].into_iter().for_each(|count| out.uint(count));
        blocks.iter().for_each(|block| out.bytes(block));
        loaded(&out.0).map(|queue| (queue.len(), queue.bytes()))
    };
    assert_eq!(load(1, COUNT_MAX, 2, 3, &[block]), Ok((2, 3)));
    assert_eq!(load(COUNT_MAX, 1, 4, 6, &[block, block]), Ok((4, 6)));
    for refused in [
        load(COUNT_MAX + 1, 0, 2, 3, &[block]),
        load(0, COUNT_MAX + 1, 2, 3, &[block]),
        load(0, 0, 1, 3, &[block]),
        load(0, 0, 3, 3, &[block]),
        load(0, 0, 2, 2, &[block]),
        load(0, 0, 2, 4, &[block]),
        load(0, 0, 0, 1, &[]),
        load(0, 0, 0, 0, &[block]),
        load(0, 0, 2, 3, &[&[], block]),
        load(0, 0, 2, 3, &[&block[..4]]),
        load(0, 0, u64::MAX, 3, &[block]),
        load(0, 0, 2, u64::MAX, &[block]),
    ] {
        assert!(refused.is_err(), "{refused:?}");
    }
}

#[test]
fn queues_that_differ_have_different_digests() {
    let queue = |records: &[&[u8]], popped, dropped| {
        let mut queue = Queue::new();
        queue.apply_push(0, records.iter().copied(), 0);
        queue.set_counts(popped, dropped).unwrap();
        digest(&queue)
    };
    let same = queue(&[b"a", b"bc"], 1, 2);
    assert_eq!(same, queue(&[b"a", b"bc"], 1, 2));
    for other in [
        queue(&[b"ab", b"c"], 1, 2),
        queue(&[b"bc", b"a"], 1, 2),
        queue(&[b"a", b"bc", b""], 1, 2),
        queue(&[b"a", b"bc"], 2, 1),
        queue(&[b"a", b"bc"], 1, 3),
        queue(&[], 1, 2),
    ] {
        assert_ne!(same, other);
    }
}

#[test]
fn only_known_versions_are_read() {
    let bytes = saved(&queue_of(3, 10, 1));
    for version in [VERSION - 1, VERSION + 1, u32::MAX] {
        assert!(Queue::load(&mut Decoder::new(&bytes), version).is_err());
    }
}

#[test]
fn plans_keep_the_newest_that_fit() {
    let queue = queue_of(5, 10, 0);
    let plan = |lens: &[usize], max_records, max_bytes, when_full| {
        queue.plan_push(lens.iter().copied(), Limits { max_records, max_bytes }, when_full)
    };
    let dropping = |drop_oldest, skip_new| Ok(PushPlan { drop_oldest, skip_new });
    use WhenFull::{DropOldest, Reject};

    assert_eq!(plan(&[10], 6, 60, Reject), dropping(0, 0));
    assert_eq!(plan(&[10], 5, 60, Reject), Err(PushError::Full));
    assert_eq!(plan(&[10], 6, 59, Reject), Err(PushError::Full));
    assert_eq!(plan(&[10], 5, 60, DropOldest), dropping(1, 0));
    assert_eq!(plan(&[10], 6, 59, DropOldest), dropping(1, 0));
    assert_eq!(plan(&[10], 6, 39, DropOldest), dropping(3, 0));
    // Limits below what is there.
    assert_eq!(plan(&[1], 2, 60, DropOldest), dropping(4, 0));
    assert_eq!(plan(&[1], 2, 60, Reject), Err(PushError::Full));
    // A batch larger than the queue may be.
    assert_eq!(plan(&[10, 20, 30], 2, 60, DropOldest), dropping(5, 1));
    assert_eq!(plan(&[10, 20, 30], 3, 49, DropOldest), dropping(5, 2));
    assert_eq!(plan(&[10, 20, 30], 0, 60, DropOldest), dropping(5, 3));
    // A record that never fits, wherever it stands.
    assert_eq!(plan(&[10, 61, 30], 9, 60, DropOldest), Err(PushError::TooLarge { index: 1 }));
    assert_eq!(plan(&[10, 61, 30], 9, 60, Reject), Err(PushError::TooLarge { index: 1 }));
    assert_eq!(plan(&[60], 9, 60, DropOldest), dropping(5, 0));
    assert_eq!(plan(&[usize::MAX; 3], 9, u64::MAX, DropOldest), Ok(PushPlan::default()));
}

#[test]
fn a_plan_spares_records_that_take_no_bytes() {
    let mut queue = Queue::new();
    // The empty record ends a block: the next one has a block to itself.
    queue.apply_push(0, [[7; 10].as_slice(), &[], &[7; 70_000]], 0);
    let limits = Limits { max_records: 9, max_bytes: 70_000 };
    let plan = queue.plan_push([0].into_iter(), limits, WhenFull::DropOldest);
    assert_eq!(plan, Ok(PushPlan { drop_oldest: 1, skip_new: 0 }));
}

#[test]
fn chunks_are_bounded_in_records_and_bytes() {
    let chunks = |queue: &Queue| queue.chunks().map(|chunk| chunk.len()).collect::<Vec<_>>();
    assert!(chunks(&Queue::new()).is_empty());
    assert_eq!(chunks(&queue_of(1_500, 0, 30)), [512, 512, 476]);
    assert_eq!(chunks(&queue_of(130, 1_024, 5)), [64, 64, 2]);
    assert_eq!(chunks(&queue_of(2, 70_000, 0)), [1, 1]);
}

#[test]
fn an_effect_that_drops_more_than_there_is_drops_all() {
    let mut queue = queue_of(5, 10, 2);
    queue.apply_push(9, [b"new".as_slice()], 1);
    assert_eq!((queue.len(), queue.popped(), queue.dropped(), queue.pushed()), (1, 2, 6, 9));
    assert_eq!(queue.front(9).collect::<Vec<_>>(), [b"new"]);
}

#[test]
fn counts_never_overflow() {
    let mut queue = queue_of(1, 10, 0);
    assert!(queue.set_counts(COUNT_MAX + 1, 0).is_err() && queue.set_counts(0, u64::MAX).is_err());
    assert_eq!((queue.popped(), queue.dropped()), (0, 0));
    queue.set_counts(COUNT_MAX, COUNT_MAX).unwrap();
    queue.apply_push(0, [b"".as_slice(); 3], u64::MAX);
    queue.drop_front(2);
    assert_eq!((queue.popped(), queue.dropped(), queue.pushed()), (COUNT_MAX, COUNT_MAX, 2 * COUNT_MAX + 2));
    assert_eq!(digest(&loaded(&saved(&queue)).unwrap()), digest(&queue));
}

#[test]
fn memory_follows_the_records() {
    let long = queue_of(10_000, 1_024, 0);
    assert!(long.memory_bytes() / 10_000 <= 1_050, "{}", long.memory_bytes());
    assert!(long.allocations() <= 161, "{}", long.allocations());
    let (queue, popped) = (queue_of(0, 1_024, 10_000), queue_of(100, 1_024, 10_000));
    assert!(queue.memory_bytes() <= 256, "{}", queue.memory_bytes());
    assert!(popped.memory_bytes() <= 100 * 1_024 + 2 * 65_536 + 8_192, "{}", popped.memory_bytes());

    let small = queue_of(1, 100, 0);
    assert!(small.memory_bytes() <= 320, "{}", small.memory_bytes());
    // Short for ever, however much goes through.
    let mut hovering = queue_of(5, 1_024, 0);
    for _ in 0..10_000 {
        push(&mut hovering, &[7; 1_024]);
        hovering.drop_front(1);
        assert!(hovering.memory_bytes() <= 4 * 5 * 1_024 + 256, "{}", hovering.memory_bytes());
    }
    // The next block of a long queue is allocated whole, not grown.
    let next_block = queue_of(63 * 10 + 1, 1_024, 0);
    assert_eq!(next_block.blocks.back().map(|block| block.buffer().capacity()), Some(BLOCK_BYTES));
    // Records that leave much of a block unused do not pay for it.
    let awkward = queue_of(300, 17_000, 0);
    assert!(awkward.memory_bytes() / 300 <= 19_200, "{}", awkward.memory_bytes() / 300);
    let large = queue_of(3, 1_000_000, 0);
    assert!(large.memory_bytes() <= 3 * (1 << 20) + 256, "{}", large.memory_bytes());
}

#[test]
fn large_and_small_records_keep_their_order() {
    let mut queue = Queue::new();
    let lens = [0, 65_532, 65_533, 65_534, 0, 1, 200_000, 65_536, 0, 10];
    let records: Vec<_> = lens.iter().zip(1..).map(|(len, number)| record(number, *len)).collect();
    queue.apply_push(0, records.iter().map(Vec::as_slice), 0);
    assert!(queue.front(99).eq(records.iter().map(Vec::as_slice)));
    for left in (0..lens.len()).rev() {
        assert_eq!(queue.front(1).next(), records.get(lens.len() - left - 1).map(Vec::as_slice));
        assert_eq!(queue.drop_front(1), 1);
        assert_eq!(queue.len(), left as u64);
    }
}

#[test]
fn nothing_takes_time_in_the_length_of_the_queue() {
    // Each of these touches one record; were one to walk the queue, this would take hours.
    let mut queue = Queue::new();
    let limits = Limits { max_records: 1_000_000, ..NO_LIMITS };
    for _ in 0..3_000_000 {
        let plan = queue.plan_push([8].into_iter(), limits, WhenFull::DropOldest).unwrap();
        queue.apply_push(plan.drop_oldest, [[7; 8].as_slice()], 0);
        assert_eq!(queue.front(1).len(), 1);
    }
    assert_eq!((queue.len(), queue.dropped()), (1_000_000, 2_000_000));
}
