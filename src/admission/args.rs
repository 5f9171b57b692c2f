//! The family's arguments: leases, meters, amounts and names.

use gateway_core::PERIOD_MAX_MS;
use gateway_core::admission::NAME_BYTES_MAX;
use gateway_core::lease::HOLDER_BYTES_MAX;
use gateway_core::money::Amount;
use smallvec::SmallVec;

use crate::server::args::{Args, Short};
use crate::server::{Error, Outcome, Str};

/// The most meters that a request names.
const METERS_MAX: usize = 16;

/// No meter may have one of these names, so that a request can be read in one way only. `WITH` is also what the server
/// finds keys by, so no lease may have that name either.
const RESERVED: [&str; 4] = ["WITH", "LEASE", "TTL", "SHADOW"];

/// The lease and the amounts of a request, as GW.ADMIT, GW.SETTLE and GW.KEEPALIVE take them.
pub struct AdmissionArgs<'a> {
    pub id: Str<'a>,
    pub ttl_ms: Option<u64>,
    pub shadow: bool,
    pub amounts: Short<(&'a [u8], Amount)>,
    /// The id and the amounts as they came, for the effect.
    pub texts: SmallVec<[Str<'a>; 9]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Opt {
    Lease,
    Ttl,
    Shadow,
}

pub const LEASE: (&str, Opt) = ("LEASE", Opt::Lease);
pub const TTL: (&str, Opt) = ("TTL", Opt::Ttl);
pub const SHADOW: (&str, Opt) = ("SHADOW", Opt::Shadow);

impl<'a> AdmissionArgs<'a> {
    /// Parses the options of a command in any order, with meters and their amounts between them.
    pub fn parse(mut args: Args<'a>, options: &[(&'static str, Opt)], with_amounts: bool) -> Result<Self, Error> {
        let (mut id, mut ttl_ms, mut shadow) = (None, None, false);
        let (mut amounts, mut texts) = (Short::<(&[u8], Amount)>::new(), SmallVec::new());
        while let Some(word) = args.peek() {
            match args.option_if_any(options)? {
                Some(Opt::Lease) => id = Some(parse_lease_id(&mut args)?),
                Some(Opt::Ttl) => ttl_ms = Some(args.int("TTL", 1..=PERIOD_MAX_MS)?),
                Some(Opt::Shadow) => shadow = true,
                None if !with_amounts => return Err(Error::unknown_option(word)),
                None => {
                    let meter = args.string("meter")?;
                    check_meter(meter.bytes())?;
                    if amounts.iter().any(|(other, _)| *other == meter.bytes()) {
                        return Err(Error::new("repeated meter", meter.bytes()));
                    }
                    if amounts.len() >= METERS_MAX {
                        return Err(Error::more_than(METERS_MAX, "meters", meter.bytes()));
                    }
                    texts.push(meter);
                    texts.extend(args.first());
                    amounts.push((meter.bytes(), args.amount(meter.bytes())?));
                }
            }
        }
        let id = id.ok_or_else(|| Error::missing_option("LEASE"))?;
        if ttl_ms.is_none() && options.contains(&TTL) {
            return Err(Error::missing_option("TTL"));
        }
        texts.insert(0, id);
        Ok(Self { id, ttl_ms, shadow, amounts, texts })
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

pub fn check_meter(meter: &[u8]) -> Outcome {
    if RESERVED.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(meter)) {
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
