//! Admissions of several accounts: the number in flight after each call, and every amount when all are settled.

use crate::load::{Game, Round, amount, ask, cents, insist, settle, text, think};
use gw_testkit::redis::Value;
use gw_testkit::{Caller, Random};
use std::sync::atomic::{AtomicU64, Ordering};

/// The most requests that a player has in flight.
const IN_FLIGHT: usize = 4;

const PLAYERS: usize = 2;

/// An account for each player, and one that all of them share.
pub struct Accounts {
    tag: String,
    /// Of each player.
    used: [Used; PLAYERS],
}

#[derive(Default)]
struct Used {
    requests: AtomicU64,
    tokens: AtomicU64,
    cents: AtomicU64,
}

/// The fields of a row with DETAIL that matter here: policy, allowed, remaining, used.
type Row = (String, i64, String, String);

impl Accounts {
    pub fn new(tag: &str) -> Self {
        Self { tag: tag.into(), used: Default::default() }
    }

    fn account(&self, player: usize) -> String {
        format!("{{{}}}:key:{player}", self.tag)
    }

    fn team(&self) -> String {
        format!("{{{}}}", self.tag)
    }

    /// Whether the request was admitted, and the rows of the player's account.
    fn admit(&self, player: usize, caller: &mut Caller, lease: &str, amounts: &str) -> (bool, Vec<Row>) {
        let (account, team) = (self.account(player), self.team());
        let words = format!("GW.ADMIT {account} WITH 1 {team} LEASE {lease} TTL 600000 {amounts} REQUIRE ROWS DETAIL");
        let (admitted, _, rows): (i64, i64, Vec<Vec<Value>>) = insist(caller, &account, &words).read(&words);
        let own = rows.iter().filter(|row| text(&row[0]) == account);
        let read = |row: &Vec<Value>| (text(&row[1]), text(&row[2]).parse().unwrap(), text(&row[4]), text(&row[10]));
        (admitted == 1, own.map(read).collect())
    }

    fn settle(&self, player: usize, caller: &mut Caller, lease: &str, tokens: u64, cents: u64) {
        let (account, team) = (self.account(player), self.team());
        let usd = amount(cents);
        let words = format!("GW.SETTLE {account} WITH 1 {team} LEASE {lease} tokens {tokens} usd {usd}");
        settle(caller, &account, &words);
        let used = &self.used[player];
        used.requests.fetch_add(1, Ordering::Relaxed);
        used.tokens.fetch_add(tokens, Ordering::Relaxed);
        used.cents.fetch_add(cents, Ordering::Relaxed);
    }
}

impl Game for Accounts {
    fn set_up(&self, caller: &mut Caller) {
        let policies = [
            "rpm WINDOW 1000000 PER 3600000",
            "tpm WINDOW 1000000000 PER 3600000 METER tokens",
            "money BUDGET 1000000 TOTAL",
        ];
        for account in (0..PLAYERS).map(|player| self.account(player)).chain([self.team()]) {
            for policy in policies {
                insist(caller, &account, &format!("GW.POLICYSET {account} {policy}"));
            }
            let slots = if account == self.team() { IN_FLIGHT * PLAYERS } else { IN_FLIGHT };
            insist(caller, &account, &format!("GW.POLICYSET {account} slots INFLIGHT {slots}"));
        }
    }

    fn players(&self) -> usize {
        PLAYERS
    }

    fn play(&self, player: usize, caller: &mut Caller, random: &mut Random, round: &Round) {
        let mut live: Vec<String> = Vec::new();
        for call in 0.. {
            if round.is_over() {
                break;
            }
            if random.below(5) < 3 {
                let lease = format!("{player}:{call}");
                let (admitted, rows) = self.admit(player, caller, &lease, "tokens 50 usd 0.25");
                // No other player has requests in this account, and the team has room for all.
                assert_eq!(admitted, live.len() < IN_FLIGHT, "{lease}, with {live:?} in flight: {rows:?}");
                if admitted {
                    live.push(lease);
                }
                let slots = rows.iter().find(|(policy, ..)| policy == "slots").unwrap();
                assert_eq!(slots.2, (IN_FLIGHT - live.len()).to_string(), "{live:?} are in flight: {rows:?}");
            } else if !live.is_empty() {
                let lease = live.swap_remove(random.below(live.len()));
                self.settle(player, caller, &lease, random.below(100) as u64, random.below(60) as u64);
            }
            think();
        }
        for lease in live {
            self.settle(player, caller, &lease, 1, 1);
        }
    }

    fn check(&self, caller: &mut Caller) {
        let mut all = (0, 0, 0);
        for (player, used) in self.used.iter().enumerate() {
            let [requests, tokens, cents] =
                [&used.requests, &used.tokens, &used.cents].map(|counter| counter.load(Ordering::Relaxed));
            assert!(requests > 0, "player {player} has had nothing admitted");
            self.compare(caller, &self.account(player), requests, tokens, cents);
            all = (all.0 + requests, all.1 + tokens, all.2 + cents);
        }
        self.compare(caller, &self.team(), all.0, all.1, all.2);
    }
}

impl Accounts {
    /// Asks what an account counts when nothing is in flight.
    fn compare(&self, caller: &mut Caller, account: &str, requests: u64, tokens: u64, money: u64) {
        let words = format!("GW.ADMIT {account} LEASE ask TTL 1000 SHADOW ROWS DETAIL");
        let (_, _, rows): (i64, i64, Vec<Vec<Value>>) = ask(caller, account, &words);
        let used: Vec<_> = rows.iter().map(|row| (text(&row[1]), text(&row[10]))).collect();
        for (policy, used) in used {
            let expected = match &*policy {
                "rpm" => requests,
                "tpm" => tokens,
                "money" => money,
                _ => 0,
            };
            let used = if policy == "money" { cents(&used) } else { used.parse().unwrap() };
            assert_eq!(used, expected, "{policy} of {account}");
        }
        let spent: String = ask(caller, account, &format!("GW.SPENT {account} TOTAL"));
        assert_eq!(cents(&spent), money, "{account}");
    }
}
