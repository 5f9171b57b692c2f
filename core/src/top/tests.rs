//! Every count against the naive model.

use std::collections::HashMap;

use super::model::{Counts, Model, Random, Zipf};
use super::*;

fn all_rows(horizons: &mut Horizons, now_ms: i64) -> Vec<Row> {
    horizons.heaviest(now_ms, By::Minute, usize::MAX)
}

/// The share that is never missed, and both bounds of each count.
fn check(rows: &[Row], model: &Model, keys: usize, context: &str) {
    let by_name: HashMap<(&[u8], &[u8]), &Row> = rows.iter().map(|row| ((&*row.key, &*row.label), row)).collect();
    assert_eq!(by_name.len(), rows.len(), "{context}: a name in two rows");
    for (horizon, counts) in [("minute", model.minute()), ("hour", model.hour())] {
        let of = |row: &Row| if horizon == "minute" { row.minute } else { row.hour };
        let exact = |row: &Row| counts.get(&(row.key.to_vec(), row.label.to_vec())).copied().unwrap_or_default();
        for row in rows {
            let (count, exact) = (of(row), exact(row));
            let least = count.saturating_sub(row.error);
            assert!(
                least <= exact && exact <= count,
                "{context}, {horizon}: {exact} is not {count} - {}: {row:?}",
                row.error
            );
        }
        let weight: u128 = counts.values().sum();
        for ((key, label), &count) in &counts {
            let is_heavy = count * (keys as u128 + 1) > weight;
            assert!(!is_heavy || by_name.contains_key(&(&**key, &**label)), "{context}, {horizon}: {key:?} is missed");
        }
    }
}

/// Names as clients make them: short and long keys, some of which differ only after the part that is kept.
fn key_of(number: u64) -> Vec<u8> {
    match number % 7 {
        0 => vec![b'k'; KEY_SHOWN_MAX - 1 + number as usize % 200],
        1 => number.to_le_bytes().to_vec(),
        2 => Vec::new(),
        _ => format!("{{team:{}}}:key:{number}", number % 10).into_bytes(),
    }
}

/// Long keys are shown by their beginnings; of those with the same one, the test has only one.
fn shown(key: &[u8]) -> &[u8] {
    key.get(..KEY_SHOWN_MAX).unwrap_or(key)
}

#[derive(Clone, Copy, Debug)]
enum Stream {
    Zipf(f64),
    Uniform,
    /// New names all the time, which displace each other.
    Fresh,
    /// One name after the other, each for a while.
    Bursts,
}

/// What may happen between two counts.
#[derive(Clone, Copy, Debug)]
enum Clock {
    Steady(u64),
    /// Steps back and ahead, and idle times.
    Stepping,
}

fn run(keys: usize, stream: Stream, clock: Clock, steps: u64, seed: u64) {
    let mut random = Random(seed);
    let names = 2_000;
    let zipf = Zipf::new(names, if let Stream::Zipf(exponent) = stream { exponent } else { 1.0 });
    let mut now_ms = 1_700_000_000_000 + random.below(1_000_000_000) as i64;
    let (mut horizons, mut model) = (Horizons::new(now_ms, keys), Model::new(now_ms));
    let labels: [&[u8]; 3] = [b"", b"rpm", &[b'l'; LABEL_MAX]];
    for step in 0..steps {
        let number = match stream {
            Stream::Zipf(_) => zipf.next(&mut random) as u64,
            Stream::Uniform => random.below(names as u64),
            Stream::Fresh => step,
            Stream::Bursts => step / 300,
        };
        // Long keys only where they differ in the part that is shown.
        let key = key_of(number);
        let key = shown(&key);
        let label = labels[number as usize % 3];
        let weight = match random.below(10) {
            0 => u128::from(random.below(1_000_000_000_000)) * 1_000,
            1..=3 => u128::from(random.below(50) + 1),
            _ => 1,
        };
        match clock {
            Clock::Steady(within_ms) => now_ms += random.below(within_ms) as i64,
            Clock::Stepping => {
                now_ms += match random.below(2_000) {
                    0 => -(random.below(200_000) as i64),
                    1 => random.below(200_000) as i64,
                    2 => random.below(8_000_000) as i64,
                    _ => random.below(100) as i64,
                }
            }
        }
        horizons.add(now_ms, &Name::new(5, key).labelled(Label::new(label)), weight);
        model.add(now_ms, key, label, weight);
        if step % (steps / 25) == steps / 25 - 1 {
            model.advance(now_ms);
            check(&all_rows(&mut horizons, now_ms), &model, keys, &format!("{keys} {stream:?} {clock:?} step {step}"));
        }
    }
}

