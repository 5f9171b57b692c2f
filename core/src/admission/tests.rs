use super::life::ENDED_PER_CHANGE;
use super::model::{Model, no_account};
use super::*;
use crate::breaker::{State, Threshold};
use crate::bucket::Flow;
use crate::calendar::{Day, Period};
use crate::codec::{Decoder, Encoded};
use crate::ledger::{HOLDS_MAX, Stamp};
use crate::money::Amount;
use crate::stored::Stored as _;
use crate::window::{Rule, Shape};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// 2023-11-14T22:13:20Z.
const NOW: i64 = 1_700_000_000_000;
const DAY_MS: i64 = 86_400_000;

/// The most accounts in a request of this test.
const ACCOUNTS: usize = 3;

fn moment(now_ms: i64) -> Moment {
    let day = Day::from_number((now_ms / DAY_MS) as i32).unwrap();
    let version = now_ms as u64 * 1_000;
    Moment { day, stamp: Stamp { at_ms: now_ms, keep_days: 3_600, remember_ms: DAY_MS as u64, version } }
}

/// Periods of a fixed length are enough here: the calendar has its own tests.
fn ends_after_ms(now_ms: i64) -> impl Fn(Period) -> i64 {
    move |period| match period {
        Period::Total => -1,
        Period::Day => DAY_MS - now_ms % DAY_MS,
        Period::Week => 7 * DAY_MS - now_ms % (7 * DAY_MS),
        Period::Month => 31 * DAY_MS - now_ms % (31 * DAY_MS),
    }
}

fn saved(account: &Account) -> Vec<u8> {
    let mut out = Encoded::default();
    account.save(&mut out);
    out.0
}

fn reloaded(account: &Account) -> Account {
    let bytes = saved(account);
    let mut from = Decoder::new(&bytes);
    let account = Account::load(&mut from, Account::ENCODING).expect("what was saved loads");
    from.finish().unwrap();
    account
}

fn amount(text: &str) -> Amount {
    Amount::parse(text.as_bytes()).unwrap()
}

fn window(limit: u64, window_ms: u64, meter: &str) -> Policy {
    policy(Kind::Window(Rule { limit, window_ms, shape: Shape::Sliding }), meter)
}

fn bucket(rate: u64, burst: u64, per_ms: u64, meter: &str) -> Policy {
    policy(Kind::Bucket(Flow { rate, per_ms, burst }), meter)
}

fn in_flight(max: u64) -> Policy {
    policy(Kind::InFlight { max }, "")
}

fn breaker(failures: u64, per_ms: u64, open_ms: u64) -> Policy {
    policy(Kind::Breaker(Threshold { failures, per_ms, open_ms }), "")
}

fn budget(text: &str, period: Period, meter: &str) -> Policy {
    policy(Kind::Budget { amount: amount(text), period, soft_percent: 80 }, meter)
}

fn policy(kind: Kind, meter: &str) -> Policy {
    Policy { kind, meter: meter.as_bytes().into(), shadow: false, give_back: false, decimal: false }
}

/// The lease named by an operation.
#[derive(Debug, Clone, Copy)]
enum Lease {
    New,
    /// The last lease, or one this many before it: live, ended, forgotten or never admitted.
    Back(u16),
}

#[derive(Debug, Clone)]
enum Op {
    Set {
        account: usize,
        name: u8,
        policy: Policy,
    },
    Delete {
        account: usize,
        name: u8,
    },
    Reset {
        account: usize,
        name: u8,
    },
    /// Sent several times, because replies get lost.
    Admit {
        accounts: u8,
        lease: Lease,
        ttl_ms: u64,
        amounts: Vec<(usize, Amount)>,
        shadow: bool,
        times: u8,
    },
    Settle {
        accounts: u8,
        lease: Lease,
        actuals: Vec<(usize, Amount)>,
        report: Report,
        times: u8,
    },
    Route {
        targets: u8,
        lease: Lease,
        ttl_ms: u64,
        amounts: Vec<(usize, Amount)>,
        pick: Pick,
        times: u8,
    },
    KeepAlive {
        accounts: u8,
        lease: Lease,
        ttl_ms: u64,
    },
    /// Money that is spent without an admission.
    Spend {
        account: usize,
        picos: i64,
        ago_ms: i64,
    },
    Put {
        account: usize,
        policies: Vec<(ShortName, Policy)>,
    },
    Idle {
        account: usize,
        idle_ms: Option<u64>,
    },
    Reload {
        account: usize,
    },
}

const METERS: [&str; 3] = ["requests", "tokens", "usd"];

