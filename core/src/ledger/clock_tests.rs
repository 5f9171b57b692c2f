//! Holds when the clock steps.

use super::tests::{NOW_MS, money};
use super::*;
use crate::calendar::{Day, Period};

fn day() -> Day {
    Day::from_number(20_119).expect("a day")
}

fn stamp(at_ms: i64) -> Stamp {
    Stamp { at_ms, keep_days: KEEP_DAYS_MIN, remember_ms: 60_000, version: 0 }
}

/// What a node does on a query: it follows the clock if it has stepped back.
fn look(ledger: &mut Ledger, now_ms: i64) {
    if ledger.is_ahead_of(now_ms) {
        ledger.forget(now_ms);
    }
}

fn left_ms(ledger: &Ledger, now_ms: i64) -> Option<i64> {
    ledger.holds(now_ms).next().map(|(.., left_ms)| left_ms)
}

#[test]
fn a_hold_lasts_as_granted_if_the_clock_steps_back() {
    let mut ledger = Ledger::new();
    ledger.hold(b"h", day(), money("1"), NOW_MS + 1_000, &stamp(NOW_MS));
    let back_ms = NOW_MS - 20_000;
    look(&mut ledger, back_ms);
    assert_eq!(left_ms(&ledger, back_ms), Some(1_000));
    look(&mut ledger, back_ms + 400);
    assert_eq!(left_ms(&ledger, back_ms + 400), Some(600));
    assert_eq!(ledger.held(back_ms + 999, Period::Total, day()), money("1"));
    assert_eq!(ledger.held(back_ms + 1_000, Period::Total, day()), money("0"));
    assert!(matches!(ledger.state(back_ms + 1_000, b"h"), Some(IdState::Expired { .. })));
}

/// A charge without an id follows the clock, too: [`Ledger::has_due`] says that it has to.
#[test]
fn a_charge_follows_the_clock() {
    let mut ledger = Ledger::new();
    ledger.hold(b"h", day(), money("1"), NOW_MS + 1_000, &stamp(NOW_MS));
    let back_ms = NOW_MS - 20_000;
    assert!(!ledger.has_due(NOW_MS) && ledger.has_due(back_ms));
    ledger.forget(back_ms);
    assert_eq!(left_ms(&ledger, back_ms + 400), Some(600));
}

/// A million steps of a clock that runs, and is set from time to time. Measured in real time, a hold lasts as long as
/// it was made for, with two exceptions. It is shorter by steps forward. It is longer if the ledger cannot know that
/// its clock has stepped back: it knows only the time of its last change, so a hold can gain at most the time between
/// two changes, and never more than the step. A query that finds the ledger ahead of its clock is such a change.
#[test]
fn a_hold_outlasts_its_time_only_by_what_lies_between_two_changes() {
    struct Open {
        id: u64,
        ends_at_real_ms: i64,
        /// The steps forward that can have ended it early.
        forward_ms: i64,
        /// How much longer it may last, as of the last change.
        late_ms: i64,
    }
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |end: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % end).cast_signed()
    };
    let (mut ledger, mut replica) = (Ledger::new(), Ledger::new());
    let (mut real_ms, mut now_ms, mut last_id) = (0, NOW_MS, 0);
    // As of the last change.
    let (mut changed_at_real_ms, mut back_ms) = (0, 0);
    let mut open: Vec<Open> = Vec::new();
    let (mut late, mut in_time) = (0, 0);
    for step in 0..1_000_000 {
        let elapsed_ms = below(40);
        (real_ms, now_ms) = (real_ms + elapsed_ms, now_ms + elapsed_ms);
        match below(60) {
            0 => {
                let by_ms = below(30_000);
                (now_ms, back_ms) = (now_ms - by_ms, back_ms + by_ms);
            }
            1 => {
                let by_ms = below(300);
                now_ms += by_ms;
                open.iter_mut().for_each(|hold| hold.forward_ms += by_ms);
            }
            _ => {}
        }
        let asks = below(2) == 0 && ledger.is_ahead_of(now_ms);
        let adds = below(4) == 0;
        if asks || adds {
            let late_ms = back_ms.min(real_ms - changed_at_real_ms);
            open.iter_mut().for_each(|hold| hold.late_ms += late_ms);
            (changed_at_real_ms, back_ms) = (real_ms, 0);
        }
        if asks {
            ledger.forget(now_ms);
            replica.forget(now_ms);
        }
        if adds {
            last_id += 1;
            let ttl_ms = 1 + below(1_500);
            for ledger in [&mut ledger, &mut replica] {
                ledger.hold(&last_id.to_string().into_bytes(), day(), money("1"), now_ms + ttl_ms, &stamp(now_ms));
            }
            open.push(Open { id: last_id, ends_at_real_ms: real_ms + ttl_ms, forward_ms: 0, late_ms: 0 });
        }
        let live: Vec<(u64, i64)> = ledger
            .holds(now_ms)
            .map(|(id, _, _, left_ms)| (std::str::from_utf8(id).expect("digits").parse().expect("a number"), left_ms))
            .collect();
        let found = live.iter().filter(|(id, _)| open.iter().any(|hold| hold.id == *id)).count();
        assert_eq!(found, live.len(), "{step}: a hold came back after a change that had ended it");
        let late_ms = back_ms.min(real_ms - changed_at_real_ms);
        open.retain(|hold| {
            let ends_after_ms = hold.ends_at_real_ms - real_ms;
            match live.iter().find(|(id, _)| *id == hold.id) {
                Some((_, left_ms)) => {
                    let id = hold.id;
                    assert!(*left_ms <= ends_after_ms + hold.late_ms + late_ms, "{step}: {id} outlasts its time");
                    assert!(*left_ms >= ends_after_ms - hold.forward_ms, "{step}: {id} is cut short");
                    true
                }
                None => {
                    assert!(ends_after_ms <= hold.forward_ms, "{step}: hold {} ended early", hold.id);
                    let ended = asks || adds;
                    late += u64::from(ended && hold.late_ms > 0);
                    in_time += u64::from(ended && hold.late_ms == 0);
                    !ended
                }
            }
        });
        if step % 1_000 == 0 {
            assert_eq!(ledger, replica);
        }
    }
    assert!(late > 10_000 && in_time > 10_000, "{late} {in_time}");
}