#[test]
fn counts_are_within_their_bounds_and_heavy_names_are_never_missed() {
    let streams =
        [Stream::Zipf(0.8), Stream::Zipf(1.0), Stream::Zipf(1.5), Stream::Uniform, Stream::Fresh, Stream::Bursts];
    let clocks = [Clock::Steady(10), Clock::Steady(300), Clock::Stepping];
    let mut seed = 17;
    for keys in [1, 2, 16, 128] {
        for stream in streams {
            for clock in clocks {
                seed += 1;
                // 72 runs, more than 10^6 steps.
                run(keys, stream, clock, 15_000, seed);
            }
        }
    }
}

#[test]
fn few_names_are_counted_exactly() {
    let (mut random, mut now_ms) = (Random(3), 1_700_000_000_000);
    let (mut horizons, mut model) = (Horizons::new(now_ms, 16), Model::new(now_ms));
    for _ in 0..20_000 {
        now_ms += random.below(400) as i64;
        let key = format!("key:{}", random.below(16));
        horizons.add(now_ms, &Name::new(5, key.as_bytes()), 3);
        model.add(now_ms, key.as_bytes(), b"", 3);
    }
    let rows = all_rows(&mut horizons, now_ms);
    assert_eq!(rows.len(), 16);
    for row in rows {
        let name = (row.key.to_vec(), Vec::new());
        assert_eq!((row.minute, row.hour, row.error), (model.minute()[&name], model.hour()[&name], 0));
    }
}

#[test]
fn what_is_counted_leaves_the_minute_and_then_the_hour() {
    let at = 1_700_000_000_000 / 300_000 * 300_000;
    let counts = |after_ms: i64| {
        let mut horizons = Horizons::new(at, 4);
        horizons.add(at, &Name::new(5, b"a"), 7);
        horizons.add(at + SPAN_MS - 1, &Name::new(5, b"a"), 2);
        all_rows(&mut horizons, at + after_ms).first().map(|row| (row.minute, row.hour, row.error))
    };
    assert_eq!(counts(4_999), Some((9, 9, 0)));
    assert_eq!(counts(64_999), Some((9, 9, 0)));
    assert_eq!(counts(65_000), Some((0, 9, 0)));
    assert_eq!(counts(3_899_999), Some((0, 9, 0)));
    assert_eq!(counts(3_900_000), None);
    assert_eq!(counts(i64::MAX / 4), None);
    // The clock steps back: nothing is lost.
    assert_eq!(counts(-86_400_000), Some((9, 9, 0)));
}