fn policies() -> impl Strategy<Value = Policy> {
    let meter = || prop::sample::select(vec!["requests", "tokens", "tokens", "usd"]);
    let kind = prop_oneof![
        6 => (1u64..60, prop::sample::select(vec![10u64, 1_000, 60_000, 900_000]), meter(), shapes())
            .prop_map(|(limit, window_ms, meter, shape)| {
                policy(Kind::Window(Rule { limit, window_ms, shape }), meter)
            }),
        // One period for each meter: how a bucket converts its level when the period changes is covered by its own
        // tests.
        3 => (1u64..40, 0u64..90, meter()).prop_map(|(rate, burst, meter)| {
            bucket(rate, burst, if meter == "usd" { 1_000 } else { 60_000 }, meter)
        }),
        2 => (0u64..6).prop_map(in_flight),
        3 => (0u32..90, prop::sample::select(Period::ALL.to_vec()), prop::sample::select(vec!["usd", "usd", "tokens"]))
            .prop_map(|(units, period, meter)| budget(&format!("{units}.5"), period, meter)),
        1 => prop::option::weighted(0.8, NOW - 1_000..NOW + 4_000_000)
            .prop_map(|until_ms| policy(Kind::Block { until_ms }, "")),
        4 => (1u64..4, prop::sample::select(vec![10u64, 1_000, 60_000]), prop::sample::select(vec![1u64, 300, 9_000]))
            .prop_map(|(failures, per_ms, open_ms)| breaker(failures, per_ms, open_ms)),
    ];
    let flags = (prop::bool::weighted(0.15), prop::bool::weighted(0.15), prop::bool::weighted(0.35));
    (kind, flags).prop_map(|(policy, (shadow, give_back, decimal))| {
        let decimal = decimal && matches!(policy.kind, Kind::Window(_) | Kind::Bucket(_));
        let kind = if decimal { in_billionths(policy.kind) } else { policy.kind };
        Policy { kind, shadow, give_back, decimal, ..policy }
    })
}

/// Turns a limit into one that is not a whole number of units.
fn in_billionths(kind: Kind) -> Kind {
    let billionths = |units: u64| units * 1_000_000_001;
    match kind {
        Kind::Window(rule) => Kind::Window(Rule { limit: billionths(rule.limit), ..rule }),
        Kind::Bucket(Flow { rate, per_ms, burst }) => {
            Kind::Bucket(Flow { rate: billionths(rate), per_ms, burst: billionths(burst) })
        }
        other => other,
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    prop_oneof![
        2 => Just(Shape::Sliding),
        1 => Just(Shape::Fixed),
        // A few values only, so that a policy is often set again unchanged.
        2 => prop::sample::select(vec![NOW + 123_456, NOW - 7, 86_400_123]).prop_map(Shape::Anchored),
    ]
}

fn amounts() -> impl Strategy<Value = Vec<(usize, Amount)>> {
    let picos = prop_oneof![
        3 => (0i128..20).prop_map(|units| units * 1_000_000_000_000),
        1 => 0i128..3_000_000_000_000,
    ];
    let value = picos.prop_map(|picos| Amount::from_picos(picos).unwrap());
    prop::collection::vec((0..METERS.len(), value), 0..4).prop_map(|mut list| {
        list.sort_by_key(|it| it.0);
        list.dedup_by_key(|it| it.0);
        list
    })
}

fn picks() -> impl Strategy<Value = Pick> {
    prop::sample::select(vec![Pick::First, Pick::Room, Pick::Fast])
}

fn reports() -> impl Strategy<Value = Report> {
    let cooldown = prop_oneof![5 => Just(0u64), 1 => 1u64..4_000];
    let took = prop::option::of(prop_oneof![0u64..3_000, 0u64..100_000]);
    (prop::bool::weighted(0.4), cooldown, took).prop_map(|(failed, cooldown_ms, took_ms)| Report {
        failed,
        cooldown_ms: if failed { cooldown_ms } else { 0 },
        took_ms,
    })
}

fn ops() -> impl Strategy<Value = (i64, Op)> {
    let advance = prop_oneof![
        6 => Just(0i64), 8 => 0i64..20, 4 => 0i64..2_000, 1 => 0i64..200_000, 1 => 0i64..5_000_000,
        1 => -30i64..0, 1 => -700_000i64..0,
    ];
    let account = 0..ACCOUNTS;
    let accounts = || prop_oneof![3 => Just(1u8), 2 => 1u8..8, 2 => Just(7u8)];
    let name = 0u8..5;
    let ttl = || prop_oneof![4 => 1u64..3_000, 1 => 1u64..400_000];
    let back = || (0u16..24).prop_map(Lease::Back);
    let times = || prop_oneof![8 => Just(1u8), 1 => Just(2u8)];
    let op = prop_oneof![
        3 => (account.clone(), name.clone(), policies()).prop_map(|(account, name, policy)| Op::Set { account, name, policy }),
        1 => (account.clone(), name.clone()).prop_map(|(account, name)| Op::Delete { account, name }),
        1 => (account.clone(), name).prop_map(|(account, name)| Op::Reset { account, name }),
        40 => (accounts(), prop_oneof![3 => Just(Lease::New), 1 => back()], ttl(), amounts(), prop::bool::weighted(0.1), times())
            .prop_map(|(accounts, lease, ttl_ms, amounts, shadow, times)| Op::Admit { accounts, lease, ttl_ms, amounts, shadow, times }),
        20 => (accounts(), prop_oneof![3 => Just(Lease::New), 1 => back()], ttl(), amounts(), picks(), times())
            .prop_map(|(targets, lease, ttl_ms, amounts, pick, times)| Op::Route { targets, lease, ttl_ms, amounts, pick, times }),
        40 => (prop_oneof![1 => accounts(), 2 => Just(7u8)], back(), amounts(), reports(), times())
            .prop_map(|(accounts, lease, actuals, report, times)| Op::Settle { accounts, lease, actuals, report, times }),
        5 => (accounts(), back(), ttl()).prop_map(|(accounts, lease, ttl_ms)| Op::KeepAlive { accounts, lease, ttl_ms }),
        4 => (account.clone(), -900_000_000_000i64..2_000_000_000_000, prop_oneof![3 => Just(0), 1 => -100i64..90_000])
            .prop_map(|(account, picos, ago_ms)| Op::Spend { account, picos, ago_ms }),
        2 => (account.clone(), prop::collection::vec((0u8..5, policies()), 0..4)).prop_map(|(account, mut policies)| {
            policies.sort_by_key(|it| it.0 ^ 1);
            policies.dedup_by_key(|it| it.0);
            let named = policies.into_iter().map(|(name, policy)| (ShortName::from_slice(&[name]), policy));
            Op::Put { account, policies: named.collect() }
        }),
        3 => (account.clone(), prop::option::weighted(0.9, prop_oneof![1u64..3_000, 1u64..400_000]))
            .prop_map(|(account, idle_ms)| Op::Idle { account, idle_ms }),
        1 => account.prop_map(|account| Op::Reload { account }),
    ];
    (advance, op)
}

/// The accounts with a replica of each, and the model.
#[derive(Default)]
struct World {
    accounts: [Account; ACCOUNTS],
    replicas: [Account; ACCOUNTS],
    models: [Model; ACCOUNTS],
    /// How many leases were used so far.
    leases: u16,
    /// How many accounts have expired.
    expired: usize,
    seen: Seen,
}

/// How often what is rare has happened.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    probes: usize,
    opened: usize,
    closed: usize,
    /// Requests routed to another target than the first, and to none.
    passed: usize,
    refused: usize,
    repeated: usize,
}

