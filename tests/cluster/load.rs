//! Load on a cluster while something is done to it: games, which know exactly what must be there, and their players.

use gw_testkit::redis::{Cmd, FromRedisValue, Value, cmd, from_redis_value};
use gw_testkit::{Caller, DEADLINE, Outcome, Random, reply_line};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// One kind of data, with what its players know must be in it.
pub trait Game: Sync {
    /// Makes what the players need.
    fn set_up(&self, _caller: &mut Caller) {}

    /// Plays until it is over. `player` is this player's number, from 0.
    fn play(&self, player: usize, caller: &mut Caller, random: &mut Random, round: &Round);

    /// The number of players.
    fn players(&self) -> usize {
        2
    }

    /// Compares what is there with what must be there.
    fn check(&self, caller: &mut Caller);
}

/// The state of affairs while games are played.
#[derive(Default)]
pub struct Round {
    over: AtomicBool,
    /// Even while the cluster is left alone.
    disturbances: AtomicU64,
    /// The cluster may do something by itself.
    is_unsteady: AtomicBool,
}

impl Round {
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// How often something has been done to the cluster; `None` while it is being done.
    pub fn calm(&self) -> Option<u64> {
        let count = Some(self.disturbances.load(Ordering::SeqCst)).filter(|count| count % 2 == 0);
        count.filter(|_| !self.is_unsteady.load(Ordering::SeqCst))
    }

    /// From now on it is never calm: on a busy machine nodes may be taken for dead.
    pub fn is_unsteady(&self) {
        self.is_unsteady.store(true, Ordering::SeqCst);
    }

    /// Does something that may take data to another node.
    pub fn disturb<T>(&self, body: impl FnOnce() -> T) -> T {
        self.disturbances.fetch_add(1, Ordering::SeqCst);
        let done = body();
        self.disturbances.fetch_add(1, Ordering::SeqCst);
        done
    }
}

/// The pause of each player between its calls: some hundred calls a second in all are enough, on a small machine.
const THINKING: Duration = Duration::from_millis(25);

/// How often callers were sent elsewhere, and how often nobody knew what became of a call.
#[derive(Debug)]
pub struct Met {
    pub redirected: u64,
    pub lost: u64,
}

/// Plays all games at once while `disturb` runs, to its end; then checks them.
pub fn under_load(
    games: &[Box<dyn Game>],
    seed: u64,
    caller: impl Fn() -> Caller + Sync,
    disturb: impl FnOnce(&Round),
) -> Met {
    let met = play(games, seed, &caller, disturb);
    for game in games {
        game.check(&mut caller());
    }
    met
}

/// Plays all games at once while `disturb` runs, to its end.
pub fn play(
    games: &[Box<dyn Game>],
    seed: u64,
    caller: impl Fn() -> Caller + Sync,
    disturb: impl FnOnce(&Round),
) -> Met {
    let round = Round::default();
    for game in games {
        game.set_up(&mut caller());
    }
    let (redirected, lost) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        // Also if `disturb` fails.
        let _over = Over(&round);
        let mut seed = seed;
        for game in games {
            for player in 0..game.players() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) | 1;
                let (caller, round, redirected, lost) = (&caller, &round, &redirected, &lost);
                scope.spawn(move || {
                    let mut caller = caller();
                    game.play(player, &mut caller, &mut Random(seed), round);
                    redirected.fetch_add(caller.redirected, Ordering::Relaxed);
                    lost.fetch_add(caller.lost, Ordering::Relaxed);
                });
            }
        }
        disturb(&round);
    });
    Met { redirected: redirected.into_inner(), lost: lost.into_inner() }
}

struct Over<'a>(&'a Round);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Repeats `step` for so long, and at least so often.
pub fn repeat(seconds: u64, times: usize, mut step: impl FnMut(usize)) {
    let start = Instant::now();
    let mut count = 0;
    while count < times || start.elapsed() < Duration::from_secs(seconds) {
        step(count);
        count += 1;
    }
}

/// A player's pause before its next call.
pub fn think() {
    thread::sleep(THINKING);
}

/// A command from its words.
pub fn command(words: &str) -> Cmd {
    let mut words = words.split_ascii_whitespace();
    let mut command = cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>());
    command
}

/// The reply to a call that was sent until there was one.
pub struct Answer {
    pub value: Value,
    /// Whether an earlier attempt was lost, which may have taken effect.
    pub repeated: bool,
}

impl Answer {
    pub fn read<T: FromRedisValue>(self, words: &str) -> T {
        let line = reply_line(Ok(self.value.clone()));
        from_redis_value(self.value).unwrap_or_else(|error| panic!("{words}: {line}: {error}"))
    }
}

/// Sends a call under the same id until there is a reply. An error of the command fails the test.
pub fn insist(caller: &mut Caller, key: &str, words: &str) -> Answer {
    let command = command(words);
    let mut repeated = false;
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < DEADLINE, "{words}: after {DEADLINE:?} still no reply that counts");
        match caller.call(key, &command).unwrap_or_else(|error| panic!("{words}: {error}")) {
            Outcome::Replied(value) => return Answer { value, repeated },
            Outcome::Refused(error) => panic!("{words}: {error}"),
            Outcome::Lost => repeated = true,
        }
    }
}

/// The value of a call that only reads, or that may be repeated at will.
pub fn ask<T: FromRedisValue>(caller: &mut Caller, key: &str, words: &str) -> T {
    insist(caller, key, words).read(words)
}

/// Settles an admission that is live unless an attempt that was lost has settled it.
pub fn settle(caller: &mut Caller, key: &str, words: &str) {
    let answer = insist(caller, key, words);
    let repeated = answer.repeated;
    let outcome: String = answer.read(words);
    assert!(outcome == "SETTLED" || outcome == "REPEATED" && repeated, "{words}: {outcome}");
}

/// A field of a reply without its quotes.
pub fn text(value: &Value) -> String {
    reply_line(Ok(value.clone())).trim_matches('"').to_owned()
}

/// An amount of cents.
pub fn amount(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// The cents of an amount.
pub fn cents(amount: &str) -> u64 {
    let (whole, places) = amount.split_once('.').unwrap_or((amount, ""));
    whole.parse::<u64>().unwrap() * 100 + format!("{places:0<2}").parse::<u64>().unwrap()
}