#[test]
fn a_long_key_is_shown_by_its_beginning_and_is_not_mistaken_for_another() {
    let mut horizons = Horizons::new(0, 8);
    let keys = [vec![b'x'; KEY_SHOWN_MAX], vec![b'x'; KEY_SHOWN_MAX + 1], vec![b'x'; 100_000]];
    for (key, weight) in keys.iter().zip(1..) {
        horizons.add(0, &Name::new(5, key), weight);
    }
    let mut rows = all_rows(&mut horizons, 0);
    rows.sort_by_key(|row| row.hour);
    assert_eq!(rows.iter().map(|row| row.hour).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(rows.iter().all(|row| row.key.len() == KEY_SHOWN_MAX && row.error == 0));
}

#[test]
fn the_floor_is_at_most_the_weight_by_the_number_of_keys() {
    for (keys, seed) in [(1, 1), (3, 2), (20, 3), (128, 4)] {
        let (mut random, mut filtered, mut weight) = (Random(seed), filtered::Filtered::new(keys), 0);
        for step in 0..50_000u64 {
            let own = u128::from(random.below(9) + 1);
            // Names that come once, and come back just when they are given up.
            let name = if step % 3 == 0 { step } else { step % (4 * keys as u64) };
            filtered.add(&Name::new(5, &name.to_le_bytes()), own);
            weight += own;
            let floor = filtered.table().floor();
            assert!(floor * (keys as u128 + 1) <= weight, "{keys} keys, step {step}: {floor} of {weight}");
            assert!(filtered.table().entries().len() <= 2 * keys);
        }
    }
}

#[test]
fn the_largest_weights_do_not_overflow() {
    let mut horizons = Horizons::new(0, 1);
    for number in 0..1_000u64 {
        horizons.add(number as i64 * 700, &Name::new(5, &number.to_le_bytes()), u128::MAX);
        horizons.add(number as i64 * 700, &Name::new(5, b"a"), u128::MAX / 3);
    }
    assert!(all_rows(&mut horizons, 700_000).iter().all(|row| row.hour >= row.minute));
}

#[test]
fn memory_is_bounded_and_given_back_by_lists_that_are_dropped() {
    let keys = 128;
    let mut top = Top::new(keys, 5);
    assert_eq!(top.memory_bytes(), 0);
    let (mut random, mut now_ms) = (Random(9), 0);
    for number in 0..300_000u64 {
        now_ms += random.below(30) as i64;
        let key = [&number.to_le_bytes()[..], &[b'k'; 200]].concat();
        top.deny(now_ms, &Name::new(5, &key).labelled(Label::new(&[b'p'; LABEL_MAX])));
    }
    let bytes = top.memory_bytes();
    // 12 short spans that are over, and 12 long ones with twice the names; two under way with twice their names. An entry
    // takes 48 bytes and its name; a quarter more for rounded sizes, and 400 for indexes and cells.
    let bound = keys * (42 * (48 + KEY_SHOWN_MAX + LABEL_MAX) * 5 / 4 + 400);
    assert!(bytes <= bound, "{bytes} bytes, not {bound}");
}

#[test]
fn meters_that_clients_make_up_take_no_room_from_those_that_are_always_counted() {
    let mut top = Top::new(4, 5);
    let name = Name::new(5, b"k");
    let meters: Vec<_> = (0..20).map(|number| format!("meter:{number}").into_bytes()).collect();
    let counted: Vec<_> = meters.iter().map(|meter| top.charge(0, Meter::of(meter), &name, 1)).collect();
    assert!(counted[..OTHERS_MAX].iter().all(|counted| *counted == Charged::Added), "{counted:?}");
    assert!(counted[OTHERS_MAX..].iter().all(|counted| *counted == Charged::NoRoom), "{counted:?}");
    for (meter, known) in [("requests", Meter::Requests), ("tokens", Meter::Tokens), ("usd", Meter::Usd)] {
        assert_eq!(Meter::of(meter.as_bytes()), known);
        assert_eq!(top.charge(0, known, &name, 1), Charged::Added);
    }
    // After an hour without a count one makes room, except for one that is in use.
    top.charge(3_000_000, Meter::of(&meters[0]), &name, 1);
    assert_eq!(top.charge(4_000_000, Meter::of(&meters[9]), &name, 1), Charged::Added);
    let mut rows = |meter| top.of_meter(4_000_000, meter, By::Hour, 9).len();
    assert_eq!((rows(Meter::of(&meters[0])), rows(Meter::of(&meters[9]))), (1, 1));
    assert_eq!((rows(Meter::Requests), rows(Meter::of(b"unknown"))), (0, 0));
}

/// The number of the true `count` heaviest names that are among the first `count` rows.
fn recall(rows: &[Row], exact: &Counts, count: usize) -> usize {
    let mut truth: Vec<_> = exact.iter().collect();
    truth.sort_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
    let is_shown = |key: &Vec<u8>| rows.iter().take(count).any(|row| *row.key == **key);
    truth.iter().take(count).filter(|((key, _), _)| is_shown(key)).count()
}

#[test]
fn the_heaviest_keys_are_found_among_ten_thousand() {
    let (mut random, zipf) = (Random(5), Zipf::new(10_000, 1.0));
    let (mut horizons, mut model) = (Horizons::new(0, 128), Model::new(0));
    for step in 0..300_000 {
        let now_ms = step * 3 / 5;
        let key = format!("rpm:user:{}", zipf.next(&mut random));
        horizons.add(now_ms, &Name::new(5, key.as_bytes()), 1);
        model.add(now_ms, key.as_bytes(), b"", 1);
    }
    let now_ms = 179_999;
    for (by, exact) in [(By::Minute, model.minute()), (By::Hour, model.hour())] {
        let rows = horizons.heaviest(now_ms, by, 20);
        let found = recall(&rows, &exact, 20);
        println!("{by:?}: {found} of 20; {rows:?}");
        assert!(found >= 19, "{by:?}: {found} of 20");
    }
}

#[test]
fn rows_are_in_the_order_that_is_asked_for() {
    let mut horizons = Horizons::new(0, 8);
    for (at_ms, key, weight) in [(0, "early", 9), (0, "steady", 5), (90_000, "steady", 2), (90_000, "late", 3)] {
        horizons.add(at_ms, &Name::new(5, key.as_bytes()), weight);
    }
    let mut keys = |by, count| -> Vec<String> {
        let rows = horizons.heaviest(90_000, by, count);
        rows.iter().map(|row| String::from_utf8_lossy(&row.key).into_owned()).collect()
    };
    assert_eq!(keys(By::Minute, 9), ["late", "steady", "early"]);
    assert_eq!(keys(By::Hour, 9), ["early", "steady", "late"]);
    assert_eq!((keys(By::Minute, 1), keys(By::Hour, 2)), (vec!["late".into()], vec!["early".into(), "steady".into()]));
}