fn named(list: &[(usize, Amount)]) -> Vec<(&'static [u8], Amount)> {
    list.iter().map(|&(meter, amount)| (METERS[meter].as_bytes(), amount)).collect()
}

fn chosen(accounts: u8) -> Vec<usize> {
    (0..ACCOUNTS).filter(|place| accounts >> place & 1 == 1).collect()
}

impl World {
    fn id(&mut self, lease: Lease) -> [u8; 2] {
        match lease {
            Lease::New => self.leases += 1,
            Lease::Back(count) => return self.leases.saturating_sub(count).to_be_bytes(),
        }
        self.leases.to_be_bytes()
    }

    /// Removes expired keys, as a server does.
    fn expire(&mut self, now_ms: i64) -> Result<(), TestCaseError> {
        let now = moment(now_ms);
        for place in 0..ACCOUNTS {
            if self.accounts[place].expires_at_ms().is_some_and(|at_ms| at_ms <= now_ms) {
                prop_assert!(!self.models[place].is_busy(&now), "an account expires before its leases have ended");
                self.accounts[place] = Account::default();
                self.replicas[place] = Account::default();
                self.models[place] = Model::default();
                self.expired += 1;
            }
        }
        Ok(())
    }

    fn step(&mut self, now_ms: i64, op: Op) -> Result<(), TestCaseError> {
        self.expire(now_ms)?;
        let now = moment(now_ms);
        match op {
            Op::Set { account, name, policy } => {
                self.accounts[account].set(&[name], policy.clone()).unwrap();
                self.replicas[account].set(&[name], policy.clone()).unwrap();
                self.models[account].set(&[name], &policy);
            }
            Op::Delete { account, name } => {
                self.accounts[account].delete(&[name]);
                self.replicas[account].delete(&[name]);
                self.models[account].delete(&[name]);
            }
            Op::Reset { account, name } => {
                if self.accounts[account].reset(&now, &[name]) == Reset::Done {
                    self.replicas[account].reset(&now, &[name]);
                }
                self.models[account].reset(&now, &[name]);
            }
            Op::Admit { accounts, lease, ttl_ms, amounts, shadow, times } => {
                let id = self.id(lease);
                for _ in 0..times {
                    self.admit(&now, accounts, id, ttl_ms, &named(&amounts), shadow)?;
                }
            }
            Op::Route { targets, lease, ttl_ms, amounts, pick, times } => {
                let id = self.id(lease);
                for _ in 0..times {
                    self.route(&now, targets, id, ttl_ms, &named(&amounts), pick)?;
                }
            }
            Op::Settle { accounts, lease, actuals, report, times } => {
                let id = self.id(lease);
                for _ in 0..times {
                    self.settle(&now, accounts, id, &named(&actuals), &report)?;
                }
            }
            Op::KeepAlive { accounts, lease, ttl_ms } => {
                let id = self.id(lease);
                for place in chosen(accounts) {
                    let live = self.accounts[place].standing(now_ms, &id) == Standing::Live;
                    prop_assert_eq!(live, self.models[place].standing(&now, &id) == Standing::Live);
                    if live {
                        prop_assert!(self.accounts[place].keep_alive(&now, &id, ttl_ms));
                        self.replicas[place].keep_alive(&now, &id, ttl_ms);
                        self.models[place].keep_alive(&now, &id, ttl_ms);
                    }
                }
            }
            Op::Spend { account, picos, ago_ms } => {
                let amount = Amount::from_picos(picos.into()).unwrap();
                for account in [&mut self.accounts[account], &mut self.replicas[account]] {
                    account.ledger_mut().charge(now.day, amount, 3_600, 1).unwrap();
                    account.stay();
                    if account.counts_money() {
                        account.count_money(&now, now_ms - ago_ms, amount);
                    }
                }
                self.models[account].spend(&now, now_ms - ago_ms, amount);
            }
            Op::Put { account, policies } => {
                self.accounts[account].put(&policies).unwrap();
                prop_assert!(self.accounts[account].has_exactly(&policies));
                self.replicas[account].put(&policies).unwrap();
                self.models[account].put(&policies);
            }
            Op::Idle { account, idle_ms } => {
                prop_assert_eq!(self.accounts[account].was_charged(), self.models[account].charged);
                if !self.models[account].has_money() {
                    self.accounts[account].set_idle(&now, idle_ms);
                    self.replicas[account].set_idle(&now, idle_ms);
                    self.models[account].set_idle(&now, idle_ms);
                }
            }
            Op::Reload { account } => {
                self.accounts[account] = reloaded(&self.accounts[account]);
                self.models[account].policies.iter_mut().for_each(|policy| policy.tally = Tally::default());
            }
        }
        Ok(())
    }

