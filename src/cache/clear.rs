//! GW.CACHECLEAR: many entries at once.
//!
//! A category, a tag or all entries are cleared by a mark on what they share (see [`group`](super::group)), at once for
//! every reader, and the same on replicas and in the AOF, where the clear comes between the same sets. What is left to do
//! is memory: a scan in slices deletes what is marked, on the primary, and replicates each deletion. A mark is memory of
//! this process: an entry that is saved while it waits to be deleted is saved as cleared, so that it stays so whatever
//! happens between.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway_core::cache::clears::Kind;
use gateway_core::glob;
use lazy_static::lazy_static;

use super::entry::Entry;
use super::set::{parse_category, parse_tag};
use super::{flights, groups};
use crate::server::args::Name;
use crate::server::blocked::{Parked, Parking};
use crate::server::call::entry;
use crate::server::command::{Arg, Command, Keys};
use crate::server::effect::{Effect, malformed};
use crate::server::events::Event;
use crate::server::key::Glimpse;
use crate::server::scan::Scan;
use crate::server::shared::MainThread;
use crate::server::stats::STATS;
use crate::server::{Call, Error, Key, Outcome};

pub const COMMAND: Command = Command {
    name: "GW.CACHECLEAR",
    handler: entry!(clear),
    flags: "write",
    arity: -2,
    keys: Keys::None,
    summary: "Clears a category's, a tag's or all entries of the node at once, or those whose keys match, in slices.",
    complexity: "O(1) for a category or a tag, O(N) in the categories for ALL, O(N) in the keys for PATTERN, in slices",
    since: "0.1.0",
    tips: "request_policy:all_shards response_policy:agg_sum",
    args: &[Arg::one_of(
        "what",
        &[
            Arg::text("category").after("CATEGORY"),
            Arg::text("tag").after("TAG"),
            Arg::text("pattern").after("PATTERN"),
            Arg::word("all", "ALL"),
        ],
    )],
};

pub const EFFECT: Command = Command {
    name: "GW._CACHECLEAR",
    handler: entry!(apply),
    flags: "write admin",
    arity: 3,
    keys: Keys::None,
    summary: "Internal: a category, a tag or all entries were cleared, for replicas and the AOF.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::text("effect"), Arg::text("name")],
};

/// The longest pattern in bytes. Matching takes time in proportion to the pattern's and the key's lengths' product.
const PATTERN_BYTES_MAX: usize = 1_024;

#[derive(Clone, Copy)]
enum Opt {
    Category,
    Tag,
    Pattern,
    All,
}

const OPTIONS: [(&str, Opt); 4] =
    [("CATEGORY", Opt::Category), ("TAG", Opt::Tag), ("PATTERN", Opt::Pattern), ("ALL", Opt::All)];

/// Entries that have something in common.
#[derive(Clone, Copy)]
enum What<'a> {
    Category(&'a [u8]),
    Tag(&'a [u8]),
    All,
}

/// GW.CACHECLEAR CATEGORY category | TAG tag | PATTERN pattern | ALL
fn clear(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let option = args.option(&OPTIONS)?.ok_or(Error::ARITY)?;
    let (what, effect) = match option {
        Opt::Category => {
            let name = parse_category(args.string("CATEGORY")?)?.bytes();
            (What::Category(name), (b'C', name))
        }
        Opt::Tag => {
            let name = parse_tag(args.string("TAG")?)?.bytes();
            (What::Tag(name), (b'T', name))
        }
        Opt::Pattern => {
            let pattern = args.bytes("PATTERN")?;
            args.end()?;
            if pattern.len() > PATTERN_BYTES_MAX {
                return Err(Error::new(&format!("longer than {PATTERN_BYTES_MAX} bytes"), "PATTERN"));
            }
            return by_pattern(call, pattern);
        }
        Opt::All => (What::All, (b'A', &b""[..])),
    };
    args.end()?;
    let cleared = what.clear(call);
    STATS.cache_cleared.add(cleared);
    if cleared > 0 {
        let (operation, name) = effect;
        call.changed_everywhere(&Effect::new(c"GW._CACHECLEAR", operation), name);
        reclaim(call);
    }
    call.reply().count(cleared);
    Ok(())
}

impl What<'_> {
    /// Returns how many entries there were.
    fn clear(self, call: &Call) -> u64 {
        let cleared = match self {
            What::Category(name) => groups::clear_category(name),
            What::Tag(name) => groups::clear_tag(name),
            What::All => {
                let (cleared, old) = groups::clear_all();
                call.after(1, free_some, old);
                cleared
            }
        };
        // What is being computed tells its tags, and perhaps its category, only when it comes.
        match self {
            What::Category(name) => flights::cleared(Kind::Category, name),
            What::Tag(name) => flights::cleared(Kind::Tag, name),
            What::All => {}
        }
        flights::revoked_where(call, |_, _, scope| match self {
            What::Category(name) => *scope.category == *name,
            What::Tag(_) => scope.tags.iter().any(|tag| tag.is_cleared()),
            What::All => true,
        });
        cleared
    }
}

fn free_some(call: &mut Call, mut old: groups::Old) {
    if old.free_some() {
        call.after(1, free_some, old);
    }
}

fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (effect, name) = (args.bytes("effect")?, args.string("name")?);
    args.end()?;
    let what = match effect {
        b"C" => What::Category(parse_category(name)?.bytes()),
        b"T" => What::Tag(parse_tag(name)?.bytes()),
        b"A" => What::All,
        _ => return Err(malformed()),
    };
    what.clear(call);
    call.applied_everywhere();
    reclaim(call);
    call.reply().ok();
    Ok(())
}

