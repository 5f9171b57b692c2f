//! Amounts by day or month: a sorted array, dense in memory.

use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::allocated_bytes;
use crate::money::Amount;

/// Twenty bytes instead of the thirty-two that an `i128`'s alignment would make of it: ledgers are the keys that stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, packed(4))]
struct Entry {
    number: i32,
    amount: Amount,
}

/// Amounts by the number of their day or month, oldest first.
///
/// The array is exactly as long as it needs to be: a new day costs copies of some kilobytes, once a day, and no slack
/// is carried by keys that are not used again. The newest entry, which nearly every call is about, is found at
/// once, others by binary search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Series(Box<[Entry]>);

impl Series {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn newest(&self) -> Option<i32> {
        self.0.last().map(|entry| entry.number)
    }

    pub(super) fn get(&self, number: i32) -> Amount {
        self.find(number).ok().and_then(|at| self.0.get(at)).map_or(Amount::ZERO, |entry| entry.amount)
    }

    pub(super) fn contains(&self, number: i32) -> bool {
        self.find(number).is_ok()
    }

    /// The sum over the numbers `first..=last`.
    pub(super) fn sum(&self, first: i32, last: i32) -> Amount {
        let from = self.0.partition_point(|entry| entry.number < first);
        let entries = self.0.iter().skip(from).take_while(|entry| entry.number <= last);
        entries.fold(Amount::ZERO, |sum, entry| sum.saturating_add(entry.amount))
    }

    /// Sets the amount of `number`. Then at most `keep` entries stay: the oldest of those more than a quarter of `keep`
    /// from `number` go. `keep` is at least 1, so that these are enough.
    pub(super) fn set(&mut self, number: i32, amount: Amount, keep: u32) {
        match self.find(number) {
            Ok(at) => {
                if let Some(entry) = self.0.get_mut(at) {
                    entry.amount = amount;
                }
            }
            Err(at) => {
                let (older, newer) = self.0.split_at(at);
                self.0 = [older, &[Entry { number, amount }], newer].concat().into_boxed_slice();
            }
        }
        let mut excess = self.0.len().saturating_sub(keep as usize);
        if excess > 0 {
            let stays = |entry: &Entry| {
                let goes = excess > 0 && entry.number.abs_diff(number) > keep / 4;
                excess -= usize::from(goes);
                !goes
            };
            self.0 = self.0.iter().copied().filter(stays).collect();
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (i32, Amount)> + ExactSizeIterator + '_ {
        self.0.iter().map(|entry| (entry.number, entry.amount))
    }

    pub(super) fn save(&self, out: &mut dyn Writer) {
        out.uint(self.0.len() as u64);
        for (number, amount) in self.iter() {
            out.int(i64::from(number));
            out.int128(amount.picos());
        }
    }

    /// Reads what [`save`](Series::save) wrote: at most `keep` numbers accepted by `is_number`, each once, in order.
    pub(super) fn load(from: &mut dyn Reader, keep: u32, is_number: fn(i32) -> bool) -> Result<Series, Corrupt> {
        let count = from.uint_max(keep.into(), "more days or months than a ledger keeps")?;
        let mut entries: Vec<Entry> = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let number = i32::try_from(from.int()?).ok().filter(|&number| is_number(number));
            let number = number.ok_or(Corrupt("a day or month outside the calendar"))?;
            if entries.last().is_some_and(|before| before.number >= number) {
                return Err(Corrupt("days or months out of order"));
            }
            entries.push(Entry { number, amount: load_amount(from)? });
        }
        Ok(Series(entries.into_boxed_slice()))
    }

    /// Bytes allocated behind the struct.
    pub(super) fn memory_bytes(&self) -> usize {
        allocated_bytes(size_of_val(&*self.0))
    }

    /// The place of a number, or where it would be inserted.
    fn find(&self, number: i32) -> Result<usize, usize> {
        match self.0.last() {
            Some(newest) if newest.number == number => Ok(self.0.len() - 1),
            Some(newest) if newest.number < number => Err(self.0.len()),
            _ => self.0.binary_search_by_key(&number, |entry| entry.number),
        }
    }
}

/// An amount within its range.
pub(super) fn load_amount(from: &mut dyn Reader) -> Result<Amount, Corrupt> {
    Amount::from_picos(from.int128()?).ok_or(Corrupt("an amount out of range"))
}