    fn admit(
        &mut self,
        now: &Moment,
        accounts: u8,
        id: [u8; 2],
        ttl_ms: u64,
        amounts: &[(&[u8], Amount)],
        shadow: bool,
    ) -> Result<(), TestCaseError> {
        let (id, amounts, places) = (&id[..], Amounts(amounts), chosen(accounts));
        let ends = ends_after_ms(now.stamp.at_ms);
        let before = self.accounts.each_ref().map(saved);
        let mut rows = Vec::new();
        let mut new = Vec::new();
        let mut tidied = Vec::new();
        let mut unnamed = false;
        let standings: Vec<_> = places.iter().map(|&place| self.models[place].standing(now, id)).collect();
        if standings.iter().any(|standing| matches!(standing, Standing::Settled | Standing::Expired)) {
            let mut asked: Vec<Option<&mut Account>> = self.accounts.iter_mut().map(Some).collect();
            for place in (0..ACCOUNTS).filter(|place| !places.contains(place)) {
                asked[place] = None;
            }
            let request = Request { id, ttl_ms, amounts, shadow, rows: true, holds_max: HOLDS_MAX };
            prop_assert_eq!(
                admit(&mut asked, now, &request, &ends, &mut Rows::new()).err(),
                Some(Undecided::LeaseEnded)
            );
            prop_assert_eq!(self.accounts.each_ref().map(saved), before, "an error changes nothing");
            return Ok(());
        }
        for &place in &places {
            let is_new = self.models[place].standing(now, id) == Standing::Unknown;
            new.extend(is_new.then_some(place));
            tidied.extend((is_new && self.models[place].tidy(now)).then_some(place));
            let own = self.models[place].decide(place as u8, now, id, &amounts, &ends);
            if is_new && !shadow {
                unnamed |= self.models[place].note(now, &amounts, &own);
            }
            rows.extend(own);
        }
        let expected = Answer::of(&rows);
        // An account that was not chosen is treated as one that does not exist.
        let accounts = self.accounts.iter_mut().enumerate();
        let mut asked: Vec<Option<&mut Account>> =
            accounts.map(|(place, account)| places.contains(&place).then_some(account)).collect();
        // Rows that are not wanted are not updated, and nothing else depends on them.
        let request = Request { id, ttl_ms, amounts, shadow, rows: !ttl_ms.is_multiple_of(4), holds_max: HOLDS_MAX };
        let mut answers = Rows::new();
        let decision = admit(&mut asked, now, &request, &ends, &mut answers).unwrap();
        prop_assert_eq!(decision.answer, expected);
        prop_assert_eq!(decision.repeated, new.is_empty());
        prop_assert_eq!(decision.unnamed, unnamed);
        prop_assert_eq!(&*decision.tidied, &*tidied);
        if decision.charged.is_empty() || !request.rows {
            prop_assert_eq!(&*answers, &*rows);
        }
        let charges = expected.admitted && !shadow;
        prop_assert_eq!(&*decision.charged, if charges { &*new } else { &[] }, "all of them or none");
        let mut probe = false;
        for &place in &places {
            if charges && new.contains(&place) {
                probe |= self.models[place].charge(now, id, ttl_ms, &amounts);
                self.replicas[place].charge(now, id, ttl_ms, &amounts, &mut []);
            } else if tidied.contains(&place) {
                self.replicas[place].advance(now);
            } else {
                prop_assert_eq!(&saved(&self.accounts[place]), &before[place], "a refusal changes nothing");
            }
        }
        if charges && request.rows {
            // The rows say what is left now. Waits differ between a request that was charged and one that only asks.
            for &place in &places {
                let again = self.models[place].decide(place as u8, now, id, &amounts, &ends);
                let own = answers.iter().filter(|row| usize::from(row.account) == place);
                prop_assert_eq!(own.clone().count(), again.len());
                for (row, again) in own.zip(&again) {
                    prop_assert_eq!(row.policy, again.policy);
                    prop_assert_eq!((row.figures, row.reset_after_ms), (again.figures, again.reset_after_ms));
                }
            }
        }
        // A wait is correct: after it, the refused request fits, unless a hold that ends was too small.
        prop_assert_eq!(decision.probe, probe);
        self.seen.probes += usize::from(probe);
        Ok(())
    }

