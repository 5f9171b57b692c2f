//! Cases: commands, each with the state in which it is measured. Also the cases that several groups share.

use crate::load::{RANDOM, UNIQUE};

/// The keys that random keys are drawn from.
pub const KEYS: u64 = 10_000;

/// A command under load, or several that belong together and count as one.
pub struct Case {
    pub name: &'static str,
    /// In place of a number, [`RANDOM`] is replaced by a random one in each command, and [`UNIQUE`] by one that never
    /// repeats.
    pub commands: Vec<Vec<String>>,
    /// The beginning of the first reply, in the notation of the test kit. It shows that the command does what is to be
    /// measured.
    pub expected: &'static str,
    pub state: State,
    /// A setting with which it is measured.
    pub setting: Option<(&'static str, &'static str)>,
}

/// The contents of the database when a case is measured.
pub enum State {
    /// Nothing: the command makes its data grow, so each run starts with an empty database.
    Empty,
    /// Keys that these commands fill once: the measured command does not change their size.
    Filled(Vec<Fill>),
    /// The same, anew for each run: the measured command makes the keys grow.
    Anew(Vec<Fill>),
    /// The same, anew for each run: the measured command empties the keys.
    Drained(Vec<Fill>),
}

#[derive(Clone)]
pub struct Fill {
    pub arguments: Vec<String>,
    /// How many keys [`RANDOM`] stands for.
    pub keys: u64,
    /// Commands per key, in rounds over all keys, so that a key's commands fall into different milliseconds.
    pub rounds: u64,
}

/// Cases that are measured in turn, and the pairs of them that are compared.
pub struct Group {
    pub cases: Vec<Case>,
    /// The most requests of one run: if the data grows, more would not fit.
    pub requests_max: u64,
    pub pairs: Vec<Pair>,
}

pub struct Pair {
    pub candidate: &'static str,
    pub reference: &'static str,
    /// The least throughput at -P 16, as a multiple of the reference's.
    pub bar: Option<f64>,
}

pub fn pair(candidate: &'static str, reference: &'static str, bar: impl Into<Option<f64>>) -> Pair {
    Pair { candidate, reference, bar: bar.into() }
}

pub fn words(line: &str) -> Vec<String> {
    line.split(' ').map(|word| word.replace('#', RANDOM).replace('@', UNIQUE)).collect()
}

impl Case {
    /// `line` is the command. In it, `#` stands for [`RANDOM`].
    pub fn new(name: &'static str, line: &str, expected: &'static str, state: State) -> Self {
        Self { name, commands: vec![words(line)], expected, state, setting: None }
    }

    /// Adds an argument, which may contain anything.
    pub fn value(mut self, value: &str) -> Self {
        self.commands.iter_mut().for_each(|arguments| arguments.push(value.to_owned()));
        self
    }

    /// Adds a command, for the same key and with the same unique id: `@` stands for [`UNIQUE`].
    pub fn then(mut self, line: &str) -> Self {
        self.commands.push(words(line));
        self
    }

    /// The same case with commands that only make the calls to the server: see `benches/bare`. `commands` are their
    /// names, in the order of this case's commands.
    pub fn bare(&self, name: &'static str, commands: &[&str], expected: &'static str) -> Self {
        let mut bare = Self { name, commands: self.commands.clone(), expected, state: State::Empty, setting: None };
        for (arguments, command) in bare.commands.iter_mut().zip(commands) {
            arguments.splice(..1, [(*command).to_owned()]);
        }
        bare.on_its_own_keys()
    }

    /// The same case under another name, with a setting.
    pub fn with(self, name: &'static str, setting: &'static str, value: &'static str) -> Self {
        Self { name, setting: Some((setting, value)), ..self }
    }

    pub fn fill(&self, keys: u64, rounds: u64) -> State {
        let fill = |arguments: &Vec<String>| Fill { arguments: arguments.clone(), keys, rounds };
        State::Filled(self.commands.iter().map(fill).collect())
    }

    /// Fills the keys by the case's own command, so that it is measured on keys that exist.
    pub fn on_its_own_keys(mut self) -> Self {
        self.state = self.fill(KEYS, 1);
        self
    }
}

pub fn filled(line: &str, rounds: u64) -> State {
    State::Filled(vec![Fill { arguments: words(line), keys: KEYS, rounds }])
}

pub fn filled_with(line: &str, value: &str) -> State {
    Case::new("", line, "", State::Empty).value(value).fill(KEYS, 1)
}

pub fn set() -> Case {
    Case::new("SET", "SET set:# xxx", "OK", State::Empty).on_its_own_keys()
}

/// A limit per minute, the default, that is never reached.
pub fn allow_admitted() -> Case {
    Case::new("GW.ALLOW", "GW.ALLOW allow:# 1000000", "[1, 1000000, ", State::Empty)
}

/// JSON text that is filled up with words to `bytes` bytes.
pub fn padded(mut text: String, bytes: usize) -> String {
    const ENGLISH: &str = "the model reads every token of its context and writes one more until it stops; ";
    const END: &str = "\"}";
    let missing = bytes.saturating_sub(text.len() + END.len());
    text.extend(ENGLISH.chars().cycle().take(missing));
    text + END
}

/// The units of a full window, and the tokens taken from an empty bucket.
pub const FULL: u64 = 60;

/// A period so long that nothing leaves a window and nothing flows into a bucket during the benchmark.
pub const DAY_MS: &str = "86400000";

pub fn allow_denied() -> Case {
    let denied = format!("GW.ALLOW allow:# {FULL} WINDOW {DAY_MS}");
    Case::new("GW.ALLOW denied", &denied, "[0, 60, 0, ", filled(&denied, FULL))
}

/// A bucket with the default period of a minute.
pub fn tokens_admitted() -> Case {
    Case::new("GW.TOKENS", "GW.TOKENS tokens:# 1000000 1000000 COST 10", "[1, ", State::Empty).on_its_own_keys()
}

pub fn tokens_denied() -> Case {
    let (denied, drain) = (format!("1 {FULL} PER {DAY_MS} COST 1"), format!("1 {FULL} PER {DAY_MS} COST {FULL}"));
    Case::new(
        "GW.TOKENS denied",
        &format!("GW.TOKENS tokens:# {denied}"),
        "[0, 60, 0, ",
        filled(&format!("GW.TOKENS tokens:# {drain}"), 1),
    )
}

pub fn addcost() -> Case {
    Case::new("GW.ADDCOST", "GW.ADDCOST budget:# 0.0013755", "\"0.", State::Empty).on_its_own_keys()
}
