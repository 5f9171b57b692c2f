//! GW.ALLOW and GW.TOKENS, once their arguments are read: decide, record, replicate, reply.

use gateway_core::limit::Verdict;

use super::args::Mode;
use super::effect::{clock_step, usage as usage_effect};
use super::limiter::{UnitLimiter, Usage};
use crate::server::effect::Effect;
use crate::server::key::Opened;
use crate::server::{Call, Key, Outcome};
use crate::top::count;

pub fn take<L: UnitLimiter>(call: &mut Call, key: Key, usage: &Usage<L>, mode: Mode) -> Outcome {
    let (verdict, effect) = decide_and_record(&mut call.open(key)?, usage, mode);
    if let Some(effect) = effect {
        call.replicate(key, L::EVENT, &effect);
    }
    match mode {
        Mode::Peek => {}
        Mode::Admit if !verdict.allowed => {
            call.tell_denied(key);
            count::denied(usage.at_ms, key, L::LABEL);
        }
        Mode::Admit | Mode::Force => count::units_used(usage.at_ms, key, L::METER, usage.units),
    }
    call.reply()
        .array(5)
        .int(verdict.allowed.into())
        .count(verdict.limit)
        .count(verdict.remaining)
        .int(verdict.retry_after_ms)
        .int(verdict.reset_after_ms);
    Ok(())
}

/// Returns the verdict, and the effect of what has changed.
fn decide_and_record<L: UnitLimiter>(
    opened: &mut Opened<L>,
    usage: &Usage<L>,
    mode: Mode,
) -> (Verdict, Option<Effect>) {
    let [admitted, denied, peeked, forced] = L::counters();
    let cost = usage.units.unsigned_abs();
    match mode {
        Mode::Peek => {
            peeked.add(1);
            (usage.verdict(opened, cost), None)
        }
        Mode::Force => {
            forced.add(1);
            let effect = usage.record(opened).then(|| usage_effect(usage));
            (Verdict { allowed: true, retry_after_ms: 0, ..usage.verdict(opened, 0) }, effect)
        }
        Mode::Admit => {
            let mut verdict = usage.verdict(opened, cost);
            if !verdict.allowed {
                denied.add(1);
                return (verdict, clock_step(opened, usage.at_ms));
            }
            admitted.add(1);
            if !usage.record(opened) {
                return (verdict, None);
            }
            verdict.remaining -= cost;
            if let Some(limiter) = opened.get() {
                verdict.reset_after_ms = limiter.unused_after_ms(usage.at_ms);
            }
            (verdict, Some(usage_effect(usage)))
        }
    }
}
