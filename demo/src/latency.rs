//! How long commands and requests took, as the client saw it.

use hdrhistogram::Histogram;
use std::time::Duration;

/// The commands that a gateway and its log consumer send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Allow,
    Tokens,
    WithinBudget,
    CacheGet,
    AddCost,
    CacheSet,
    LogPush,
    LogPop,
}

impl Command {
    pub const ALL: [Self; 8] = [
        Self::Allow,
        Self::Tokens,
        Self::WithinBudget,
        Self::CacheGet,
        Self::AddCost,
        Self::CacheSet,
        Self::LogPush,
        Self::LogPop,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "GW.ALLOW",
            Self::Tokens => "GW.TOKENS",
            Self::WithinBudget => "GW.WITHINBUDGET",
            Self::CacheGet => "GW.CACHEGET",
            Self::AddCost => "GW.ADDCOST",
            Self::CacheSet => "GW.CACHESET",
            Self::LogPush => "GW.LOGPUSH",
            Self::LogPop => "GW.LOGPOP",
        }
    }
}

/// Histograms in nanoseconds, with two significant digits.
pub struct Latencies {
    commands: [Histogram<u64>; Command::ALL.len()],
    requests: Histogram<u64>,
}

/// What a report says of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    pub count: u64,
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { commands: std::array::from_fn(|_| histogram()), requests: histogram() }
    }
}

/// From a nanosecond to a minute, which is longer than a connection waits; longer ones count as a minute.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("constant bounds that the crate accepts")
}

impl Latencies {
    pub fn record(&mut self, command: Command, took: Duration) {
        self.commands[command as usize].saturating_record(nanos(took));
    }

    /// All commands of a request together.
    pub fn record_request(&mut self, took: Duration) {
        self.requests.saturating_record(nanos(took));
    }

    /// Adds what another connection has seen.
    pub fn merge(&mut self, other: &Self) {
        let pairs = self.commands.iter_mut().zip(&other.commands).chain([(&mut self.requests, &other.requests)]);
        for (mine, theirs) in pairs {
            mine.add(theirs).expect("histograms of equal bounds");
        }
    }

    pub fn command(&self, command: Command) -> Quantiles {
        quantiles(&self.commands[command as usize])
    }

    pub fn requests(&self) -> Quantiles {
        quantiles(&self.requests)
    }
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
    Quantiles { count: histogram.len(), p50: at(0.5), p99: at(0.99), max: Duration::from_nanos(histogram.max()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_add_up_by_command() {
        let mut all = Latencies::default();
        for offset in [0, 50] {
            let mut one = Latencies::default();
            for micros in 1 + offset..=50 + offset {
                one.record(Command::AddCost, Duration::from_micros(micros));
            }
            one.record_request(Duration::from_secs(3_600));
            all.merge(&one);
        }
        let charges = all.command(Command::AddCost);
        let near = |took: Duration, micros: u64| took.as_nanos().abs_diff(u128::from(micros) * 1_000) <= 1_000;
        assert_eq!(charges.count, 100);
        assert!(near(charges.p50, 50) && near(charges.p99, 99) && near(charges.max, 100), "{charges:?}");
        assert_eq!(all.command(Command::Allow).count, 0);
        assert_eq!(all.requests().count, 2);
    }

    #[test]
    fn the_list_of_commands_is_in_the_order_of_their_numbers() {
        assert!(Command::ALL.iter().enumerate().all(|(index, &command)| command as usize == index));
    }
}
