use super::line::*;
use super::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const NOW: i64 = 1_700_000_000_000;
const TTL_MS: u64 = 50;

/// A line by its definition: a list of those that wait, in the order in which they came.
#[derive(Default)]
struct Model(Vec<(u8, u64, Vec<u32>)>);

impl Model {
    fn join(&mut self, holder: u8, max: u64, client: u32) {
        match self.0.iter_mut().find(|place| place.0 == holder) {
            Some(place) => {
                place.1 = max;
                place.2.push(client);
            }
            None => self.0.push((holder, max, vec![client])),
        }
    }

    fn leave(&mut self, client: u32) {
        self.0.iter_mut().for_each(|place| place.2.retain(|&other| other != client));
        self.0.retain(|place| !place.2.is_empty());
    }

    fn take_first(&mut self, in_use: u64) -> Option<(u8, u64, Vec<u32>)> {
        let at = self.0.iter().position(|place| place.1 > in_use)?;
        Some(self.0.remove(at))
    }
}

#[derive(Debug, Clone)]
enum Op {
    /// A call that waits if there is no slot, or if somebody is ahead of it.
    Wait {
        max: u64,
    },
    /// A call that is denied instead.
    Try {
        max: u64,
    },
    Release,
    /// The client that joined so many clients ago disconnects.
    Gone(u32),
}

fn steps() -> impl Strategy<Value = Vec<(i64, u8, Op)>> {
    let max = prop_oneof![6 => Just(3u64), 1 => 0u64..8];
    let op = prop_oneof![
        8 => max.clone().prop_map(|max| Op::Wait { max }),
        3 => max.prop_map(|max| Op::Try { max }),
        4 => Just(Op::Release),
        2 => (0u32..30).prop_map(Op::Gone),
    ];
    prop::collection::vec((0i64..12, 0u8..40, op), 1..1_000)
}

/// Serves all that can be served, from the line and from the model, and compares.
fn serve(leases: &mut Leases, line: &mut Line<u32>, model: &mut Model, now_ms: i64) -> Result<(), TestCaseError> {
    loop {
        let in_use = leases.in_use(now_ms);
        let place = line.first(in_use).and_then(|number| line.take(number));
        let expected = model.take_first(in_use);
        let found = place.as_ref().map(|place| (place.holder[0], place.max, place.clients.clone()));
        prop_assert_eq!(&found, &expected);
        let Some(place) = place else { return Ok(()) };
        leases.grant(now_ms, place.max, &place.holder, place.ttl_ms, 0);
        prop_assert!(leases.in_use(now_ms) <= place.max, "more than the maximum of the one that was served");
    }
}

#[test]
fn slots_go_to_the_first_whose_maximum_allows_over_a_million_steps() {
    let config = ProptestConfig { cases: 2_300, failure_persistence: None, ..ProptestConfig::default() };
    let total = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&steps(), |steps| {
            let (mut now_ms, mut last) = (NOW, 0);
            let (mut leases, mut line, mut model) = (Leases::default(), Line::default(), Model::default());
            let mut numbers = std::collections::HashMap::new();
            total.set(total.get() + steps.len());
            for (advance_ms, holder, op) in steps {
                now_ms += advance_ms;
                serve(&mut leases, &mut line, &mut model, now_ms)?;
                let in_use = leases.in_use(now_ms);
                // Nobody waits whose maximum allows a slot: so a new call that gets one overtakes nobody.
                prop_assert!(model.0.iter().all(|place| place.1 <= in_use));
                prop_assert_eq!(line.max(), model.0.iter().map(|place| place.1).max());
                let name = [holder];
                match op {
                    Op::Wait { max } | Op::Try { max } if leases.decide(now_ms, max, &name).acquired => {
                        leases.grant(now_ms, max, &name, TTL_MS, 0);
                        // The holder may wait, too, with another maximum: its clients have their slot.
                        if let Some(number) = line.place_of(&name) {
                            line.take(number);
                            model.0.retain(|place| place.0 != holder);
                        }
                    }
                    Op::Wait { max } if max > 0 => {
                        last += 1;
                        numbers.insert(last, line.join(&name, max, TTL_MS, last));
                        model.join(holder, max, last);
                    }
                    Op::Wait { .. } | Op::Try { .. } => {}
                    Op::Release => leases.release(now_ms, &name),
                    Op::Gone(ago) => {
                        let client = last.saturating_sub(ago);
                        if let Some(&number) = numbers.get(&client) {
                            line.leave(number, &client);
                        }
                        model.leave(client);
                    }
                }
                prop_assert_eq!(line.is_empty(), model.0.is_empty());
            }
            // With time everybody is served, in their order.
            while !model.0.is_empty() {
                now_ms += TTL_MS as i64;
                serve(&mut leases, &mut line, &mut model, now_ms)?;
            }
            prop_assert!(line.is_empty() && line.max().is_none());
            Ok(())
        })
        .unwrap();
    assert!(total.get() > 1_000_000, "{} steps", total.get());
}

#[test]
fn a_larger_maximum_passes_one_that_does_not_allow_a_slot_yet() {
    let mut line = Line::default();
    let low = line.join(b"low", 2, 1_000, 'l');
    let high = line.join(b"high", 4, 1_000, 'h');
    assert_eq!(line.first(4), None);
    assert_eq!(line.first(3), Some(high));
    assert_eq!(line.first(1), Some(low), "it came first, and its maximum allows");
    assert_eq!(line.first(u64::MAX), None);
    // A holder that asks again keeps its place, with what it asks for now.
    assert_eq!(line.join(b"low", 4, 2_000, 'L'), low);
    assert_eq!(line.first(3), Some(low));
    let place = line.take(low).unwrap();
    assert_eq!((place.ttl_ms, place.clients), (2_000, vec!['l', 'L']));
    line.leave(high, &'h');
    assert!(line.is_empty());
}
