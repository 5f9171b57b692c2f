//! GW.POLICYSET, GW.POLICYDEL, GW.POLICYRESET and GW.POLICYLIST: what an account is allowed.

use gateway_core::admission::{Account, Held, Name, Policy, REQUESTS, Reset, Terms, USD};
use gateway_core::bucket::Flow;
use gateway_core::calendar::Period;
use gateway_core::ledger::Ledger;
use gateway_core::window::Rule;
use gateway_core::{PERIOD_MAX_MS, UNITS_MAX};

use super::admit::full;
use super::{EFFECT_NAME, at, check_meter, check_name, open_accounts};
use crate::budget;
use crate::server::args::Args;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::effect::{Effect, Words, malformed};
use crate::server::key::{Either, OpenedEither};
use crate::server::reply::Reply;
use crate::server::{Call, Error, Key, Outcome, Str};

pub const SET: Command = Command {
    name: "GW.POLICYSET",
    handler: entry!(set),
    flags: "write deny-oom fast",
    arity: -5,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Sets a policy of an account, which keeps what the policy has counted. Replies 1 where it is new, else 0.",
    complexity: "O(N) in the account's policies",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key_as("account"),
        Arg::text("name"),
        Arg::one_of(
            "policy",
            &[
                Arg::block("window", &[Arg::integer("limit").after("WINDOW"), Arg::integer("window-ms").after("PER")]),
                Arg::block(
                    "bucket",
                    &[Arg::integer("rate").after("BUCKET"), Arg::integer("burst"), Arg::integer("per-ms").after("PER")],
                ),
                Arg::integer("max").after("INFLIGHT"),
                Arg::block(
                    "budget",
                    &[
                        Arg::text("amount").after("BUDGET"),
                        Arg::one_of("period", budget::budgets::PERIODS),
                        Arg::integer("percent").after("SOFT").optional(),
                    ],
                ),
            ],
        ),
        Arg::text("meter").after("METER").optional(),
        Arg::word("give-back", "GIVEBACK").optional(),
        Arg::word("shadow", "SHADOW").optional(),
    ],
};

pub const DEL: Command = Command {
    name: "GW.POLICYDEL",
    handler: entry!(del),
    flags: "write fast",
    arity: 3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Removes a policy of an account and what it has counted. Replies 1, or 0 where there is none.",
    complexity: "O(N) in the account's policies",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key_as("account"), Arg::text("name")],
};

pub const RESET: Command = Command {
    name: "GW.POLICYRESET",
    handler: entry!(reset),
    flags: "write",
    arity: 3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Forgets what a policy of an account has counted. Replies 1, or 0 where there is none.",
    complexity: "O(N) in the account's policies, or in its leases in flight",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key_as("account"), Arg::text("name")],
};

pub const LIST: Command = Command {
    name: "GW.POLICYLIST",
    handler: entry!(list),
    flags: "readonly fast",
    arity: 2,
    keys: Keys::One(Access::Read),
    summary: "Replies each policy of an account in the words that set it.",
    complexity: "O(N) in the account's policies",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key_as("account")],
};

#[derive(Clone, Copy)]
enum Kind {
    Window,
    Bucket,
    InFlight,
    Budget,
}

const KINDS: [(&str, Kind); 4] =
    [("WINDOW", Kind::Window), ("BUCKET", Kind::Bucket), ("INFLIGHT", Kind::InFlight), ("BUDGET", Kind::Budget)];

#[derive(Clone, Copy)]
enum Opt {
    Per,
    Meter,
    Soft,
    GiveBack,
    Shadow,
}

const SHADOW: (&str, Opt) = ("SHADOW", Opt::Shadow);
const METER: (&str, Opt) = ("METER", Opt::Meter);
const RATE_OPTIONS: &[(&str, Opt)] = &[SHADOW, METER, ("PER", Opt::Per), ("GIVEBACK", Opt::GiveBack)];
const BUDGET_OPTIONS: &[(&str, Opt)] = &[SHADOW, METER, ("SOFT", Opt::Soft)];