    fn route(
        &mut self,
        now: &Moment,
        targets: u8,
        id: [u8; 2],
        ttl_ms: u64,
        amounts: &[(&[u8], Amount)],
        pick: Pick,
    ) -> Result<(), TestCaseError> {
        let (id, amounts, places) = (&id[..], Amounts(amounts), chosen(targets));
        let ends = ends_after_ms(now.stamp.at_ms);
        let before = self.accounts.each_ref().map(saved);
        let standings: Vec<_> = places.iter().map(|&place| self.models[place].standing(now, id)).collect();
        let ended = standings.iter().any(|standing| matches!(standing, Standing::Settled | Standing::Expired));
        let known = places.iter().zip(&standings).find(|it| *it.1 == Standing::Live).map(|it| *it.0);
        let (mut rows, mut tidied, mut admitting) = (Vec::new(), Vec::new(), Vec::new());
        let mut waits = vec![u64::MAX];
        for place in 0..ACCOUNTS {
            if ended || known.is_some() {
                break;
            }
            let own = if places.contains(&place) {
                tidied.extend(self.models[place].tidy(now).then_some(place));
                let own = self.models[place].decide(place as u8, now, id, &amounts, &ends);
                let unnamed = self.models[place].note(now, &amounts, &own);
                if Answer::of(&own).admitted {
                    admitting.push((place, self.models[place].scores(now, &own), unnamed));
                }
                own
            } else {
                vec![no_account(place as u8)]
            };
            waits.push(Answer::of(&own).retry_after_ms as u64);
            rows.extend(own);
            if pick == Pick::First && !admitting.is_empty() {
                break;
            }
        }
        let accounts = self.accounts.iter_mut().enumerate();
        let mut asked: Vec<Option<&mut Account>> =
            accounts.map(|(place, account)| places.contains(&place).then_some(account)).collect();
        let request =
            Request { id, ttl_ms, amounts, shadow: false, rows: !ttl_ms.is_multiple_of(4), holds_max: HOLDS_MAX };
        let mut answers = Rows::new();
        let routed = route(&mut asked, now, &request, pick, &ends, &mut answers);
        if ended {
            prop_assert_eq!(routed, Err(Undecided::LeaseEnded));
            prop_assert_eq!(self.accounts.each_ref().map(saved), before, "an error changes nothing");
            return Ok(());
        }
        let routed = routed.unwrap();
        if known.is_some() {
            prop_assert_eq!((routed.target, routed.repeated, routed.retry_after_ms), (known, true, 0));
            prop_assert_eq!(self.accounts.each_ref().map(saved), before, "a repeated request changes nothing");
            self.seen.repeated += 1;
            return Ok(());
        }
        prop_assert_eq!(&*routed.tidied, &*tidied);
        let picked = admitting.iter().find(|it| Some(it.0) == routed.target);
        prop_assert_eq!(routed.target.is_some(), !admitting.is_empty());
        prop_assert_eq!(picked.is_some(), routed.target.is_some(), "a target that admits");
        if let Some(&(_, (share, load, live), unnamed)) = picked {
            prop_assert_eq!((routed.retry_after_ms, routed.noted.unnamed), (0, unnamed));
            for &(_, (other_share, other_load, other_live), _) in &admitting {
                match pick {
                    Pick::First => {}
                    Pick::Room => {
                        prop_assert!(share > other_share - 1.0 / 64.0 - 1e-6);
                        let most = admitting.iter().map(|it| it.1.0).fold(0.0, f64::max);
                        prop_assert!(other_share < most - 1.0 / 64.0 + 1e-6 || live <= other_live);
                    }
                    Pick::Fast => prop_assert!(load <= other_load * 17.0 / 16.0 + 20.0, "{load} {other_load}"),
                }
            }
            self.seen.passed += usize::from(routed.target > Some(places[0]));
        } else {
            let shortest = waits.into_iter().min().unwrap() as i64;
            prop_assert_eq!(routed.retry_after_ms, shortest);
            let first = |own: &[Row]| own.iter().find(|row| row.refuses()).map(|row| row.policy);
            let refused_by = rows.chunk_by(|one, next| one.account == next.account).filter_map(first);
            prop_assert!(routed.refused_by.iter().copied().eq(refused_by), "the first of each target");
            self.seen.refused += 1;
        }
        if !request.rows {
            prop_assert!(answers.is_empty());
        } else if picked.is_none() {
            prop_assert_eq!(&*answers, &*rows);
        } else {
            prop_assert_eq!(answers.len(), rows.len());
            let own = |row: &&Row| Some(usize::from(row.account)) != routed.target;
            prop_assert!(answers.iter().filter(own).eq(rows.iter().filter(own)));
        }
        let mut probe = false;
        for (place, before) in before.iter().enumerate() {
            if routed.target == Some(place) {
                probe = self.models[place].charge(now, id, ttl_ms, &amounts);
                self.replicas[place].charge(now, id, ttl_ms, &amounts, &mut []);
                let again = self.models[place].decide(place as u8, now, id, &amounts, &ends);
                for (row, again) in answers.iter().filter(|row| usize::from(row.account) == place).zip(&again) {
                    prop_assert_eq!((row.figures, row.reset_after_ms), (again.figures, again.reset_after_ms));
                }
            } else if tidied.contains(&place) {
                self.replicas[place].advance(now);
            } else {
                prop_assert_eq!(&saved(&self.accounts[place]), before, "only the target is charged");
            }
        }
        prop_assert_eq!(routed.probe, probe);
        self.seen.probes += usize::from(probe);
        Ok(())
    }

