//! GW.POLICYSET, GW.POLICYDEL, GW.POLICYRESET and GW.POLICYLIST: the policies of an account.

use gateway_core::admission::{Account, Moment, Reset, document};
use gateway_core::ledger::Ledger;

use super::accounts;
use super::args::check_name;
use super::effect::{AccountsEffect, tell_soft};
use super::policy_words::{parse_named, reply_tally, reply_words, words};
use crate::budget::args::PERIODS;
use crate::budget::settings::present;
use crate::server::args::OwnedKey;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::key::Either;
use crate::server::{Call, Error, Key, Outcome, Str};

pub const SET: Command = Command {
    name: "GW.POLICYSET",
    handler: entry!(set),
    flags: "write deny-oom fast",
    arity: -4,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Sets a policy of an account; one that exists keeps what it has counted. Replies 1 if it is new, else 0.",
    complexity: "O(N) in the account's policies",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key_as("account"),
        Arg::text("name"),
        Arg::one_of(
            "policy",
            &[
                Arg::block(
                    "window",
                    &[
                        Arg::text("limit").after("WINDOW"),
                        Arg::integer("window-ms").after("PER"),
                        Arg::word("decimal", "DECIMAL").optional(),
                        Arg::block(
                            "whole",
                            &[Arg::word("fixed", "FIXED"), Arg::unix_time("anchor-ms").after("ANCHOR").optional()],
                        )
                        .optional(),
                    ],
                ),
                Arg::block(
                    "bucket",
                    &[
                        Arg::text("rate").after("BUCKET"),
                        Arg::text("burst"),
                        Arg::integer("per-ms").after("PER"),
                        Arg::word("decimal", "DECIMAL").optional(),
                    ],
                ),
                Arg::integer("max").after("INFLIGHT"),
                Arg::block(
                    "budget",
                    &[
                        Arg::text("amount").after("BUDGET"),
                        Arg::one_of("period", PERIODS),
                        Arg::integer("percent").after("SOFT").optional(),
                    ],
                ),
                Arg::block(
                    "block",
                    &[
                        Arg::word("blocked", "BLOCK"),
                        Arg::one_of(
                            "end",
                            &[Arg::integer("for-ms").after("FOR"), Arg::unix_time("unix-time-ms").after("UNTIL")],
                        )
                        .optional(),
                    ],
                ),
                Arg::block(
                    "breaker",
                    &[
                        Arg::integer("failures").after("BREAKER"),
                        Arg::integer("per-ms").after("PER"),
                        Arg::integer("open-ms").after("OPEN"),
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
    summary: "Removes a policy of an account and what it has counted. Replies 1, or 0 if there is none.",
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
    summary: "Forgets what a policy of an account has counted. Replies 1, or 0 if there is none.",
    complexity: "O(N) in the account's policies, or in its leases in flight",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key_as("account"), Arg::text("name")],
};

pub const LIST: Command = Command {
    name: "GW.POLICYLIST",
    handler: entry!(list),
    flags: "readonly fast",
    arity: -2,
    keys: Keys::One(Access::Read),
    summary: "Replies the policies of an account, each with the words that set it; with JSON, the document that puts them \
              all; with STATS, what this node has seen of each.",
    complexity: "O(N) in the account's policies",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key_as("account"),
        Arg::one_of("form", &[Arg::word("stats", "STATS"), Arg::word("json", "JSON")]).optional(),
    ],
};

/// GW.POLICYSET account name policy
fn set(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let account = args.key()?;
    let now_ms = call.now_ms();
    let (name, policy) = parse_named(args, now_ms)?;
    // The effect has the words that GW.POLICYLIST replies, which every node reads in the same way, at any time.
    let words: Vec<OwnedKey> = words(&name.into(), &policy).iter().map(|word| OwnedKey::new(word)).collect();
    let words: Vec<Str> = words.iter().map(OwnedKey::key).collect();

    let mut opened = accounts::open_to_make(call, account)?;
    if let Either::One(account) = &mut opened {
        let known = account.get().and_then(|account| account.policies().iter().find(|own| *own.name == *name));
        if known.is_some_and(|own| own.policy == policy) {
            drop(opened);
            call.reply().int(0);
            return Ok(());
        }
    }
    // A budget may be set below what is spent.
    let now = present(now_ms, 0);
    let (is_new, told) = accounts::make(opened, |account| {
        let is_new = account.set(name, policy).map_err(accounts::exceeded)?;
        Ok((is_new, account.tell_soft(&now)))
    })?;
    AccountsEffect::policy_set().replicate(call, &[account], &words);
    tell_soft(call, account, now.day, &told);
    call.reply().int(is_new.into());
    Ok(())
}

/// Parses `account name`, for commands on an existing policy.
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
    let mut opened = accounts::open(call, &[account])?;
    let deleted = opened.iter_mut().filter_map(|account| account.get()).any(|account| account.delete(name.bytes()));
    drop(opened);
    if deleted {
        AccountsEffect::policy_removed().replicate(call, &[account], &[name]);
    }
    call.reply().int(deleted.into());
    Ok(())
}

/// GW.POLICYRESET account name
fn reset(call: &mut Call) -> Outcome {
    let (account, name) = parse_known(call)?;
    let now_ms = call.now_ms();
    let mut opened = accounts::open(call, &[account])?;
    let reset = match opened.iter_mut().find_map(|account| account.get()) {
        Some(account) => account.reset(&Moment::time_only(now_ms), name.bytes()),
        None => Reset::NoSuchPolicy,
    };
    drop(opened);
    if reset == Reset::Budget {
        return Err(Error::new("budget spend cannot be reset; set another budget", name.bytes()));
    }
    if reset == Reset::Done {
        AccountsEffect::policy_reset(now_ms).replicate(call, &[account], &[name]);
    }
    call.reply().int((reset == Reset::Done).into());
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ListAs {
    Words,
    Json,
    Stats,
}

/// GW.POLICYLIST account [STATS|JSON]
fn list(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let account = args.key()?;
    let form = args.option(&[("STATS", ListAs::Stats), ("JSON", ListAs::Json)])?.unwrap_or(ListAs::Words);
    args.end()?;
    let reply = call.reply();
    let found = match call.find_either::<Account, Ledger>(account)? {
        Some(Either::One(account)) => Some(account),
        Some(Either::Other(_)) | None => None,
    };
    let policies = found.as_ref().map(|account| account.get().policies());
    if form == ListAs::Json {
        let Some(policies) = policies else {
            reply.null();
            return Ok(());
        };
        let named = policies.iter().map(|own| (&*own.name, &own.policy));
        reply.bytes(document::write(named).map_err(|name| Error::new("not UTF-8, so JSON cannot say it", name))?);
        return Ok(());
    }
    let policies = policies.unwrap_or_default();
    reply.array(policies.len());
    for own in policies {
        if form == ListAs::Stats {
            reply.array(2).bytes(&own.name);
            reply_tally(&reply, own.tally());
        } else {
            reply_words(&reply, &own.name, &own.policy);
        }
    }
    Ok(())
}