/// WINDOW limit PER ms [METER m] [GIVEBACK] [SHADOW] | BUCKET rate burst PER ms [METER m] [GIVEBACK] [SHADOW] |
/// INFLIGHT max [SHADOW] | BUDGET amount period [METER m] [SOFT percent] [SHADOW]
fn parse_policy(args: &mut Args) -> Result<Policy, Error> {
    let word = args.bytes("policy")?;
    let kind = KINDS.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
    let &(_, kind) = kind.ok_or_else(|| Error::new("not WINDOW, BUCKET, INFLIGHT or BUDGET", word))?;
    let (mut terms, meter, options) = match kind {
        Kind::Window => {
            let limit = args.int("limit", 0..=UNITS_MAX)?;
            (Terms::Window(Rule { limit, window_ms: 0, fixed: false }), REQUESTS, RATE_OPTIONS)
        }
        Kind::Bucket => {
            let (rate, burst) = (args.int("rate", 1..=UNITS_MAX)?, args.int("burst", 0..=UNITS_MAX)?);
            (Terms::Bucket(Flow { rate, burst, per_ms: 0 }), REQUESTS, RATE_OPTIONS)
        }
        Kind::InFlight => (Terms::InFlight { max: args.int("max", 0..=UNITS_MAX)? }, &b""[..], &[SHADOW][..]),
        Kind::Budget => {
            let amount = args.amount("amount")?;
            let word = args.bytes("period")?;
            let period = Period::parse(word).ok_or_else(|| budget::not_a_period(word))?;
            (Terms::Budget { amount, period, soft_percent: 0 }, USD, BUDGET_OPTIONS)
        }
    };
    let mut policy = Policy { terms, meter: Name::from_slice(meter), shadow: false, give_back: false };
    let mut per_ms = None;
    while let Some(option) = args.option(options)? {
        match option {
            Opt::Per => per_ms = Some(args.int("PER", 1..=PERIOD_MAX_MS)?),
            Opt::Meter => {
                let meter = args.bytes("METER")?;
                check_meter(meter)?;
                policy.meter = Name::from_slice(meter);
            }
            Opt::Soft => {
                let percent = args.int("SOFT", 1..=100u8)?;
                if let Terms::Budget { soft_percent, .. } = &mut terms {
                    *soft_percent = percent;
                }
            }
            Opt::GiveBack => policy.give_back = true,
            Opt::Shadow => policy.shadow = true,
        }
    }
    if let Terms::Window(Rule { window_ms: period_ms, .. }) | Terms::Bucket(Flow { per_ms: period_ms, .. }) = &mut terms
    {
        *period_ms = per_ms.ok_or_else(|| Error::new("missing option", "PER"))?;
    }
    policy.terms = terms;
    Ok(policy)
}

/// GW.POLICYSET account name policy
fn set(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let account = args.key()?;
    // The words are the effect: there is nothing in them that another node would read otherwise.
    let words = args.clone().rest("name")?;
    let (name, policy) = parse_named(args)?;

    let mut opened = call.open_either::<Account, Ledger>(account)?;
    if let Either::One(account) = &mut opened {
        let known = account.get().and_then(|account| account.policies().iter().find(|held| *held.name == *name));
        if known.is_some_and(|held| held.policy == policy) {
            drop(opened);
            call.reply().int(0);
            return Ok(());
        }
    }
    let is_new = put(opened, name, policy)?;
    call.replicate_all(&[account], c"gw.policyset", &Effect::new(EFFECT_NAME, b'P'), words);
    call.reply().int(is_new.into());
    Ok(())
}

fn parse_named<'a>(mut args: Args<'a>) -> Result<(&'a [u8], Policy), Error> {
    let name = args.bytes("name")?;
    check_name(name, "name")?;
    Ok((name, parse_policy(&mut args)?))
}

/// Sets a policy, in a new account where there is none; a ledger becomes the account's. Returns whether it is new.
fn put(opened: OpenedEither<Account, Ledger>, name: &[u8], policy: Policy) -> Result<bool, Error> {
    let mut opened = match opened {
        Either::One(opened) => opened,
        Either::Other(mut opened) => {
            let ledger = opened.get().map(std::mem::take).unwrap_or_default();
            opened.replace(Account::with_ledger(ledger))
        }
    };
    if let Some(account) = opened.get() {
        return account.set(name, policy).map_err(full);
    }
    let mut account = Account::default();
    let is_new = account.set(name, policy).map_err(full)?;
    opened.insert(account);
    Ok(is_new)
}

