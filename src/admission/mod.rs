//! Admission: GW.POLICYSET and its like say what an account is allowed; GW.ADMIT, GW.SETTLE and GW.KEEPALIVE take a
//! request through all policies of all its accounts at once.

pub mod admit;
pub mod policy;
pub mod settle;
mod value;

use std::ffi::CStr;

use gateway_core::admission::{Account, Amounts, Moment};
use gateway_core::calendar::Day;
use gateway_core::lease::HOLDER_BYTES_MAX;
use gateway_core::ledger::feed::VERSION_MAX;
use gateway_core::ledger::{KEEP_DAYS_MAX, KEEP_DAYS_MIN, Ledger, Overflow, Terms};
use gateway_core::money::Amount;
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS};
use smallvec::SmallVec;

use crate::budget;
use crate::server::args::{Args, Short};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys, keys_counted};
use crate::server::effect::{Effect, Words, malformed};
use crate::server::key::Opened;
use crate::server::{Call, Error, Key, Outcome, Str};

/// The family's effects, each followed by the number of accounts, the accounts, and what is named here in capitals:
///
/// - `A at_ms remember_ms day ttl_ms` ID [METER AMOUNT …]: a request was admitted;
/// - `S at_ms remember_ms keep_days version` ID [METER AMOUNT …]: an admission was settled;
/// - `K at_ms remember_ms ttl_ms` ID: its lease was extended;
/// - `X at_ms`: the account's clock went on, and what was due by then was done;
/// - `R at_ms` NAME: a policy's count was forgotten;
/// - `P` NAME POLICY …: a policy was set, in the words of GW.POLICYSET; `D` NAME: it was removed.
const EFFECT_NAME: &CStr = c"GW._ADMIT";

pub const EFFECT: Command = Command {
    name: "GW._ADMIT",
    handler: entry!(apply, keys_counted),
    flags: "write admin fast",
    arity: -4,
    keys: Keys::Counted(Access::Insert),
    summary: "Internal: a change to accounts, for replicas and the AOF.",
    complexity: "O(N) in the accounts and their policies",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::text("effect"),
        Arg::integer("numkeys"),
        Arg::key_as("account").multiple(),
        Arg::text("argument").optional().multiple(),
    ],
};

/// The most accounts of one request: more than any chain of key, user, team and organisation has.
const ACCOUNTS_MAX: usize = 16;

/// The most meters that a request names.
const METERS_MAX: usize = 16;

/// What no meter is called, so that a request reads in one way only; `WITH` is also what the server finds keys by, so
/// no lease is called that either.
const RESERVED: [&str; 4] = ["WITH", "LEASE", "TTL", "SHADOW"];

const WITH_ARG: Arg =
    Arg::block("with", &[Arg::integer("numkeys"), Arg::more_keys("account")]).after("WITH").optional();

/// account [WITH numkeys account …]
fn parse_accounts<'a>(args: &mut Args<'a>) -> Result<Short<Key<'a>>, Error> {
    let mut accounts = Short::new();
    accounts.push(args.key()?);
    if args.peek().is_some_and(|word| word.eq_ignore_ascii_case(b"WITH")) {
        args.string("WITH")?;
        let count = args.int("numkeys", 1..=ACCOUNTS_MAX - 1)?;
        accounts.extend_from_slice(args.list(count, "account")?);
    }
    Ok(accounts)
}

/// The accounts, of which some may not be there. A ledger is no account before its first policy.
fn open_accounts<'a>(call: &'a mut Call, accounts: &[Key]) -> Result<Short<Opened<'a, Account>>, Error> {
    call.open_all::<Account, Ledger>(accounts)
}

/// A request's lease and amounts, as GW.ADMIT, GW.SETTLE and GW.KEEPALIVE take them.
struct Asked<'a> {
    id: Str<'a>,
    ttl_ms: Option<u64>,
    shadow: bool,
    amounts: Short<(&'a [u8], Amount)>,
    /// The id and the amounts as they came, for the effect.
    texts: SmallVec<[Str<'a>; 9]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Opt {
    Lease,
    Ttl,
    Shadow,
}

const LEASE: (&str, Opt) = ("LEASE", Opt::Lease);
const TTL: (&str, Opt) = ("TTL", Opt::Ttl);
const SHADOW: (&str, Opt) = ("SHADOW", Opt::Shadow);

impl<'a> Asked<'a> {
    /// The options of a command in any order, between them meters with their amounts.
    fn parse(mut args: Args<'a>, options: &[(&'static str, Opt)], with_amounts: bool) -> Result<Self, Error> {
        let (mut id, mut ttl_ms, mut shadow) = (None, None, false);
        let (mut amounts, mut texts) = (Short::<(&[u8], Amount)>::new(), SmallVec::new());
        while let Some(word) = args.peek() {
            match args.option_if_any(options)? {
                Some(Opt::Lease) => id = Some(parse_id(&mut args)?),
                Some(Opt::Ttl) => ttl_ms = Some(args.int("TTL", 1..=PERIOD_MAX_MS)?),
                Some(Opt::Shadow) => shadow = true,
                None if !with_amounts => return Err(Error::new("unknown option", word)),
                None => {
                    let meter = args.string("meter")?;
                    check_meter(meter.bytes())?;
                    if amounts.iter().any(|(other, _)| *other == meter.bytes()) {
                        return Err(Error::new("repeated meter", meter.bytes()));
                    }
                    if amounts.len() >= METERS_MAX {
                        return Err(Error::new("more than 16 meters", meter.bytes()));
                    }
                    texts.push(meter);
                    texts.extend(args.first());
                    amounts.push((meter.bytes(), args.amount(meter.bytes())?));
                }
            }
        }
        let id = id.ok_or_else(|| Error::new("missing option", "LEASE"))?;
        if ttl_ms.is_none() && options.contains(&TTL) {
            return Err(Error::new("missing option", "TTL"));
        }
        texts.insert(0, id);
        Ok(Self { id, ttl_ms, shadow, amounts, texts })
    }
}

