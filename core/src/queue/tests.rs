use super::*;
use crate::TIME_MAX_MS;
use crate::codec::{Corrupt, Decoder, Encoded, Writer};
use crate::stored::{Stored as _, load_versioned};

const NO_LIMITS: Limits = Limits { max_records: u64::MAX, max_bytes: u64::MAX };

fn saved(queue: &Queue) -> Vec<u8> {
    let mut out = Encoded::default();
    queue.save(&mut out);
    out.0
}

fn loaded(bytes: &[u8]) -> Result<Queue, Corrupt> {
    let mut reader = Decoder::new(bytes);
    let queue = Queue::load(&mut reader, Queue::ENCODING)?;
    reader.finish().map(|()| queue)
}

/// The same queue, saved and loaded as the parts of a rewritten AOF.
fn rewritten(queue: &Queue) -> Queue {
    let mut parts = Vec::new();
    queue.save_parts(&mut |part, payload| parts.push((part, payload.0)));
    let mut copy = Queue::new();
    for (part, bytes) in parts {
        copy.load_part(part, &bytes).unwrap();
    }
    copy
}

fn digest(queue: &Queue) -> Vec<u8> {
    let mut out = Encoded::default();
    queue.digest(&mut out);
    out.0
}

fn run_work(queue: &mut Queue) {
    queue.take_work().into_iter().for_each(|work| work.run(&mut Garbage::default()));
}

fn push(queue: &mut Queue, record: &[u8]) {
    queue.push(1_000, 0, [record], 0);
}

/// A queue of `count` records of `len` bytes, after `popped` earlier records were popped.
fn queue_of(count: u64, len: usize, popped: u64) -> Queue {
    let mut queue = Queue::new();
    (0..popped + count).for_each(|_| push(&mut queue, &vec![7; len]));
    queue.pop(1_000, popped);
    queue
}

fn front(queue: &Queue, now_ms: i64, count: u64) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    queue.peek(now_ms, count, &mut |record, _| records.push(record.to_vec()));
    records
}

fn id(number: u64) -> BatchId {
    BatchId::next(number, 0, 1)
}

mod corrupt;
mod model;

#[test]
fn plans_keep_the_newest_that_fit() {
    let queue = queue_of(5, 10, 0);
    let plan = |lens: &[usize], max_records, max_bytes, when_full| {
        queue.plan_push(1_000, lens.iter().copied(), Limits { max_records, max_bytes }, when_full)
    };
    let dropping = |drop_oldest, skip_new| Ok(PushPlan { drop_oldest, skip_new });
    use WhenFull::{DropOldest, Reject};

    assert_eq!(plan(&[10], 6, 60, Reject), dropping(0, 0));
    assert_eq!(plan(&[10], 5, 60, Reject), Err(PushError::Full));
    assert_eq!(plan(&[10], 6, 59, Reject), Err(PushError::Full));
    assert_eq!(plan(&[10], 5, 60, DropOldest), dropping(1, 0));
    assert_eq!(plan(&[10], 6, 59, DropOldest), dropping(1, 0));
    assert_eq!(plan(&[10], 6, 39, DropOldest), dropping(3, 0));
    // Limits below what the queue holds.
    assert_eq!(plan(&[1], 2, 60, DropOldest), dropping(4, 0));
    assert_eq!(plan(&[1], 2, 60, Reject), Err(PushError::Full));
    // A push of more than the queue may hold.
    assert_eq!(plan(&[10, 20, 30], 2, 60, DropOldest), dropping(5, 1));
    assert_eq!(plan(&[10, 20, 30], 3, 49, DropOldest), dropping(5, 2));
    assert_eq!(plan(&[10, 20, 30], 0, 60, DropOldest), dropping(5, 3));
    // A record that can never fit, at any position.
    assert_eq!(plan(&[10, 61, 30], 9, 60, DropOldest), Err(PushError::TooLarge { index: 1 }));
    assert_eq!(plan(&[10, 61, 30], 9, 60, Reject), Err(PushError::TooLarge { index: 1 }));
    assert_eq!(plan(&[60], 9, 60, DropOldest), dropping(5, 0));
    assert_eq!(plan(&[usize::MAX; 3], 9, u64::MAX, DropOldest), Ok(PushPlan::default()));
}

