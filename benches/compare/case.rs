//! A case: a command with the state that it is measured in; and the cases that several groups have.

use crate::load::{RANDOM, UNIQUE};

/// The keys that random keys are drawn from.
pub const KEYS: u64 = 10_000;

/// A command under load, or several that belong together and count as one.
pub struct Case {
    pub name: &'static str,
    /// With [`RANDOM`] where a number changes from command to command, and [`UNIQUE`] where it is never the same.
    pub commands: Vec<Vec<String>>,
    /// How the first reply begins, in the notation of the test kit: that the command does what it is measured for.
    pub expected: &'static str,
    pub state: State,
}

/// What a case's database holds when it is measured.
pub enum State {
    /// Nothing: the command makes its data grow, so each run starts anew.
    Empty,
    /// What these commands made of each key, once; the measured command leaves it as large as it is.
    Filled(Vec<Fill>),
    /// The same, anew for each run: the command makes it grow.
    Anew(Vec<Fill>),
    /// The same, anew for each run: the command takes it away.
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

/// Cases that are measured in turn, and the pairs of them whose ratio counts.
pub struct Group {
    pub cases: Vec<Case>,
    /// Of one run: no more than this fits where the data grows.
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
    /// `line` is the command; in it, `#` stands for [`RANDOM`].
    pub fn new(name: &'static str, line: &str, expected: &'static str, state: State) -> Self {
        Self { name, commands: vec![words(line)], expected, state }
    }

    /// One more argument, which may contain anything.
    pub fn value(mut self, value: &str) -> Self {
        self.commands.iter_mut().for_each(|arguments| arguments.push(value.to_owned()));
        self
    }

    /// One more command, for the same key and with the same unique id: `@` stands for [`UNIQUE`].
    pub fn then(mut self, line: &str) -> Self {
        self.commands.push(words(line));
        self
    }

    /// The same with commands that only make the calls to the server: see `benches/bare`. `commands` are the names of those,
    /// in the order of this case's own.
    pub fn bare(&self, name: &'static str, commands: &[&str], expected: &'static str) -> Self {
        let mut bare = Self { name, commands: self.commands.clone(), expected, state: State::Empty };
        for (arguments, command) in bare.commands.iter_mut().zip(commands) {
            arguments.splice(..1, [(*command).to_owned()]);
        }
        bare.on_its_own_keys()
    }

    pub fn fill(&self, keys: u64, rounds: u64) -> State {
        let fill = |arguments: &Vec<String>| Fill { arguments: arguments.clone(), keys, rounds };
        State::Filled(self.commands.iter().map(fill).collect())
    }

    /// Of a command that can fill its own keys: measured on keys that exist.
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

/// A limit of the default minute, far away.
pub fn allow_admitted() -> Case {
    Case::new("GW.ALLOW", "GW.ALLOW allow:# 1000000", "[1, 1000000, ", State::Empty)
}

/// JSON text that is filled up with words to so many bytes.
pub fn padded(mut text: String, bytes: usize) -> String {
    const ENGLISH: &str = "the model reads every token of its context and writes one more until it stops; ";
    const END: &str = "\"}";
    let missing = bytes.saturating_sub(text.len() + END.len());
    text.extend(ENGLISH.chars().cycle().take(missing));
    text + END
}
