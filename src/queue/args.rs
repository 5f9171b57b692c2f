//! Arguments that several queue commands take.

use gateway_core::PERIOD_MAX_MS;
use gateway_core::queue::{BATCH_RECORDS_MAX, BatchId, COUNT_MAX, DELIVERIES_MAX};

use super::settings::MAX_DELIVERIES;
use crate::server::args::Args;
use crate::server::{Call, Error, Key};

/// More records would occupy the server for a millisecond or longer; a consumer simply asks again.
const COUNT_PER_CALL_MAX: u64 = BATCH_RECORDS_MAX as u64;
pub const BYTES_PER_CALL_MAX: u64 = 1 << 20;

pub fn parse_batch_id(args: &mut Args) -> Result<BatchId, Error> {
    let text = args.bytes("batch-id")?;
    BatchId::parse(text).ok_or_else(|| Error::new("not a batch id", text))
}

/// The longest id of a push, in bytes.
pub const ID_BYTES_MAX: usize = 512;

/// Parses the number of a delivery, after the word DELIVERY.
pub fn parse_delivery(args: &mut Args) -> Result<u64, Error> {
    args.int("DELIVERY", 1..=COUNT_MAX)
}

/// The most records, and the most bytes of records, that a call takes.
#[derive(Clone, Copy)]
pub struct Bounds {
    pub count: u64,
    pub max_bytes: u64,
}

#[derive(Clone, Copy)]
enum Opt {
    Count,
    MaxBytes,
    Block,
    Lease,
    MaxDeliveries,
}

const POP_OPTIONS: [(&str, Opt); 5] = [
    ("COUNT", Opt::Count),
    ("MAXBYTES", Opt::MaxBytes),
    ("BLOCK", Opt::Block),
    ("LEASE", Opt::Lease),
    ("MAXDELIVERIES", Opt::MaxDeliveries),
];

const PEEK_OPTIONS: [(&str, Opt); 2] = [("COUNT", Opt::Count), ("MAXBYTES", Opt::MaxBytes)];

/// A call of GW.LOGPOP or GW.LOGPEEK.
pub struct PopRequest<'a> {
    pub key: Key<'a>,
    pub bounds: Bounds,
    /// How long to wait in milliseconds; 0 waits for ever.
    pub block_ms: Option<u64>,
    pub lease_ms: Option<u64>,
    pub deliveries_max: u64,
}

impl<'a> PopRequest<'a> {
    /// key [COUNT n] [MAXBYTES n] [BLOCK ms] [LEASE ms [MAXDELIVERIES n]]
    pub fn parse(call: &Call<'a>) -> Result<Self, Error> {
        Self::parse_with(call, &POP_OPTIONS)
    }

    /// key [COUNT n] [MAXBYTES n]
    pub fn parse_peek(call: &Call<'a>) -> Result<Self, Error> {
        Self::parse_with(call, &PEEK_OPTIONS)
    }

    fn parse_with(call: &Call<'a>, options: &[(&'static str, Opt)]) -> Result<Self, Error> {
        let mut args = call.args();
        let key = args.key()?;
        let bounds = Bounds { count: 1, max_bytes: BYTES_PER_CALL_MAX };
        let deliveries_max = MAX_DELIVERIES.get().unsigned_abs();
        let mut request = Self { key, bounds, block_ms: None, lease_ms: None, deliveries_max };
        let mut needs_lease = false;
        while let Some(option) = args.option(options)? {
            match option {
                Opt::Count => request.bounds.count = args.int("COUNT", 1..=COUNT_PER_CALL_MAX)?,
                Opt::MaxBytes => request.bounds.max_bytes = args.int("MAXBYTES", 1..=BYTES_PER_CALL_MAX)?,
                Opt::Block => request.block_ms = Some(args.int("BLOCK", 0..=PERIOD_MAX_MS)?),
                Opt::Lease => request.lease_ms = Some(args.int("LEASE", 1..=PERIOD_MAX_MS)?),
                Opt::MaxDeliveries => {
                    request.deliveries_max = args.int("MAXDELIVERIES", 1..=DELIVERIES_MAX)?;
                    needs_lease = true;
                }
            }
        }
        if needs_lease && request.lease_ms.is_none() {
            return Err(Error::only_with("LEASE", "MAXDELIVERIES"));
        }
        Ok(request)
    }
}
