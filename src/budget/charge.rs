//! GW.ADDCOST: books a charge.

use gateway_core::calendar::{Day, Period};
use gateway_core::ledger::feed::VERSION_MAX;
use gateway_core::ledger::{Ledger, Totals, KEEP_DAYS_MAX, KEEP_DAYS_MIN};
use gateway_core::money::Amount;

use super::{day_of, next_version, saw_version, EFFECT_NAME, KEEP_DAYS};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::effect::{malformed, Effect, Words};
use crate::server::key::Opened;
use crate::server::stats::STATS;
use crate::server::{Call, Error, Outcome};

pub const COMMAND: Command = Command {
    name: "GW.ADDCOST",
    handler: entry!(add_cost),
    flags: "write deny-oom fast",
    arity: -3,
    keys: Keys::One(Access::ReadUpdate),
    summary:
        "Adds an amount to a ledger, in the day and month it was spent in, exactly. Replies that month's new total.",
    complexity: "O(1); O(N) in the days kept for late charges",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("amount"), Arg::unix_time("unix-time-ms").after("AT").optional()],
};

pub const EFFECT: Command = Command {
    name: "GW._BUDGET",
    handler: entry!(apply),
    flags: "write admin fast",
    arity: 3,
    keys: Keys::One(Access::Insert),
    summary: "Internal: a charge to a ledger, for replicas and the AOF.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("effect")],
};

/// How far ahead of the server's clock a charge may be dated: the reach of a wrong time zone or a skewed clock. A charge
/// dated further ahead is a mistake.
const AHEAD_MAX_MS: i64 = 24 * 3_600_000;

/// GW.ADDCOST key amount [AT unix-time-ms]
fn add_cost(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let amount = args.amount("amount")?;
    let now_ms = call.now_ms();
    let mut at_ms = now_ms;
    while let Some(()) = args.option(&[("AT", ())])? {
        at_ms = args.int("AT", 0..=now_ms + AHEAD_MAX_MS)?;
    }

    let day = day_of(at_ms);
    let mut opened = call.open::<Ledger>(key)?;
    if amount == Amount::ZERO {
        // Nothing to book, and no reason to make a ledger.
        let spent = opened.get().map_or(Amount::ZERO, |ledger| ledger.spent(Period::Month, day));
        call.reply().bytes(spent.to_text().as_bytes());
        return Ok(());
    }
    let version = next_version(opened.get().map(|ledger| &*ledger), now_ms);
    let charge = Charge { day, amount, keep_days: KEEP_DAYS.get() as u32, version };
    let totals = charge.book(&mut opened)?;
    STATS.budget_charges.add(1);
    drop(opened);
    call.changed(key, c"gw.addcost", &charge.effect());
    call.reply().bytes(totals.month.to_text().as_bytes());
    Ok(())
}

/// What a charge is to a replica: the day is decided where it is first booked, in that node's time zone.
struct Charge {
    day: Day,
    amount: Amount,
    keep_days: u32,
    version: u64,
}

impl Charge {
    fn book(&self, opened: &mut Opened<Ledger>) -> Result<Totals, Error> {
        let book = |ledger: &mut Ledger| {
            let booked = ledger.charge(self.day, self.amount, self.keep_days, self.version);
            saw_version(ledger.version());
            booked.map_err(|overflow| Error::new(&overflow.to_string(), "amount"))
        };
        if let Some(ledger) = opened.get() {
            return book(ledger);
        }
        let mut ledger = Ledger::new();
        let totals = book(&mut ledger)?;
        opened.insert(ledger);
        Ok(totals)
    }

    fn effect(&self) -> Effect {
        let mut effect = Effect::of(EFFECT_NAME, b'C', [self.day.number().into()]);
        effect.word(self.amount.to_text().as_bytes());
        effect.int(self.keep_days.into());
        effect.int(self.version as i64);
        effect
    }

    fn parse(mut words: Words) -> Result<Self, Error> {
        let day = Day::from_number(words.int(i32::MIN..=i32::MAX)?).ok_or_else(malformed)?;
        let amount = Amount::parse(words.word()?).map_err(|_| malformed())?;
        let keep_days = words.int(KEEP_DAYS_MIN..=KEEP_DAYS_MAX)?;
        let version = words.int(0..=VERSION_MAX)?;
        words.end().map(|()| Self { day, amount, keep_days, version })
    }
}

fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (operation, words) = Words::new(args.bytes("effect")?)?;
    args.end()?;
    if operation != b'C' {
        return Err(malformed());
    }
    let charge = Charge::parse(words)?;
    charge.book(&mut call.open(key)?)?;
    call.applied(key, c"gw.budget");
    call.reply().ok();
    Ok(())
}