#[test]
fn leased_records_take_room_and_stay() {
    let mut queue = queue_of(6, 10, 0);
    queue.lease(1_000, BatchLease { id: id(1), until_ms: 2_000, deliveries_max: 1 }, 3);
    let plan = |lens: &[usize], max_records, max_bytes, when_full| {
        queue.plan_push(1_000, lens.iter().copied(), Limits { max_records, max_bytes }, when_full)
    };
    use WhenFull::{DropOldest, Reject};
    assert_eq!(plan(&[10], 6, 99, Reject), Err(PushError::Full));
    assert_eq!(plan(&[10], 7, 99, Reject), Ok(PushPlan::default()));
    assert_eq!(plan(&[10], 6, 99, DropOldest), Ok(PushPlan { drop_oldest: 1, skip_new: 0 }));
    assert_eq!(plan(&[10], 9, 40, DropOldest), Ok(PushPlan { drop_oldest: 3, skip_new: 0 }));
    // Leased records leave room for some of the pushed records only.
    assert_eq!(plan(&[10, 9, 9], 5, 99, DropOldest), Ok(PushPlan { drop_oldest: 3, skip_new: 1 }));
    assert_eq!(plan(&[10, 9, 9], 9, 40, DropOldest), Ok(PushPlan { drop_oldest: 3, skip_new: 2 }));
    assert_eq!(plan(&[10], 3, 99, DropOldest), Ok(PushPlan { drop_oldest: 3, skip_new: 1 }));
    // Leased records alone exceed the limits.
    assert_eq!(plan(&[10, 9], 2, 99, DropOldest), Ok(PushPlan { drop_oldest: 3, skip_new: 2 }));
}

#[test]
fn dead_letters_take_no_room_of_others() {
    let mut queue = queue_of(10, 10, 0);
    for number in [1, 2] {
        queue.lease(1_000, BatchLease { id: id(number), until_ms: 2_000, deliveries_max: number }, 5);
    }
    queue.dead_letter(1_000, id(2));
    let reject = |queue: &Queue, now_ms, count: usize| {
        let limits = Limits { max_records: 10, max_bytes: 100 };
        queue.plan_push(now_ms, std::iter::repeat_n(10, count), limits, WhenFull::Reject)
    };
    assert_eq!((reject(&queue, 1_999, 5), reject(&queue, 1_999, 6)), (Ok(PushPlan::default()), Err(PushError::Full)));
    // The other batch is a dead letter, too, from now on, although no change has moved it yet.
    assert_eq!((reject(&queue, 2_000, 10), reject(&queue, 2_000, 11)), (Ok(PushPlan::default()), Err(PushError::Full)));
    queue.push(2_000, 0, [b"x".as_slice()], 0);
    assert_eq!((queue.dead(2_000).batches, queue.dead_batches().count()), (2, 2));
}

#[test]
fn dead_letters_have_bounds_of_their_own() {
    let mut queue = queue_of(10, 10, 0);
    for number in 1..=5 {
        queue.lease(1_000, BatchLease { id: id(number), until_ms: 2_000, deliveries_max: 9 }, 2);
        queue.dead_letter(1_000, id(number));
    }
    let excess = |queue: &Queue, max_records, max_bytes| queue.excess_dead(Limits { max_records, max_bytes });
    assert_eq!((excess(&queue, 10, 100), excess(&queue, 9, 100), excess(&queue, 10, 99)), (0, 1, 1));
    assert_eq!((excess(&queue, 3, 100), excess(&queue, 10, 20), excess(&queue, 1, 100)), (4, 4, 5));
    queue.drop_excess_dead(4);
    assert_eq!(queue.dead_batches().map(|(id, _)| id).collect::<Vec<_>>(), [id(5)]);
    assert_eq!((queue.counts().dead_dropped, queue.counts().dropped, queue.counts().dead_lettered), (8, 0, 10));
}

