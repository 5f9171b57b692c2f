//! The family's arguments: leases, meters, amounts and names.

use gateway_core::PERIOD_MAX_MS;
use gateway_core::admission::form::is_reserved;
use gateway_core::admission::{NAME_BYTES_MAX, Pick, Report};
use gateway_core::lease::HOLDER_BYTES_MAX;
use gateway_core::money::Amount;
use smallvec::SmallVec;

use super::accounts::explain;
use crate::server::args::{Args, Short};
use crate::server::{Error, Key, Outcome, Str};

/// The most meters in a request.
const METERS_MAX: usize = 16;

/// The lease and the amounts of a request, as GW.ADMIT, GW.ROUTE, GW.SETTLE and GW.KEEPALIVE take them.
pub struct AdmissionArgs<'a> {
    pub id: Str<'a>,
    pub ttl_ms: Option<u64>,
    pub shadow: bool,
    pub require: bool,
    /// The rows to reply, if the request says so.
    pub rows: Option<RowsWanted>,
    pub pick: Pick,
    pub report: Report,
    pub amounts: Short<(&'a [u8], Amount)>,
    /// The id and the amounts as texts, for the effect.
    pub texts: SmallVec<[Str<'a>; 9]>,
}

/// Which rows GW.ADMIT and GW.ROUTE reply.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RowsWanted {
    All,
    Refused,
    None,
    Detail,
}

const ROWS_WORDS: [(&str, RowsWanted); 4] = [
    ("ALL", RowsWanted::All),
    ("REFUSED", RowsWanted::Refused),
    ("NONE", RowsWanted::None),
    ("DETAIL", RowsWanted::Detail),
];

const PICK_WORDS: [(&str, Pick); 3] = [("FIRST", Pick::First), ("ROOM", Pick::Room), ("FAST", Pick::Fast)];

