//! Amounts by day or month: a sorted array, dense in memory.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::feed::NEW;
use crate::calendar::Day;
use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::allocated_bytes;
use crate::money::Amount;

/// The most charged months kept: ten years of an account in steady use. The total still includes dropped months.
pub const KEEP_MONTHS: u32 = 120;

/// The fewest charged days kept. A quarter of them stays on each side of a charged day: the six days before a Sunday in
/// its week, and two more for charges dated up to 24 hours ahead. So the current week is complete.
pub const KEEP_DAYS_MIN: u32 = 4 * (6 + 2);

/// The most charged days kept: 58 kB, and ten years of an account in daily use.
pub const KEEP_DAYS_MAX: u32 = 3_600;

/// A day or month, an amount, and two marks, in sixteen bytes, since ledgers are keys that stay
/// (docs/src/internals/decisions.md, "Sixteen bytes for a day").
///
/// From the highest bit: 24 bits of the number (days and months of the years 1 to 9999 need 23), 2 marks, 102 bits of
/// the amount ([`Amount::MAX`] needs 101). Sorted as integers, entries are in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(i128);

const NUMBER_SHIFT: u32 = 104;
const MARKS_SHIFT: u32 = 102;
const AMOUNT_BITS: u32 = 102;

impl Entry {
    pub(super) fn new(number: i32, amount: Amount, marks: u8) -> Entry {
        let amount = amount.picos() & ((1 << AMOUNT_BITS) - 1);
        Entry(i128::from(number) << NUMBER_SHIFT | i128::from(marks & 3) << MARKS_SHIFT | amount)
    }

    pub(super) fn number(self) -> i32 {
        (self.0 >> NUMBER_SHIFT) as i32
    }

    pub(super) fn amount(self) -> Amount {
        // Shifted up and down again to extend the sign. Every entry was made from an amount in range.
        Amount::from_picos(self.0 << (128 - AMOUNT_BITS) >> (128 - AMOUNT_BITS)).unwrap_or(Amount::ZERO)
    }

    pub(super) fn marks(self) -> u8 {
        u8::try_from((self.0 >> MARKS_SHIFT) & 3).unwrap_or(0)
    }

    fn with_marks(self, marks: u8) -> Entry {
        Entry::new(self.number(), self.amount(), marks)
    }
}

/// Amounts by the number of their day or month, oldest first.
///
/// The array has no spare room: a new day copies some kilobytes, once a day, and keys that are not used again waste
/// nothing. The newest entry, which nearly every call needs, is found at once; others by binary search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Series(Box<[Entry]>);

