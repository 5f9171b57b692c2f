//! GW.POLICYSET, GW.POLICYDEL, GW.POLICYRESET and GW.POLICYLIST: what an account is allowed.

use gateway_core::admission::{Account, Reset};
use gateway_core::ledger::Ledger;

use super::accounts;
use super::args::check_name;
use super::effect::{AccountsEffect, time_only};
use super::policy_words::{parse_named, reply_tally, reply_words};
use crate::budget::args::PERIODS;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::key::Either;
use crate::server::{Call, Error, Key, Outcome, Str};

pub const SET: Command = Command {
    name: "GW.POLICYSET",
    handler: entry!(set),
    flags: "write deny-oom fast",
    arity: -5,
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
                        Arg::one_of("period", PERIODS),
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
    summary: "Replies the policies of an account, each with the words that set it; with STATS, what this node has seen \
              of each.",
    complexity: "O(N) in the account's policies",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key_as("account"), Arg::word("stats", "STATS").optional()],
};

/// GW.POLICYSET account name policy
fn set(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let account = args.key()?;
    // The words are the effect: every node reads them in the same way.
    let words = args.clone().rest("name")?;
    let (name, policy) = parse_named(args)?;

    let mut opened = accounts::open_to_make(call, account)?;
    if let Either::One(account) = &mut opened {
        let known = account.get().and_then(|account| account.policies().iter().find(|own| *own.name == *name));
        if known.is_some_and(|own| own.policy == policy) {
            drop(opened);
            call.reply().int(0);
            return Ok(());
        }
    }
    let is_new = accounts::make(opened, |account| account.set(name, policy).map_err(accounts::exceeded))?;
    AccountsEffect::policy_set().replicate(call, &[account], words);
    call.reply().int(is_new.into());
    Ok(())
}

/// Parses `account name`, for commands that change a policy that exists.
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
        Some(account) => account.reset(&time_only(now_ms), name.bytes()),
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

/// GW.POLICYLIST account [STATS]
fn list(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let account = args.key()?;
    let with_stats = args.option(&[("STATS", ())])?.is_some();
    args.end()?;
    let reply = call.reply();
    match call.find_either::<Account, Ledger>(account)? {
        Some(Either::One(account)) => {
            let policies = account.get().policies();
            reply.array(policies.len());
            for own in policies {
                if with_stats {
                    reply.array(2).bytes(&own.name);
                    reply_tally(&reply, own);
                } else {
                    reply_words(&reply, own);
                }
            }
        }
        Some(Either::Other(_)) | None => {
            reply.array(0);
        }
    }
    Ok(())
}