#[test]
fn records_of_a_batch_are_given_up_alone() {
    let mut queue = Queue::new();
    let lens = [10, 70_000, 0, 30_000, 30_000, 30_000, 5];
    let records: Vec<Vec<u8>> = lens.iter().zip(1u8..).map(|(len, number)| vec![number; *len]).collect();
    queue.push(1_000, 0, records.iter().map(Vec::as_slice), 0);
    queue.lease(1_000, BatchLease { id: id(1), until_ms: 2_000, deliveries_max: 2 }, 7);
    assert_eq!(queue.batch(id(1)).unwrap().has_any(&[0, 7]), Err(7));
    queue.dead_letter_records(1_000, id(1), id(2), &[4, 1]);
    // The first request is repeated, together with another record: the indexes stay those of the delivery.
    assert_eq!(queue.batch(id(1)).unwrap().has_any(&[1, 4]), Ok(false));
    queue.dead_letter_records(1_000, id(1), id(3), &[4, 6]);
    let of = |queue: &Queue, id| {
        let mut read = Vec::new();
        queue.batch(id).unwrap().visit(&mut |record, _| read.push(record.first().copied().unwrap_or(0)));
        read
    };
    assert_eq!((of(&queue, id(1)), of(&queue, id(2)), of(&queue, id(3))), (vec![1, 0, 4, 6], vec![2, 5], vec![7]));
    let batch = queue.batch(id(1)).unwrap();
    assert_eq!((batch.deliveries(), batch.due_ms(), queue.counts().dead_lettered), (1, 2_000, 3));
    assert_eq!(digest(&loaded(&saved(&queue)).unwrap()), digest(&queue));
    // The next delivery has the remaining records, numbered anew.
    queue.lease_again(2_000, BatchLease { id: id(1), until_ms: 3_000, deliveries_max: 2 });
    assert_eq!(queue.batch(id(1)).unwrap().has_any(&[4]), Err(4));
    queue.dead_letter_records(2_000, id(1), id(4), &[0, 1, 2, 3]);
    assert!(queue.batch(id(1)).is_none());
    assert_eq!((queue.held(2_000).records, queue.dead(2_000).size.records), (0, 7));
}

#[test]
fn ids_are_remembered_for_their_time() {
    let mut queue = Queue::new();
    let push = |queue: &mut Queue, now_ms, id: &[u8], for_ms| {
        queue.push(now_ms, 0, [b"x".as_slice()], 0);
        queue.remember(now_ms, id, for_ms);
    };
    push(&mut queue, 1_000, b"a", 100);
    assert!(queue.is_repeated(1_099, b"a") && !queue.is_repeated(1_100, b"a") && !queue.is_repeated(1_000, b"b"));
    // The clock steps back by 500 ms: 100 ms are left, not 600.
    assert!(queue.is_repeated(500, b"a"));
    push(&mut queue, 500, b"b", 100);
    assert!(queue.is_repeated(599, b"a") && !queue.is_repeated(600, b"a"));
    // No id outlasts a later one that is remembered for a shorter time.
    push(&mut queue, 550, b"c", 10);
    assert!(queue.is_repeated(559, b"b") && !queue.is_repeated(560, b"b"));
    assert_eq!(digest(&loaded(&saved(&queue)).unwrap()), digest(&queue));
    assert_eq!(digest(&rewritten(&queue)), digest(&queue));
}

