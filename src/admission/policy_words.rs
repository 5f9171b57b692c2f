//! The words of a policy, as GW.POLICYSET takes and GW.POLICYLIST replies them.

use gateway_core::admission::{AccountPolicy, Kind, Policy, REQUESTS, ShortName, Tally, USD};
use gateway_core::bucket::Flow;
use gateway_core::calendar::Period;
use gateway_core::window::Rule;
use gateway_core::{PERIOD_MAX_MS, UNITS_MAX};

use super::args::{check_meter, check_name};
use crate::budget::args::not_a_period;
use crate::server::Error;
use crate::server::args::Args;
use crate::server::reply::Reply;

/// The first word of a policy.
#[derive(Clone, Copy)]
enum KindWord {
    Window,
    Bucket,
    InFlight,
    Budget,
}

const KINDS: [(&str, KindWord); 4] = [
    ("WINDOW", KindWord::Window),
    ("BUCKET", KindWord::Bucket),
    ("INFLIGHT", KindWord::InFlight),
    ("BUDGET", KindWord::Budget),
];

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
    let known = KINDS.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
    let &(_, word_kind) = known.ok_or_else(|| Error::new("not WINDOW, BUCKET, INFLIGHT or BUDGET", word))?;
    let (mut kind, meter, options) = match word_kind {
        KindWord::Window => {
            let limit = args.int("limit", 0..=UNITS_MAX)?;
            (Kind::Window(Rule { limit, window_ms: 0, fixed: false }), REQUESTS, RATE_OPTIONS)
        }
        KindWord::Bucket => {
            let (rate, burst) = (args.int("rate", 1..=UNITS_MAX)?, args.int("burst", 0..=UNITS_MAX)?);
            (Kind::Bucket(Flow { rate, burst, per_ms: 0 }), REQUESTS, RATE_OPTIONS)
        }
        KindWord::InFlight => (Kind::InFlight { max: args.int("max", 0..=UNITS_MAX)? }, &b""[..], &[SHADOW][..]),
        KindWord::Budget => {
            let amount = args.amount("amount")?;
            let word = args.bytes("period")?;
            let period = Period::parse(word).ok_or_else(|| not_a_period(word))?;
            (Kind::Budget { amount, period, soft_percent: 0 }, USD, BUDGET_OPTIONS)
        }
    };
    let mut policy = Policy { kind, meter: ShortName::from_slice(meter), shadow: false, give_back: false };
    let mut per_ms = None;
    while let Some(option) = args.option(options)? {
        match option {
            Opt::Per => per_ms = Some(args.int("PER", 1..=PERIOD_MAX_MS)?),
            Opt::Meter => {
                let meter = args.bytes("METER")?;
                check_meter(meter)?;
                policy.meter = ShortName::from_slice(meter);
            }
            Opt::Soft => {
                let percent = args.int("SOFT", 1..=100u8)?;
                if let Kind::Budget { soft_percent, .. } = &mut kind {
                    *soft_percent = percent;
                }
            }
            Opt::GiveBack => policy.give_back = true,
            Opt::Shadow => policy.shadow = true,
        }
    }
    if let Kind::Window(Rule { window_ms: period_ms, .. }) | Kind::Bucket(Flow { per_ms: period_ms, .. }) = &mut kind {
        *period_ms = per_ms.ok_or_else(|| Error::missing_option("PER"))?;
    }
    policy.kind = kind;
    Ok(policy)
}

/// Parses a policy's name and its words.
pub fn parse_named<'a>(mut args: Args<'a>) -> Result<(&'a [u8], Policy), Error> {
    let name = args.bytes("name")?;
    check_name(name, "name")?;
    Ok((name, parse_policy(&mut args)?))
}

/// The first word of a policy.
pub fn kind_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Window(_) => "WINDOW",
        Kind::Bucket(_) => "BUCKET",
        Kind::InFlight { .. } => "INFLIGHT",
        Kind::Budget { .. } => "BUDGET",
    }
}

/// Replies what this node has seen of a policy: the requests that it refused, and when its meter was last named.
pub fn reply_tally(reply: &Reply, own: &AccountPolicy) {
    let Tally { denied, named_ms } = *own.tally();
    reply.map(2).bytes("denied").count(denied).bytes("named_ms");
    match named_ms {
        0 => reply.null(),
        _ => reply.int(named_ms),
    };
}

/// Replies a policy's name and the words that set it.
pub fn reply_words(reply: &Reply, own: &AccountPolicy) {
    let number = |value: u64| value.to_string().into_bytes();
    let Policy { kind, meter, shadow, give_back } = &own.policy;
    let mut words: Vec<Vec<u8>> = vec![own.name.to_vec()];
    match *kind {
        Kind::Window(Rule { limit, window_ms, .. }) => {
            words.extend([b"WINDOW".to_vec(), number(limit), b"PER".to_vec(), number(window_ms)]);
        }
        Kind::Bucket(Flow { rate, burst, per_ms }) => {
            words.extend([b"BUCKET".to_vec(), number(rate), number(burst), b"PER".to_vec(), number(per_ms)]);
        }
        Kind::InFlight { max } => words.extend([b"INFLIGHT".to_vec(), number(max)]),
        Kind::Budget { amount, period, soft_percent } => {
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