/// The effect `P`.
pub(super) fn apply_set(call: &mut Call, accounts: &[Key], words: Words, args: Args) -> Outcome {
    words.end()?;
    let (name, policy) = parse_named(args).map_err(|_| malformed())?;
    for &account in accounts {
        put(call.open_either(account)?, name, policy.clone())?;
    }
    Ok(())
}

/// account name, of a command that changes a policy that is there.
fn parse_known<'a>(call: &Call<'a>) -> Result<(Key<'a>, Str<'a>), Error> {
    let mut args = call.args();
    let (account, name) = (args.key()?, args.string("name")?);
    args.end()?;
    check_name(name.bytes(), "name")?;
    Ok((account, name))
}

/// GW.POLICYDEL account name
fn del(call: &mut Call) -> Outcome {
    let (account, name) = parse_known(call)?;
    let mut opened = open_accounts(call, &[account])?;
    let deleted = opened.iter_mut().filter_map(|account| account.get()).any(|account| account.delete(name.bytes()));
    drop(opened);
    if deleted {
        call.replicate_all(&[account], c"gw.policydel", &Effect::new(EFFECT_NAME, b'D'), &[name]);
    }
    call.reply().int(deleted.into());
    Ok(())
}

/// GW.POLICYRESET account name
fn reset(call: &mut Call) -> Outcome {
    let (account, name) = parse_known(call)?;
    let now_ms = call.now_ms();
    let mut opened = open_accounts(call, &[account])?;
    let reset = match opened.iter_mut().find_map(|account| account.get()) {
        Some(account) => account.reset(&at(now_ms), name.bytes()),
        None => Reset::NoSuchPolicy,
    };
    drop(opened);
    if reset == Reset::Budget {
        return Err(Error::new("spend is not forgotten; set another budget", name.bytes()));
    }
    if reset == Reset::Done {
        call.replicate_all(&[account], c"gw.policyreset", &Effect::of(EFFECT_NAME, b'R', [now_ms]), &[name]);
    }
    call.reply().int((reset == Reset::Done).into());
    Ok(())
}

/// GW.POLICYLIST account
fn list(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let account = args.key()?;
    args.end()?;
    let reply = call.reply();
    match call.find_either::<Account, Ledger>(account)? {
        Some(Either::One(account)) => {
            let policies = account.get().policies();
            reply.array(policies.len());
            policies.iter().for_each(|held| reply_words(&reply, held));
        }
        Some(Either::Other(_)) | None => {
            reply.array(0);
        }
    }
    Ok(())
}

/// A policy's name and the words that set it.
pub(super) fn reply_words(reply: &Reply, held: &Held) {
    let number = |value: u64| value.to_string().into_bytes();
    let Policy { terms, meter, shadow, give_back } = &held.policy;
    let mut words: Vec<Vec<u8>> = vec![held.name.to_vec()];
    match *terms {
        Terms::Window(Rule { limit, window_ms, .. }) => {
            words.extend([b"WINDOW".to_vec(), number(limit), b"PER".to_vec(), number(window_ms)]);
        }
        Terms::Bucket(Flow { rate, burst, per_ms }) => {
            words.extend([b"BUCKET".to_vec(), number(rate), number(burst), b"PER".to_vec(), number(per_ms)]);
        }
        Terms::InFlight { max } => words.extend([b"INFLIGHT".to_vec(), number(max)]),
        Terms::Budget { amount, period, soft_percent } => {
            words.extend([b"BUDGET".to_vec(), amount.to_text().as_bytes().to_vec(), period.name().into()]);
            if soft_percent > 0 {
                words.extend([b"SOFT".to_vec(), number(soft_percent.into())]);
            }
        }
    }
    if !meter.is_empty() {
        words.extend([b"METER".to_vec(), meter.to_vec()]);
    }
    words.extend(give_back.then(|| b"GIVEBACK".to_vec()));
    words.extend(shadow.then(|| b"SHADOW".to_vec()));
    reply.array(words.len());
    for word in words {
        reply.bytes(word);
    }
}