fn parse_id<'a>(args: &mut Args<'a>) -> Result<Str<'a>, Error> {
    let id = args.string("LEASE")?;
    match id.bytes() {
        word if word.eq_ignore_ascii_case(b"WITH") => Err(Error::new("reserved name", word)),
        bytes if (1..=HOLDER_BYTES_MAX).contains(&bytes.len()) => Ok(id),
        _ => Err(Error::new("not a name of 1 to 512 bytes", "LEASE")),
    }
}

fn check_meter(meter: &[u8]) -> Outcome {
    if RESERVED.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(meter)) {
        return Err(Error::new("reserved name", meter));
    }
    check_name(meter, "meter")
}

fn check_name(name: &[u8], what: &str) -> Outcome {
    match name.len() {
        1..=gateway_core::admission::NAME_BYTES_MAX => Ok(()),
        _ => Err(Error::new("not a name of 1 to 64 bytes", what)),
    }
}

/// The present, for a change; with the version of its spend where there is some.
fn moment(now_ms: i64, version: u64) -> Moment {
    Moment { day: budget::day_of(now_ms), terms: budget::terms(now_ms, version) }
}

/// Settles an admission; whether that has changed the account's spend, which a worker may want to hear of.
fn settle_one(account: &mut Account, moment: &Moment, id: &[u8], actuals: &Amounts) -> Result<bool, Overflow> {
    let before = account.ledger().version();
    account.settle(moment, id, actuals)?;
    let version = account.ledger().version();
    budget::saw_version(version);
    Ok(version != before)
}

/// A moment of which only the time counts.
fn at(at_ms: i64) -> Moment {
    let terms = Terms { at_ms, keep_days: KEEP_DAYS_MIN, remember_ms: 0, version: 0 };
    Moment { day: Day::MIN, terms }
}

/// The effect of what is done as time goes by.
fn tidied(at_ms: i64) -> Effect {
    Effect::of(EFFECT_NAME, b'X', [at_ms])
}

fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (operation, mut words) = Words::new(args.bytes("effect")?)?;
    let count = args.int("numkeys", 1..=ACCOUNTS_MAX)?;
    let accounts = args.list(count, "account")?;
    match operation {
        b'P' => policy::apply_set(call, accounts, words, args)?,
        b'D' => {
            words.end()?;
            let name = args.bytes("name")?;
            change_all(call, accounts, args, |account| {
                account.delete(name);
            })?;
        }
        _ => {
            let moment = at(words.int(0..=TIME_MAX_MS)?);
            match operation {
                b'A' | b'K' | b'S' => {
                    let spent = apply_admission(call, accounts, operation, moment, words, args)?;
                    spent.iter().for_each(|&account| budget::listing::changed(call, account));
                }
                b'X' => {
                    words.end()?;
                    change_all(call, accounts, args, |account| {
                        account.advance(&moment);
                    })?;
                }
                b'R' => {
                    words.end()?;
                    let name = args.bytes("name")?;
                    change_all(call, accounts, args, |account| {
                        account.reset(&moment, name);
                    })?;
                }
                _ => return Err(malformed()),
            }
        }
    }
    call.pass_on_all(accounts, c"gw.admission");
    call.reply().ok();
    Ok(())
}

/// The effects of an admission's life. Returns the accounts whose spend has changed.
fn apply_admission<'a>(
    call: &mut Call,
    accounts: &[Key<'a>],
    operation: u8,
    mut moment: Moment,
    mut words: Words,
    mut args: Args,
) -> Result<Short<Key<'a>>, Error> {
    moment.terms.remember_ms = words.int(0..=PERIOD_MAX_MS)?;
    let mut ttl_ms = 1;
    match operation {
        b'S' => {
            moment.terms.keep_days = words.int(KEEP_DAYS_MIN..=KEEP_DAYS_MAX)?;
            moment.terms.version = words.int(0..=VERSION_MAX)?;
        }
        b'A' => {
            moment.day = Day::from_number(words.int(i32::MIN..=i32::MAX)?).ok_or_else(malformed)?;
            ttl_ms = words.int(1..=PERIOD_MAX_MS)?;
        }
        _ => ttl_ms = words.int(1..=PERIOD_MAX_MS)?,
    }
    words.end()?;
    let id = parse_id(&mut args)?.bytes();
    let mut amounts = Short::new();
    while let Some(meter) = args.optional() {
        amounts.push((meter.bytes(), args.amount("amount")?));
    }
    let amounts = Amounts(&amounts);
    let mut opened = open_accounts(call, accounts)?;
    let mut spent = Short::new();
    for (&key, account) in accounts.iter().zip(opened.iter_mut()) {
        let Some(account) = account.get() else { continue };
        match operation {
            b'A' => account.charge(&moment, id, ttl_ms, &amounts, &mut []),
            b'S' => {
                if settle_one(account, &moment, id, &amounts).map_err(|_| malformed())? {
                    spent.push(key);
                }
            }
            _ => drop(account.keep_alive(&moment, id, ttl_ms)),
        }
    }
    Ok(spent)
}

/// Changes the accounts that are there. Nothing follows in the arguments.
fn change_all(call: &mut Call, accounts: &[Key], args: Args, mut change: impl FnMut(&mut Account)) -> Outcome {
    args.end()?;
    open_accounts(call, accounts)?.iter_mut().filter_map(|account| account.get()).for_each(&mut change);
    Ok(())
}
