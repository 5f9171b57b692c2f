//! Alarms: a timer for each key that clients wait for, at the next time at which the key's state may change by itself.

use std::collections::HashMap;

use super::args::{Key, OwnedKey};
use super::call::Call;
use super::shared::MainThread;

/// A database and the name of a key in it.
pub type Place = (i32, Vec<u8>);

/// The alarms of one kind. Only one alarm of a key counts: the one for the earliest time that was set.
pub struct Alarms {
    due_ms: MainThread<HashMap<Place, i64>>,
    /// Called at the alarm's time, with the key's database selected.
    ring: fn(&mut Call, Key),
}

impl Alarms {
    pub fn new(ring: fn(&mut Call, Key)) -> Self {
        Self { due_ms: MainThread::new(HashMap::new()), ring }
    }

    /// Rings for a key of the selected database at `due_ms` by the server's clock; soon if that time has passed, but
    /// never within this call.
    pub fn set(&'static self, call: &Call, key: Key, due_ms: i64) {
        let place = (call.database(), key.bytes().to_vec());
        let mut alarms = self.due_ms.borrow();
        if alarms.get(&place).is_some_and(|set_ms| *set_ms <= due_ms) {
            return;
        }
        alarms.insert(place.clone(), due_ms);
        let delay_ms = (due_ms - call.now_ms()).max(1).unsigned_abs();
        call.after(delay_ms, ring, (self, place, due_ms));
    }

    /// Rings for all keys that have an alarm, soon, because the clock that they wait for was set back. The new timers
    /// sort before all that were set earlier.
    pub fn ring_all_soon(&'static self, call: &mut Call) {
        let now_ms = call.now_ms();
        let places: Vec<Place> = {
            let mut alarms = self.due_ms.borrow();
            alarms.values_mut().for_each(|due_ms| *due_ms = now_ms);
            alarms.keys().cloned().collect()
        };
        let before = call.database();
        for place in places {
            if call.select_database(place.0) {
                call.after(1, ring, (self, place, now_ms));
            }
        }
        call.select_database(before);
    }
}

fn ring(call: &mut Call, (alarms, place, due_ms): (&'static Alarms, Place, i64)) {
    {
        let mut set = alarms.due_ms.borrow();
        // This timer was replaced by one that was set later for an earlier time.
        if set.get(&place) != Some(&due_ms) {
            return;
        }
        set.remove(&place);
    }
    // If the clock lags behind the timer, `ring` sets another alarm.
    (alarms.ring)(call, OwnedKey::new(&place.1).key());
}
