//! GW.COSTCHANGES, GW.COSTACK and GW.COSTSYNC, for workers that keep a database in step with the ledgers.

use gateway_core::calendar::{Day, Period};
use gateway_core::ledger::feed::{KeyPlace, VERSION_MAX};
use gateway_core::money::Amount;

use super::account::{Account, AccountRead};
use super::effect::LedgerChange;
use super::listing;
use super::settings::{VERSION_AHEAD_MAX_US, next_version};
use crate::server::args::{Args, OwnedKey};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::reply::Reply;
use crate::server::{Call, Error, Key, Outcome};

pub const CHANGES: Command = Command {
    name: "GW.COSTCHANGES",
    handler: entry!(cost_changes),
    flags: "write",
    arity: -1,
    keys: Keys::None,
    summary: "Lists ledgers whose spend or credits have changed since they were acknowledged. Replies more, and for each \
              ledger: key, version, since, and rows of period, first day, amount; first of spend, then of credits.",
    complexity: "O(N) in the ledgers listed and their rows",
    since: "0.1.0",
    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
    args: &[Arg::integer("count").after("COUNT").optional()],
};

const PAIR: &[Arg] = &[Arg::key(), Arg::integer("version")];

pub const ACKNOWLEDGE: Command = Command {
    name: "GW.COSTACK",
    handler: entry!(cost_ack),
    flags: "write",
    arity: -3,
    keys: Keys::Pairs(Access::ReadUpdate),
    summary: "Acknowledges that what GW.COSTCHANGES listed under these versions is stored. Replies for each ledger 1, 0 if \
              it has changed since, -1 if there is none.",
    complexity: "O(N) in the ledgers named and the periods they keep",
    since: "0.1.0",
    tips: "",
    args: &[Arg::block("stored", PAIR).multiple()],
};

pub const SYNC: Command = Command {
    name: "GW.COSTSYNC",
    handler: entry!(cost_sync),
    flags: "write",
    arity: -3,
    keys: Keys::Pairs(Access::ReadUpdate),
    summary: "Tells which versions a database has, when its worker starts. Ledgers that it cannot follow from there are \
              listed anew. Replies as GW.COSTACK does.",
    complexity: "O(N) in the ledgers named and the periods they keep",
    since: "0.1.0",
    tips: "",
    args: &[Arg::block("stored", PAIR).multiple()],
};

/// The most ledgers that one call lists or acknowledges (docs/src/internals/decisions.md, "A call of the feed takes 200
/// ledgers and 1,000 rows").
const LEDGERS_MAX: usize = 200;
const LEDGERS_DEFAULT: usize = 100;

/// After this many rows no further ledger is listed, so that a reply takes at most a millisecond.
const ROWS_MAX: usize = 1_000;

struct Listed {
    name: OwnedKey,
    version: u64,
    since: u64,
    rows: Vec<(Period, Day, Amount)>,
    credits: Vec<(Period, Day, Amount)>,
}

/// GW.COSTCHANGES [COUNT count]
fn cost_changes(call: &mut Call) -> Outcome {
    const COUNT: [(&str, ()); 1] = [("COUNT", ())];
    let mut args = call.args();
    let mut count = LEDGERS_DEFAULT;
    while let Some(()) = args.option(&COUNT)? {
        count = args.int("COUNT", 1..=LEDGERS_MAX)?;
    }

    let (candidates, mut more) = listing::first(call, count);
    let (mut listed, mut rows) = (Vec::new(), 0);
    for candidate in candidates {
        if rows >= ROWS_MAX {
            more = true;
            break;
        }
        if let Some(ledger) = list(call, OwnedKey::new(&candidate.key), candidate.anew)? {
            rows += ledger.rows.len() + ledger.credits.len();
            listed.push(ledger);
        }
    }

    let reply = call.reply();
    reply.array(2).int(more.into()).array(listed.len());
    for ledger in &listed {
        reply.array(5).bytes(ledger.name.key().bytes()).count(ledger.version).count(ledger.since);
        for rows in [&ledger.rows, &ledger.credits] {
            reply.array(rows.len());
            rows.iter().for_each(|row| reply_row(&reply, row));
        }
    }
    Ok(())
}

/// Replies a period, its first day, and its amount.
pub fn reply_row(reply: &Reply, (period, day, amount): &(Period, Day, Amount)) {
    reply.array(3).bytes(period.name()).bytes(day.to_string()).bytes(amount.to_text().as_bytes());
}

/// What a key's ledger has to list; `None` if there is no ledger, or nothing to list. First lists it anew if that is
/// due.
fn list(call: &mut Call, name: OwnedKey, anew: bool) -> Result<Option<Listed>, Error> {
    let (database, key) = (call.database(), name.key());
    let place = KeyPlace::new(database, key.bytes());
    let found = find(call, key);
    let due = found.as_ref().map(AccountRead::ledger).filter(|ledger| ledger.version() > 0);
    let anew = due.is_some_and(|ledger| anew || ledger.is_moved(place));
    if !anew && !due.is_some_and(|ledger| ledger.is_listed(place)) {
        listing::remove(database, key.bytes());
        return Ok(None);
    }
    drop(found);
    if anew {
        list_anew(call, key, 0)?;
        listing::done_anew(database, key.bytes());
    }
    let listed = find(call, key).map(|account| {
        let ledger = account.ledger();
        (ledger.version(), ledger.since(), ledger.listed().collect(), ledger.listed_credits().collect())
    });
    Ok(listed.map(|(version, since, rows, credits)| Listed { name, version, since, rows, credits }))
}