#[test]
fn no_more_ids_are_remembered_than_there_is_room_for() {
    let mut queue = Queue::new();
    for number in 0..IDS_MAX as u32 + 5 {
        queue.push(1_000, u64::from(number > 0), [b"x".as_slice()], 0);
        queue.remember(1_000, &number.to_le_bytes(), 60_000);
    }
    let is_repeated = |number: u32| queue.is_repeated(1_000, &number.to_le_bytes());
    assert!(!is_repeated(4) && is_repeated(5) && is_repeated(IDS_MAX as u32 + 4));
    assert!(queue.memory_bytes() <= 4 << 20, "{}", queue.memory_bytes());
    assert_eq!(digest(&rewritten(&queue)), digest(&queue));
    assert_eq!(digest(&loaded(&saved(&queue)).unwrap()), digest(&queue));
    // A minute later they are forgotten, a limited number with each change.
    for _ in 0..100 {
        queue.move_exhausted(61_000);
    }
    assert!(queue.memory_bytes() <= 1_024, "{}", queue.memory_bytes());
}

#[test]
fn a_delivery_has_a_number_of_its_own() {
    let mut queue = queue_of(1, 1, 0);
    let lease = BatchLease { id: id(1), until_ms: 9_000, deliveries_max: 2 };
    queue.lease(1_000, lease, 1);
    for number in [2, 4, 6] {
        queue.lease_again(2_000, lease);
        assert_eq!(queue.batch(id(1)).unwrap().deliveries(), number);
        // The second delivery since the batch was requeued, which is what the maximum counts.
        queue.nack(2_000, id(1), 2_000);
        assert_eq!(queue.dead(2_000).batches, 1);
        queue.requeue(2_000, id(1));
        queue.lease_again(2_000, lease);
        queue.nack(2_000, id(1), 2_000);
        assert_eq!(queue.dead(2_000).batches, 0);
    }
    let batch = queue.batch(id(1)).unwrap();
    assert!(batch.is_latest(Some(7)) && batch.is_latest(None));
    assert!(!batch.is_latest(Some(6)) && !batch.is_latest(Some(8)));
}

#[test]
fn a_plan_spares_records_that_take_no_bytes() {
    let mut queue = Queue::new();
    // The empty record ends a block, so the long record has a block to itself.
    queue.push(0, 0, [[7; 10].as_slice(), &[], &[7; 70_000]], 0);
    let limits = Limits { max_records: 9, max_bytes: 70_000 };
    let plan = queue.plan_push(0, [0].into_iter(), limits, WhenFull::DropOldest);
    assert_eq!(plan, Ok(PushPlan { drop_oldest: 1, skip_new: 0 }));
}

#[test]
fn a_batch_comes_back_as_it_was_until_it_is_dead() {
    let mut queue = queue_of(0, 0, 0);
    queue.push(1_000, 0, [b"a".as_slice(), b"b", b"c"], 0);
    let lease = BatchLease { id: id(1), until_ms: 2_000, deliveries_max: 2 };
    assert_eq!(queue.next_batch(1_000, 2, 9), Next::New { records: 2 });
    queue.lease(1_000, lease, 2);
    assert_eq!(queue.next_batch(1_999, 2, 9), Next::New { records: 1 });
    assert_eq!(queue.next_batch(2_000, 1, 1), Next::Again(lease.id));
    assert_eq!(front(&queue, 2_000, 9), [b"a", b"b", b"c"]);
    assert_eq!(front(&queue, 1_999, 9), [b"c"]);
    queue.lease_again(2_000, BatchLease { until_ms: 3_000, ..lease });
    assert_eq!((queue.leased(2_999).size.records, queue.dead(2_999).size.records), (2, 0));
    // No change has moved the batch yet, but it is a dead letter already.
    assert_eq!((queue.leased(3_000).size.records, queue.dead(3_000).size.records), (0, 2));
    assert!(queue.has_exhausted(3_000) && !queue.has_exhausted(2_999));
    assert_eq!(queue.next_batch(3_000, 2, 9), Next::New { records: 1 });
    queue.move_exhausted(3_000);
    assert_eq!((queue.leased(3_000).size.records, queue.dead(3_000).size.records), (0, 2));
    queue.requeue(4_000, lease.id);
    assert_eq!(queue.next_batch(4_000, 2, 9), Next::Again(lease.id));
    queue.ack(4_000, lease.id);
    assert_eq!((queue.held(4_000).records, queue.counts().acked, queue.counts().dead_lettered), (1, 2, 2));
}