    fn settle(
        &mut self,
        now: &Moment,
        accounts: u8,
        id: [u8; 2],
        actuals: &[(&[u8], Amount)],
        report: &Report,
    ) -> Result<(), TestCaseError> {
        let (id, actuals) = (&id[..], Amounts(actuals));
        for place in chosen(accounts) {
            let standing = self.accounts[place].standing(now.stamp.at_ms, id);
            prop_assert_eq!(standing, self.models[place].standing(now, id));
            // The command handlers do not even try a settlement that changes nothing.
            if matches!(standing, Standing::Live | Standing::Expired) {
                let settlement = self.accounts[place].settle(now, id, &actuals, report).unwrap();
                prop_assert_eq!(settlement.standing, standing);
                self.seen.opened += usize::from(settlement.opened);
                self.seen.closed += usize::from(settlement.closed);
                prop_assert_eq!(self.replicas[place].settle(now, id, &actuals, report), Ok(settlement));
                self.models[place].settle(now, id, &actuals, report);
            }
        }
        Ok(())
    }

    fn check(&self, now_ms: i64) -> Result<(), TestCaseError> {
        let now = moment(now_ms);
        for place in 0..ACCOUNTS {
            let (account, model) = (&self.accounts[place], &self.models[place]);
            let ledger = account.ledger();
            let held = ledger.held(now_ms, Period::Total, now.day);
            let sums = (ledger.spent(Period::Total, now.day), held, account.in_flight(now_ms));
            prop_assert_eq!(sums, model.sums(&now));
            match (account.idle_ms(), account.expires_at_ms(), model.idle) {
                (Some(idle_ms), Some(expires_at_ms), Some((asked_ms, needed_until_ms))) => {
                    prop_assert_eq!(idle_ms, asked_ms);
                    let latest_ms = needed_until_ms + idle_ms as i64;
                    prop_assert!((needed_until_ms..=latest_ms).contains(&expires_at_ms));
                }
                idle => prop_assert_eq!(idle, (None, None, None)),
            }
            let tallies = account.policies().iter().map(AccountPolicy::tally);
            prop_assert!(tallies.eq(model.policies.iter().map(|policy| &policy.tally)));
            prop_assert_eq!(saved(account), saved(&self.replicas[place]), "the effects alone give the same value");
        }
        Ok(())
    }
}

#[test]
fn agrees_with_a_naive_model_over_a_million_steps() {
    let config = ProptestConfig { cases: 6_000, failure_persistence: None, ..ProptestConfig::default() };
    let (total, expired) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let seen = std::cell::Cell::new([0; 6]);
    TestRunner::new(config)
        .run(&prop::collection::vec(ops(), 1..400), |steps| {
            total.set(total.get() + steps.len());
            let (mut now_ms, mut world) = (NOW, World::default());
            // Something to limit from the start on.
            world.step(now_ms, Op::Set { account: 0, name: 0, policy: window(20, 1_000, "requests") })?;
            world.step(now_ms, Op::Set { account: 1, name: 0, policy: budget("40", Period::Day, "usd") })?;
            world.step(now_ms, Op::Set { account: 2, name: 0, policy: in_flight(4) })?;
            for account in 0..ACCOUNTS {
                world.step(now_ms, Op::Set { account, name: 1, policy: breaker(2, 60_000, 1_000) })?;
            }
            for (index, (advance_ms, op)) in steps.into_iter().enumerate() {
                now_ms += advance_ms;
                world.step(now_ms, op)?;
                if index % 16 == 0 {
                    world.check(now_ms)?;
                }
            }
            expired.set(expired.get() + world.expired);
            let Seen { probes, opened, closed, passed, refused, repeated } = world.seen;
            let mut sums = seen.get();
            sums.iter_mut().zip([probes, opened, closed, passed, refused, repeated]).for_each(|(sum, it)| *sum += it);
            seen.set(sums);
            world.check(now_ms)
        })
        .unwrap();
    assert!(total.get() > 1_000_000, "{} steps", total.get());
    assert!(expired.get() > 1_000, "{} accounts have expired", expired.get());
    let often = [3_000, 3_000, 1_000, 3_000, 3_000, 1_000];
    assert!(seen.get().iter().zip(often).all(|(&times, often)| times > often), "{:?}", seen.get());
}