/// Parses the value of an option that is one of `words`. `others` is the error for any other one.
fn one_of<T: Copy>(args: &mut Args, option: &str, words: &[(&str, T)], others: &str) -> Result<T, Error> {
    let word = args.bytes(option)?;
    let known = words.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
    known.map(|&(_, value)| value).ok_or_else(|| Error::new(others, word))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Opt {
    Lease,
    Ttl,
    Shadow,
    Require,
    Rows,
    /// ROWS without DETAIL.
    RouteRows,
    Pick,
    Failed,
    Cooldown,
    Took,
}

pub const LEASE: (&str, Opt) = ("LEASE", Opt::Lease);
pub const TTL: (&str, Opt) = ("TTL", Opt::Ttl);
pub const SHADOW: (&str, Opt) = ("SHADOW", Opt::Shadow);
pub const REQUIRE: (&str, Opt) = ("REQUIRE", Opt::Require);
pub const ROWS: (&str, Opt) = ("ROWS", Opt::Rows);
pub const ROUTE_ROWS: (&str, Opt) = ("ROWS", Opt::RouteRows);
pub const PICK: (&str, Opt) = ("PICK", Opt::Pick);
pub const FAILED: (&str, Opt) = ("FAILED", Opt::Failed);
pub const COOLDOWN: (&str, Opt) = ("COOLDOWN", Opt::Cooldown);
pub const TOOK: (&str, Opt) = ("TOOK", Opt::Took);

impl<'a> AdmissionArgs<'a> {
    /// Parses the arguments after the accounts: the options of a command in any order, mixed with meters and their
    /// amounts.
    pub fn parse(
        args: Args<'a>,
        accounts: &[Key],
        options: &[(&'static str, Opt)],
        with_amounts: bool,
    ) -> Result<Self, Error> {
        let given = args.clone();
        let explain = |error| explain(error, accounts, given.all());
        Self::read(args, options, with_amounts).map_err(explain)
    }

    fn read(mut args: Args<'a>, options: &[(&'static str, Opt)], with_amounts: bool) -> Result<Self, Error> {
        let (mut id, mut ttl_ms, mut shadow) = (None, None, false);
        let (mut require, mut rows, mut pick) = (false, None, Pick::First);
        let mut report = Report::default();
        let (mut amounts, mut texts) = (Short::<(&[u8], Amount)>::new(), SmallVec::new());
        while let Some(taken) = args.optional() {
            let word = taken.bytes();
            match args.option_named(word, options)? {
                Some(Opt::Lease) => id = Some(parse_lease_id(&mut args)?),
                Some(Opt::Ttl) => ttl_ms = Some(args.int("TTL", 1..=PERIOD_MAX_MS)?),
                Some(Opt::Shadow) => shadow = true,
                Some(Opt::Require) => require = true,
                Some(Opt::Rows) => {
                    rows = Some(one_of(&mut args, "ROWS", &ROWS_WORDS, "not ALL, REFUSED, NONE or DETAIL")?);
                }
                Some(Opt::RouteRows) => {
                    let [words @ .., _] = &ROWS_WORDS;
                    rows = Some(one_of(&mut args, "ROWS", words, "not ALL, REFUSED or NONE")?);
                }
                Some(Opt::Pick) => pick = one_of(&mut args, "PICK", &PICK_WORDS, "not FIRST, ROOM or FAST")?,
                Some(Opt::Failed) => report.failed = true,
                Some(Opt::Cooldown) => report.cooldown_ms = args.int("COOLDOWN", 1..=PERIOD_MAX_MS)?,
                Some(Opt::Took) => report.took_ms = Some(args.int("TOOK", 0..=PERIOD_MAX_MS)?),
                None if is_with(word) => return Err(Error::new("not directly after the first account", word)),
                None if !with_amounts => return Err(Error::unknown_option(word)),
                None => {
                    check_meter(word)?;
                    if amounts.iter().any(|(other, _)| *other == word) {
                        return Err(Error::new("repeated meter", word));
                    }
                    if amounts.len() >= METERS_MAX {
                        return Err(Error::more_than(METERS_MAX, "meters", word));
                    }
                    let text = args.first();
                    let amount = args.amount(word).map_err(|error| match text {
                        Some(text) if is_reserved(text.bytes()) => Error::missing_value(word),
                        _ => error,
                    })?;
                    texts.push(taken);
                    texts.extend(text);
                    amounts.push((word, amount));
                }
            }
        }
        let id = id.ok_or_else(|| Error::missing_option("LEASE"))?;
        if ttl_ms.is_none() && options.contains(&TTL) {
            return Err(Error::missing_option("TTL"));
        }
        if report.cooldown_ms > 0 && !report.failed {
            return Err(Error::only_with("FAILED", "COOLDOWN"));
        }
        texts.insert(0, id);
        Ok(Self { id, ttl_ms, shadow, require, rows, pick, report, amounts, texts })
    }
}

/// The id of a lease.
pub fn parse_lease_id<'a>(args: &mut Args<'a>) -> Result<Str<'a>, Error> {
    let id = args.string("LEASE")?;
    match id.bytes() {
        word if word.eq_ignore_ascii_case(b"WITH") => Err(Error::new("reserved name", word)),
        bytes if (1..=HOLDER_BYTES_MAX).contains(&bytes.len()) => Ok(id),
        _ => Err(Error::not_a_name(HOLDER_BYTES_MAX, "LEASE")),
    }
}

fn is_with(word: &[u8]) -> bool {
    word.len() == 4 && word.eq_ignore_ascii_case(b"WITH")
}

pub fn check_meter(meter: &[u8]) -> Outcome {
    if is_reserved(meter) {
        return Err(Error::new("reserved name", meter));
    }
    check_name(meter, "meter")
}

/// The name of a policy or a meter.
pub fn check_name(name: &[u8], what: &str) -> Outcome {
    match name.len() {
        1..=NAME_BYTES_MAX => Ok(()),
        _ => Err(Error::not_a_name(NAME_BYTES_MAX, what)),
    }
}