#[test]
fn a_clock_that_steps_back_shortens_no_sleep() {
    let mut queue = queue_of(1, 1, 0);
    let lease = BatchLease { id: id(1), until_ms: 1_000_000, deliveries_max: 2 };
    queue.push(990_000, 0, [b"x".as_slice()], 0);
    queue.lease(990_000, lease, 1);
    // The clock goes back: the lease still has ten seconds left.
    assert_eq!(queue.next_batch(500_000, 1, 9), Next::New { records: 1 });
    assert_eq!(queue.next_due_ms(500_000), Some(510_000));
    assert!(queue.is_behind(500_000));
    queue.move_exhausted(500_000);
    assert!(!queue.is_behind(500_000));
    queue.pop(500_000, 1);
    assert_eq!(queue.next_batch(509_999, 1, 9), Next::Nothing);
    assert_eq!(queue.next_batch(510_000, 1, 9), Next::Again(lease.id));
}

#[test]
fn an_effect_that_drops_more_than_there_is_drops_all() {
    let mut queue = queue_of(5, 10, 2);
    queue.push(1_000, 9, [b"new".as_slice()], 1);
    let counts = queue.counts();
    assert_eq!((queue.waiting(1_000).records, counts.popped, counts.dropped, counts.pushed), (1, 2, 6, 9));
    assert_eq!(front(&queue, 1_000, 9), [b"new"]);
}

#[test]
fn counts_never_overflow() {
    let mut queue = queue_of(1, 10, 0);
    queue.push(0, 0, [b"".as_slice(); 3], u64::MAX);
    queue.push(0, 0, [b"".as_slice(); 3], u64::MAX);
    assert_eq!((queue.counts().dropped, queue.counts().pushed), (COUNT_MAX, COUNT_MAX));
    assert_eq!(digest(&loaded(&saved(&queue)).unwrap()), digest(&queue));
}

/// Like the records that a gateway logs: JSON with names, numbers and some text.
fn log_record(number: u64) -> Vec<u8> {
    const WORDS: [&str; 48] = [
        "the",
        "request",
        "is",
        "answered",
        "by",
        "a",
        "model",
        "that",
        "reads",
        "every",
        "token",
        "of",
        "its",
        "context",
        "and",
        "writes",
        "one",
        "more",
        "until",
        "it",
        "stops",
        "so",
        "latency",
        "grows",
        "with",
        "length",
        "while",
        "caches",
        "help",
        "for",
        "repeated",
        "questions",
        "to",
        "in",
        "you",
        "can",
        "use",
        "this",
        "function",
        "error",
        "query",
        "index",
        "table",
        "server",
        "system",
        "database",
        "deploy",
        "python",
    ];
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut record = format!(
        r#"{{"id":"chatcmpl-{:08x}{:08x}","time_ms":{},"latency_ms":{},"api_key":"sk-{:04}","model":"gpt-4o-mini","cost":"0.{:08}","usage":{{"prompt_tokens":{},"completion_tokens":{}}},"response":""#,
        random(),
        random(),
        1_770_000_000_000 + number * 7,
        random() % 9_000,
        random() % 50,
        random() % 3_000_000,
        random() % 4_000,
        random() % 800,
    );
    while record.len() < 1_022 {
        record.push_str(WORDS[(random() % 48) as usize]);
        record.push(' ');
    }
    record.truncate(1_022);
    (record + "\"}").into_bytes()
}