/// Many leases that were never settled end at once: they do not push out what was settled, and no single change has to
/// end all of them.
#[test]
fn leases_that_end_by_the_thousand_hold_up_nobody_and_what_was_settled_is_remembered() {
    let mut account = Account::default();
    account.set(b"flight", in_flight(100_000)).unwrap();
    account.set(b"rpm", Policy { give_back: true, ..window(1_000_000, 60_000, "requests") }).unwrap();
    let amounts = Amounts(&[]);
    let leases = FINISHED_MAX as u64 + 1_000;
    for lease in 0..leases {
        account.charge(&moment(NOW), &lease.to_be_bytes(), 1_000, &amounts, &mut []);
    }
    let later = moment(NOW + 1_000);
    assert_eq!((account.in_flight(NOW + 999), account.in_flight(NOW + 1_000)), (leases, 0));
    for change in 1..=leases.div_ceil(ENDED_PER_CHANGE as u64) {
        account.advance(&later);
        let ended = leases.min(change * ENDED_PER_CHANGE as u64);
        let left = account.counts(NOW + 1_000).iter().find(|(name, _)| *name == b"rpm").map(|&(_, units)| units);
        assert_eq!(left, Some(Count::Units((leases - ended) as i64)), "given back as they end");
        assert_eq!(account.in_flight(NOW + 1_000), 0);
        assert_eq!(account.standing(NOW + 1_000, &(leases - 1).to_be_bytes()), Standing::Expired);
    }
    account.charge(&later, b"settled", 1_000, &amounts, &mut []);
    account.settle(&later, b"settled", &amounts, &Report::default()).unwrap();
    account.advance(&moment(NOW + 2_000));
    assert_eq!(account.standing(NOW + 2_000, b"settled"), Standing::Settled);
    assert_eq!(account.remembered(), FINISHED_MAX + 1);
    assert_eq!(saved(&reloaded(&account)), saved(&account));
}

/// The usual admission: an id like a UUID's, units of two policies, and an estimate of money. Each is settled late, too.
#[test]
fn an_admission_that_was_never_settled_takes_64_bytes_at_most() {
    let mut account = Account::default();
    account.set(b"rpm", window(1_000_000, 60_000, "requests")).unwrap();
    account.set(b"tpm", window(1_000_000_000, 60_000, "tokens")).unwrap();
    account.set(b"usd", budget("1000000", Period::Month, "usd")).unwrap();
    let id = |number: usize| format!("5f0c1e7a-3d94-4b0e-9a55-{number:012x}").into_bytes();
    let estimate = [(b"tokens".as_slice(), amount("12345")), (USD, amount("3.98765"))];
    for number in 0..FINISHED_MAX {
        account.charge(&moment(NOW), &id(number), 600_000, &Amounts(&estimate), &mut []);
    }
    let mut later = moment(NOW + 600_000);
    for _ in 0..FINISHED_MAX / ENDED_PER_CHANGE {
        account.advance(&later);
        let (bytes, ended) = (account.expired.memory_bytes(), account.expired.len());
        assert!(bytes <= 64 * ended, "{bytes} bytes for {ended} admissions");
    }
    assert_eq!((account.expired.len(), account.in_flight(later.stamp.at_ms)), (FINISHED_MAX, 0));
    later.stamp.at_ms += 3_000_000;
    let none = Amounts(&[]);
    for number in (0..FINISHED_MAX).step_by(2) {
        let settlement = account.settle(&later, &id(number), &none, &Report::default()).unwrap();
        assert_eq!((settlement.standing, settlement.spent), (Standing::Expired, true));
        assert_eq!(account.standing(later.stamp.at_ms, &id(number)), Standing::Settled);
        assert_eq!(account.standing(later.stamp.at_ms, &id(number + 1)), Standing::Expired);
    }
    let charged = Amount::from_picos(estimate[1].1.picos() * (FINISHED_MAX / 2) as i128);
    assert_eq!(Some(account.ledger().spent(Period::Total, later.day)), charged);
    assert_eq!(account.remembered(), FINISHED_MAX);
    assert_eq!(saved(&reloaded(&account)), saved(&account));
}