/// `None` if the key is gone or holds another type: in both cases there is no such ledger.
fn find<'a>(call: &'a Call, key: Key) -> Option<AccountRead<'a>> {
    AccountRead::find(call, key).ok().flatten()
}

/// Lists a ledger anew, under a version above `above`.
fn list_anew(call: &mut Call, key: Key, above: u64) -> Outcome {
    let (now_ms, database) = (call.now_ms(), call.database());
    let mut account = Account::open(call, key)?;
    let Some(ledger) = account.ledger() else { return Ok(()) };
    let change = LedgerChange::ListAnew { version: next_version(ledger, now_ms).max(above + 1).min(VERSION_MAX) };
    change.apply(&mut account, &[], || KeyPlace::new(database, key.bytes()));
    drop(account);
    change.announce(call, key, None);
    Ok(())
}

/// key version [key version …]
fn parse_pairs<'a>(args: &mut Args<'a>) -> Result<Vec<(Key<'a>, u64)>, Error> {
    let mut pairs = Vec::new();
    while let Some(key) = args.optional() {
        if pairs.len() == LEDGERS_MAX {
            return Err(Error::more_than(LEDGERS_MAX, "ledgers", "key"));
        }
        pairs.push((key, args.int("version", 0..=VERSION_MAX)?));
    }
    Ok(pairs)
}

/// GW.COSTACK key version [key version …]
fn cost_ack(call: &mut Call) -> Outcome {
    let pairs = parse_pairs(&mut call.args())?;
    each(call, &pairs, |_, _| Ok(()), acknowledge)
}

/// GW.COSTSYNC key version [key version …]
fn cost_sync(call: &mut Call) -> Outcome {
    let pairs = parse_pairs(&mut call.args())?;
    // From now on, ledgers that come to these places by other means than changes are noted.
    listing::watch(call);
    let now_ms = call.now_ms();
    let ahead_max = now_ms.unsigned_abs() * 1_000 + VERSION_AHEAD_MAX_US;
    // A version from the future would force all later versions to be even larger.
    let check = |account: &AccountRead, version| match version <= ahead_max.max(account.ledger().version()) {
        true => Ok(()),
        false => Err(Error::new("version from the future", "version")),
    };
    each(call, &pairs, check, |call, key, version| {
        let place = KeyPlace::new(call.database(), key.bytes());
        let in_step = find(call, key).map(|account| account.ledger().is_in_step(version, place));
        if in_step == Some(false) {
            list_anew(call, key, version)?;
            listing::done_anew(call.database(), key.bytes());
        }
        acknowledge(call, key, version)
    })
}

/// Checks all ledgers, then changes each and replies its standing.
fn each(
    call: &mut Call,
    pairs: &[(Key, u64)],
    check: impl Fn(&AccountRead, u64) -> Outcome,
    change: impl Fn(&mut Call, Key, u64) -> Result<i64, Error>,
) -> Outcome {
    for &(key, version) in pairs {
        find(call, key).map_or(Ok(()), |account| check(&account, version))?;
    }
    let standing: Vec<i64> =
        pairs.iter().map(|&(key, version)| change(call, key, version)).collect::<Result<_, _>>()?;
    let reply = call.reply();
    reply.array(standing.len());
    for standing in standing {
        reply.int(standing);
    }
    Ok(())
}

/// Acknowledges a version, if it is newer than the last one. Returns 1, or 0 if the ledger has something to list, or -1
/// if there is no ledger.
fn acknowledge(call: &mut Call, key: Key, version: u64) -> Result<i64, Error> {
    let database = call.database();
    let place = KeyPlace::new(database, key.bytes());
    let due_anew = listing::is_due_anew(database, key.bytes());
    // Opened for reading first, so that no ledger is created if there is nothing to acknowledge.
    let can = |account: AccountRead| !due_anew && account.ledger().can_acknowledge(version, place);
    let Some(news) = find(call, key).map(can) else {
        listing::remove(database, key.bytes());
        return Ok(-1);
    };
    let mut account = Account::open(call, key)?;
    let change = LedgerChange::Acknowledge { version };
    if news {
        change.apply(&mut account, &[], || place);
    }
    let Some(ledger) = account.ledger() else { return Ok(-1) };
    let listed = due_anew || ledger.is_listed(place) || ledger.is_moved(place);
    drop(account);
    if news {
        change.announce(call, key, None);
        if listed {
            listing::requeue(database, key.bytes());
        } else {
            listing::remove(database, key.bytes());
        }
    }
    Ok((!listed).into())
}
