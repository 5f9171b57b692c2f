//! Changes of ledgers, of every kind.

use gw_testkit::Random;
use gw_testkit::redis::{self, Connection, ErrorKind, Value};

const ACCOUNTS: usize = 60;

/// 2024-01-01 00:00 UTC.
const FIRST_DAY_MS: u64 = 1_704_067_200_000;
const DAY_MS: u64 = 86_400_000;

pub struct Traffic {
    random: Random,
    dumps: Vec<Vec<u8>>,
}

impl Traffic {
    pub fn new(seed: u64) -> Traffic {
        Traffic { random: Random(seed), dumps: Vec::new() }
    }

    /// As many changes, all of which must reach the server.
    pub fn changes(&mut self, client: &mut Connection, count: u64) {
        for _ in 0..count {
            self.change(client).unwrap();
        }
    }

    /// Charges, late charges, refunds, holds, credits; ledgers that are deleted, made again, copied, renamed and restored. Fails
    /// only where the server is gone: that two changes cannot follow each other (a copy onto itself, a hold whose ledger
    /// was deleted meanwhile) is part of the traffic.
    pub fn change(&mut self, client: &mut Connection) -> redis::RedisResult<()> {
        match self.try_change(client) {
            Err(error) if !matches!(error.kind(), ErrorKind::Server(_)) => Err(error),
            _ => Ok(()),
        }
    }

    fn try_change(&mut self, client: &mut Connection) -> redis::RedisResult<()> {
        let random = &mut self.random;
        let key = format!("account:{}", random.below(ACCOUNTS));
        let at_ms = FIRST_DAY_MS + random.below(50) as u64 * DAY_MS;
        let amount = format!("0.{:012}", 1 + random.below(999_999_999_999));
        let command = match random.below(100) {
            0 => redis::cmd("DEL").arg(&key).take(),
            1 => redis::cmd("RENAME").arg(&key).arg(format!("account:{}", random.below(ACCOUNTS))).take(),
            2 => redis::cmd("COPY").arg(&key).arg(format!("account:{}", random.below(ACCOUNTS))).arg("REPLACE").take(),
            3 => match self.dumps.pop() {
                Some(dump) => redis::cmd("RESTORE").arg(&key).arg(0).arg(dump).arg("REPLACE").take(),
                None => {
                    self.dumps.extend(redis::cmd("DUMP").arg(&key).query::<Option<Vec<u8>>>(client)?);
                    return Ok(());
                }
            },
            4..20 => {
                redis::cmd("GW.ADDCOST").arg(&key).arg(format!("-{amount}")).arg("REFUND").arg("AT").arg(at_ms).take()
            }
            20..40 => {
                let reserve = redis::cmd("GW.RESERVE").arg(&key).arg(1).arg("1000000").arg("ID").arg(&amount).take();
                reserve.query::<Value>(client)?;
                redis::cmd("GW.COMMIT").arg(&key).arg(&amount).arg(&amount).take()
            }
            40..55 => {
                let period = ["DAY", "WEEK", "MONTH", "TOTAL"][random.below(4)];
                // More than was given is refused.
                let sign = if random.below(3) == 0 { "-" } else { "" };
                redis::cmd("GW.CREDIT").arg(&key).arg(period).arg(format!("{sign}{amount}")).arg("AT").arg(at_ms).take()
            }
            _ => redis::cmd("GW.ADDCOST").arg(&key).arg(&amount).arg("AT").arg(at_ms).take(),
        };
        command.query::<Value>(client).map(drop)
    }
}