#[test]
fn a_breaker_has_one_probe_at_a_time_and_a_death_leaves_it_to_the_next() {
    let mut account = Account::default();
    account.set(b"up", breaker(2, 60_000, 1_000)).unwrap();
    let (failed, done) = (Report { failed: true, ..Report::default() }, Report::default());
    let none = Amounts(&[]);
    let admit = |account: &mut Account, now_ms: i64, id: &[u8]| {
        let request = Request { id, ttl_ms: 500, amounts: none, shadow: false, rows: false, holds_max: HOLDS_MAX };
        let decision = admit(&mut [Some(account)], &moment(now_ms), &request, &|_| -1, &mut Rows::new()).unwrap();
        (decision.answer.admitted, decision.answer.retry_after_ms, decision.probe)
    };
    for id in [b"a", b"b", b"c"] {
        assert_eq!(admit(&mut account, NOW, id), (true, 0, false));
    }
    for (id, opened) in [(b"a", 0), (b"b", 1), (b"c", 0)] {
        let settlement = account.settle(&moment(NOW + 10), id, &none, &failed).unwrap();
        assert_eq!((settlement.opened, settlement.closed), (opened, 0), "the third says nothing of the time after");
    }
    assert_eq!(admit(&mut account, NOW + 20, b"d"), (false, 990, false), "the true wait");
    assert_eq!(admit(&mut account, NOW + 1_010, b"d"), (true, 0, true));
    assert_eq!(admit(&mut account, NOW + 1_110, b"e"), (false, 400, false), "until the probe's lease ends");
    assert_eq!(account.breakers(NOW + 1_110), [(&b"up"[..], State::Probing(b"d", 400))]);
    assert_eq!(admit(&mut account, NOW + 1_510, b"e"), (true, 0, true), "the first probe has died");
    let late = account.settle(&moment(NOW + 1_600), b"d", &none, &done).unwrap();
    assert_eq!((late.standing, late.closed), (Standing::Expired, 0), "too late to be the probe");
    let undone = Amounts(&[(REQUESTS, Amount::ZERO)]);
    account.settle(&moment(NOW + 1_600), b"e", &undone, &done).unwrap();
    assert_eq!(account.breakers(NOW + 1_600), [(&b"up"[..], State::HalfOpen)], "undone");
    assert_eq!(admit(&mut account, NOW + 1_600, b"f"), (true, 0, true));
    assert_eq!(account.settle(&moment(NOW + 1_700), b"f", &undone, &failed).unwrap().opened, 1, "undone, and failed");
    assert_eq!(admit(&mut account, NOW + 2_700, b"g"), (true, 0, true));
    assert_eq!(account.settle(&moment(NOW + 2_710), b"g", &none, &done).unwrap().closed, 1);
    assert_eq!(account.breakers(NOW + 2_710), [(&b"up"[..], State::Closed(0))]);
}

/// Hundreds of requests that are decided before any of them is settled.
#[test]
fn requests_spread_over_targets_that_are_equal() {
    for (pick, targets) in [(Pick::Room, 8), (Pick::Fast, 8), (Pick::Room, 3), (Pick::Fast, 3)] {
        let mut accounts: Vec<Account> = (0..targets).map(|_| Account::default()).collect();
        for account in &mut accounts {
            account.set(b"rpm", window(1_000, 60_000, "requests")).unwrap();
        }
        for number in 0..800_u32 {
            let mut asked: Vec<_> = accounts.iter_mut().map(Some).collect();
            let request = Request {
                id: &number.to_be_bytes(),
                ttl_ms: 60_000,
                amounts: Amounts(&[]),
                shadow: false,
                rows: false,
                holds_max: HOLDS_MAX,
            };
            let routed = route(&mut asked, &moment(NOW), &request, pick, &|_| -1, &mut Rows::new()).unwrap();
            assert!(routed.target.is_some());
        }
        let shares: Vec<u64> = accounts.iter().map(|account| account.in_flight(NOW)).collect();
        let fair = 800 / targets;
        assert!(shares.iter().all(|&share| share.abs_diff(fair) <= fair / 8), "{pick:?}: {shares:?}");
    }
}

#[test]
fn a_cooldown_needs_no_policy_and_the_later_end_wins() {
    let mut account = Account::default();
    let cooldown = |cooldown_ms| Report { failed: true, cooldown_ms, took_ms: None };
    for id in [b"a", b"b"] {
        account.charge(&moment(NOW), id, 60_000, &Amounts(&[]), &mut []);
    }
    account.settle(&moment(NOW), b"a", &Amounts(&[]), &cooldown(5_000)).unwrap();
    account.settle(&moment(NOW + 1_000), b"b", &Amounts(&[]), &cooldown(1_000)).unwrap();
    let request =
        Request { id: b"c", ttl_ms: 1, amounts: Amounts(&[]), shadow: false, rows: false, holds_max: HOLDS_MAX };
    let mut rows = Rows::new();
    let decision = admit(&mut [Some(&mut account)], &moment(NOW + 1_000), &request, &|_| -1, &mut rows).unwrap();
    assert_eq!(decision.answer, Answer { admitted: false, retry_after_ms: 4_000 });
    assert_eq!(rows.iter().map(Row::obstacle).collect::<Vec<_>>(), [Some("COOLDOWN")]);
    assert_eq!((account.cooldown_ms(NOW + 4_999), account.cooldown_ms(NOW + 5_000)), (1, 0));
    assert_eq!(saved(&reloaded(&account)), saved(&account));
}

/// What an account takes with up to four policies before its first request, which docs/src/operating/sizing.md states.
#[test]
fn an_idle_account_is_small() {
    let mut account = Account::default();
    for (name, policy) in [
        ("rpm", window(1_000, 60_000, "requests")),
        ("tpm", bucket(1_000, 1_000, 60_000, "tokens")),
        ("streams", in_flight(10)),
        ("money", budget("100", Period::Month, "usd")),
    ] {
        account.set(name.as_bytes(), policy).unwrap();
    }
    assert_eq!(account.total_bytes(), 768);
    assert_eq!(account.clone().total_bytes(), 768);
}