impl Series {
    /// The newest `keep` of the entries, all marked as new. `None` if two have the same number.
    pub(super) fn of(entries: impl Iterator<Item = (i32, Amount)>, keep: u32) -> Option<Series> {
        let mut entries: Vec<Entry> = entries.map(|(number, amount)| Entry::new(number, amount, NEW)).collect();
        entries.sort_unstable_by_key(|entry| entry.number());
        let is_repeated = entries.windows(2).any(|pair| matches!(pair, [a, b] if a.number() == b.number()));
        let excess = entries.len().saturating_sub(keep as usize);
        (!is_repeated).then(|| Series(entries.split_off(excess).into_boxed_slice()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn newest(&self) -> Option<i32> {
        self.0.last().map(|entry| entry.number())
    }

    pub(super) fn get(&self, number: i32) -> Amount {
        self.find(number).ok().and_then(|at| self.0.get(at)).map_or(Amount::ZERO, |entry| entry.amount())
    }

    pub(super) fn contains(&self, number: i32) -> bool {
        self.find(number).is_ok()
    }

    /// The sum over the numbers `first..=last`.
    pub(super) fn sum(&self, first: i32, last: i32) -> Amount {
        let from = self.0.partition_point(|entry| entry.number() < first);
        let entries = self.0.iter().skip(from).take_while(|entry| entry.number() <= last);
        entries.fold(Amount::ZERO, |sum, entry| sum.saturating_add(entry.amount()))
    }

    /// Sets the amount of `number`, and adds `mark` to its marks. Then keeps at most `keep` entries (1 or more): it
    /// drops the oldest of the entries that are further from `number` than a quarter of `keep`.
    pub(super) fn set(&mut self, number: i32, amount: Amount, mark: u8, keep: u32) {
        match self.find(number) {
            Ok(at) => {
                if let Some(entry) = self.0.get_mut(at) {
                    *entry = Entry::new(number, amount, entry.marks() | mark);
                }
            }
            Err(at) => {
                let (older, newer) = self.0.split_at(at);
                self.0 = [older, &[Entry::new(number, amount, mark)], newer].concat().into_boxed_slice();
            }
        }
        let mut excess = self.0.len().saturating_sub(keep as usize);
        if excess > 0 {
            let stays = |entry: &Entry| {
                let goes = excess > 0 && entry.number().abs_diff(number) > keep / 4;
                excess -= usize::from(goes);
                !goes
            };
            self.0 = self.0.iter().copied().filter(stays).collect();
        }
    }

    /// Changes all entries' marks.
    pub(super) fn mark(&mut self, marks: impl Fn(u8) -> u8) {
        self.0.iter_mut().for_each(|entry| *entry = entry.with_marks(marks(entry.marks())));
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (i32, Amount)> + ExactSizeIterator + '_ {
        self.0.iter().map(|entry| (entry.number(), entry.amount()))
    }

    /// The entries with a mark.
    pub(super) fn marked(&self) -> impl Iterator<Item = (i32, Amount)> + '_ {
        self.0.iter().filter(|entry| entry.marks() != 0).map(|entry| (entry.number(), entry.amount()))
    }

    pub(super) fn save(&self, out: &mut dyn Writer) {
        out.uint(self.0.len() as u64);
        for entry in &self.0 {
            out.int(i64::from(entry.number()));
            out.uint(entry.marks().into());
            out.int128(entry.amount().picos());
        }
    }

    /// Reads what [`save`](Series::save) wrote: at most `keep` numbers that `is_number` accepts, each once, in order.
    pub(super) fn load(from: &mut dyn Reader, keep: u32, is_number: fn(i32) -> bool) -> Result<Series, Corrupt> {
        let count = from.uint_max(keep.into(), "more days or months than a ledger keeps")?;
        let mut entries: Vec<Entry> = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        for _ in 0..count {
            let number = i32::try_from(from.int()?).ok().filter(|&number| is_number(number));
            let number = number.ok_or(Corrupt("a day or month outside the calendar"))?;
            if entries.last().is_some_and(|before| before.number() >= number) {
                return Err(Corrupt("days or months out of order"));
            }
            let marks = u8::try_from(from.uint_max(3, "an unknown mark")?).unwrap_or(0);
            entries.push(Entry::new(number, load_amount(from)?, marks));
        }
        Ok(Series(entries.into_boxed_slice()))
    }

    /// Bytes allocated behind the struct.
    pub(super) fn memory_bytes(&self) -> usize {
        allocated_bytes(size_of_val(&*self.0))
    }

    /// The index of a number, or the index to insert it at.
    fn find(&self, number: i32) -> Result<usize, usize> {
        match self.0.last() {
            Some(newest) if newest.number() == number => Ok(self.0.len() - 1),
            Some(newest) if newest.number() < number => Err(self.0.len()),
            _ => self.0.binary_search_by_key(&number, |entry| entry.number()),
        }
    }
}

/// Reads an amount within its range.
pub(super) fn load_amount(from: &mut dyn Reader) -> Result<Amount, Corrupt> {
    Amount::from_picos(from.int128()?).ok_or(Corrupt("an amount out of range"))
}

/// Reads a day of the calendar.
pub(super) fn load_day(from: &mut dyn Reader) -> Result<Day, Corrupt> {
    let number = i32::try_from(from.int()?).ok();
    number.and_then(Day::from_number).ok_or(Corrupt("a day outside the calendar"))
}