/// Whether there may be entries that were cleared and not yet deleted, and a scan on its way to them.
#[derive(Default)]
struct Reclaiming {
    running: bool,
    /// More was cleared since the scan began.
    again: bool,
}

lazy_static! {
    static ref RECLAIMING: MainThread<Reclaiming> = MainThread::new(Reclaiming::default());
}

/// Set where entries were loaded that had been saved as cleared, or cleared on a replica, which deletes nothing.
static LEFT_OVER: AtomicBool = AtomicBool::new(false);

pub fn left_over() {
    LEFT_OVER.store(true, Ordering::Relaxed);
}

pub fn happened(call: &mut Call, event: Event) {
    match event {
        Event::LoadingEnded | Event::RoleChanged { primary: true } if LEFT_OVER.load(Ordering::Relaxed) => {
            reclaim(call);
        }
        // Entries that the scan had still before it may be behind it now.
        Event::SwapDatabases(..) if RECLAIMING.borrow().running => reclaim(call),
        // The server may take its time with their memory: they count no more.
        Event::Flush { database: None } => {
            call.after(1, free_some, groups::forget_all());
        }
        _ => {}
    }
}

/// An entry that was cleared and gets another name may have slipped past the scan that is to delete it, or come from a
/// payload that was dumped in between.
pub fn key_changed(call: &mut Call, event: &CStr, key: Key) {
    if matches!(event.to_bytes(), b"restore" | b"copy_to" | b"move_to" | b"rename_to") {
        let cleared = call.find::<Entry>(key).is_ok_and(|found| found.is_some_and(|found| found.get().is_cleared()));
        if cleared {
            reclaim(call);
        }
    }
}

fn reclaim(call: &mut Call) {
    left_over();
    if !call.is_primary() {
        return;
    }
    let mut reclaiming = RECLAIMING.borrow();
    if reclaiming.running {
        reclaiming.again = true;
    } else {
        *reclaiming = Reclaiming { running: true, again: false };
        LEFT_OVER.store(false, Ordering::Relaxed);
        call.after(0, reclaim_database, 0);
    }
}

/// Deletes what is cleared of a database, and then of those behind it.
fn reclaim_database(call: &mut Call, database: i32) {
    if call.is_primary() && call.select_database(database) {
        call.scan(Sweep { of: Of::Cleared { database }, deleted: 0 });
        return;
    }
    let again = {
        let mut reclaiming = RECLAIMING.borrow();
        reclaiming.running = false;
        reclaiming.again
    };
    match call.is_primary() {
        true if again => reclaim(call),
        true => {}
        false => left_over(),
    }
}

fn by_pattern(call: &mut Call, pattern: &[u8]) -> Outcome {
    if !call.may_wait() {
        return Err(Error::new("it scans in slices, which a transaction or script cannot wait for", "PATTERN"));
    }
    let database = call.database();
    flights::revoked_where(call, |place, key, _| place == database && glob::matches(pattern, key));
    let client = call.park(0, Parking { called_back: reply_count, timed_out: interrupted, gone: |_| {} });
    call.scan(Sweep { of: Of::Pattern { pattern: pattern.into(), client }, deleted: 0 });
    Ok(())
}

fn reply_count(call: &mut Call, count: u64) -> Outcome {
    call.reply().count(count);
    Ok(())
}

fn interrupted(_call: &mut Call) -> Outcome {
    Err(Error::coded("UNBLOCKED the scan goes on without this client"))
}

/// What a scan deletes.
enum Of {
    Cleared { database: i32 },
    Pattern { pattern: Box<[u8]>, client: Parked },
}

struct Sweep {
    of: Of,
    /// Entries that readers still saw.
    deleted: u64,
}

impl Of {
    fn wants(&self, key: Key, entry: &Entry) -> bool {
        match self {
            Of::Cleared { .. } => entry.is_cleared(),
            Of::Pattern { pattern, .. } => glob::matches(pattern, key.bytes()),
        }
    }
}

impl Scan for Sweep {
    const CHANGES: bool = true;

    fn wants(&mut self, key: Key, value: &Glimpse) -> bool {
        value.value::<Entry>().is_some_and(|entry| self.of.wants(key, entry))
    }

    fn take(&mut self, call: &mut Call, keys: &[Name]) -> bool {
        for name in keys {
            // What has become something else meanwhile stays.
            let _: Result<(), Error> = self.delete(call, name.key());
        }
        true
    }

    fn done(self, call: &mut Call) {
        match self.of {
            Of::Cleared { database } => reclaim_database(call, database + 1),
            Of::Pattern { client, .. } => {
                call.call_back(client, self.deleted);
            }
        }
    }
}

impl Sweep {
    fn delete(&mut self, call: &mut Call, key: Key) -> Result<(), Error> {
        let mut opened = call.open::<Entry>(key)?;
        let Some(entry) = opened.get() else { return Ok(()) };
        if !self.of.wants(key, entry) {
            return Ok(());
        }
        let live = !entry.is_cleared();
        if live {
            self.deleted += 1;
            STATS.cache_cleared.add(1);
            entry.category().counters().clears.add(1);
        }
        opened.delete();
        drop(opened);
        // One by one: in a cluster each has a slot of its own.
        let tell = || call.deleted(&[key], c"gw.cacheclear");
        if live {
            tell();
        } else {
            flights::while_reclaiming(tell);
        }
        Ok(())
    }
}