#[test]
fn memory_follows_the_records() {
    let mut queue = Queue::new();
    for number in 0..10_000 {
        queue.push(number as i64, 0, [log_record(number).as_slice()], 0);
    }
    let raw = queue.memory_bytes() / 10_000;
    assert!(raw <= 1_060, "{raw}");
    run_work(&mut queue);
    let packed = queue.memory_bytes() / 10_000;
    assert!(packed <= 350, "{packed}");
    assert!(loaded(&saved(&queue)).unwrap().memory_bytes() <= queue.memory_bytes());
    assert!(saved(&queue).len() / 10_000 <= 360, "{}", saved(&queue).len());
    queue.pop(20_000, 10_000);
    assert!(queue.memory_bytes() <= 640, "{}", queue.memory_bytes());

    // Beyond a number of batches, the others are assumed to be like the first.
    let lease_all = |batches: u64| {
        let mut queue = Queue::new();
        for number in 0..batches {
            (0..5).for_each(|record| queue.push(1_000, 0, [log_record(5 * number + record).as_slice()], 0));
            queue.lease(1_000, BatchLease { id: id(number), until_ms: 2_000, deliveries_max: 3 }, 5);
        }
        queue.memory_bytes() as f64 / batches as f64
    };
    assert!((0.95..1.05).contains(&(lease_all(20_000) / lease_all(400))));

    let small = queue_of(1, 100, 0);
    assert!(small.memory_bytes() <= 640, "{}", small.memory_bytes());
    // A queue that stays short takes little memory, however many records pass through it.
    let mut hovering = queue_of(5, 1_024, 0);
    for _ in 0..10_000 {
        push(&mut hovering, &[7; 1_024]);
        hovering.pop(1_000, 1);
        assert!(hovering.memory_bytes() <= 4 * 5 * 1_024 + 1_024, "{}", hovering.memory_bytes());
    }
    // Records that leave much of a block unused take no memory for the unused part.
    let awkward = queue_of(300, 17_000, 0);
    assert!(awkward.memory_bytes() / 300 <= 19_400, "{}", awkward.memory_bytes() / 300);
    let large = queue_of(3, 1_000_000, 0);
    assert!(large.memory_bytes() <= 3 * (1 << 20) + 1_024, "{}", large.memory_bytes());
}

#[test]
fn large_and_small_records_keep_their_order() {
    let mut queue = Queue::new();
    let lens = [0, 65_514, 65_515, 65_516, 65_536, 0, 1, 200_000, 600_000, 65_536, 0, 10];
    let records: Vec<Vec<u8>> = lens.iter().zip(1u8..).map(|(len, number)| vec![number; *len]).collect();
    queue.push(0, 0, records.iter().map(Vec::as_slice), 0);
    run_work(&mut queue);
    assert_eq!(front(&queue, 0, 99), records);
    for left in (0..lens.len()).rev() {
        assert_eq!(front(&queue, 0, 1), [records[lens.len() - left - 1].clone()]);
        queue.pop(0, 1);
        assert_eq!(queue.waiting(1_000).records, left as u64);
    }
}

#[test]
fn a_measure_ends_at_the_bytes_and_has_one_record() {
    let mut queue = Queue::new();
    queue.push(0, 0, [[7; 10].as_slice(), &[7; 10], &[7; 100_000], &[], &[7; 5]], 0);
    for (count, max_bytes, expected) in
        [(9, 0, 1), (9, 19, 1), (9, 20, 2), (9, 100_020, 4), (1, 99, 1), (0, 99, 0), (9, 1 << 40, 5)]
    {
        assert_eq!(queue.measure(0, count, max_bytes), expected, "{count} {max_bytes}");
    }
    queue.pop(0, 2);
    assert_eq!(queue.measure(0, 9, 1), 1);
}

#[test]
fn nothing_takes_time_in_the_length_of_the_queue() {
    // Each of these touches one record; if one of them walked the queue, this would take hours.
    let mut queue = Queue::new();
    let limits = Limits { max_records: 1_000_000, ..NO_LIMITS };
    for _ in 0..3_000_000 {
        let plan = queue.plan_push(1_000, [8].into_iter(), limits, WhenFull::DropOldest).unwrap();
        queue.push(1_000, plan.drop_oldest, [[7; 8].as_slice()], 0);
        assert_eq!(queue.measure(1_000, 1, 9), 1);
    }
    assert_eq!((queue.waiting(1_000).records, queue.counts().dropped), (1_000_000, 2_000_000));
}
