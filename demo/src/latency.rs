//! How long round trips and requests took, as the client saw it.

use hdrhistogram::Histogram;
use std::time::Duration;

/// The round trips of a gateway and its log consumer, each a command or a pipeline of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trip {
    Admit,
    Settle,
    /// The settlement of a response from the cache.
    SettleHit,
    LogPop,
}

impl Trip {
    pub const ALL: [Self; 4] = [Self::Admit, Self::Settle, Self::SettleHit, Self::LogPop];

    pub fn name(self) -> &'static str {
        match self {
            Self::Admit => "GW.ADMIT + CACHEGET",
            Self::Settle => "GW.SETTLE + LOGPUSH + CACHESET",
            Self::SettleHit => "GW.SETTLE + LOGPUSH",
            Self::LogPop => "GW.LOGPOP",
        }
    }

    /// The number of commands in it.
    pub fn commands(self) -> u64 {
        match self {
            Self::Admit | Self::SettleHit => 2,
            Self::Settle => 3,
            Self::LogPop => 1,
        }
    }
}

/// Histograms in nanoseconds, with two significant digits.
pub struct Latencies {
    trips: [Histogram<u64>; Trip::ALL.len()],
    requests: Histogram<u64>,
}

/// The figures of a histogram that a report shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    pub count: u64,
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { trips: std::array::from_fn(|_| histogram()), requests: histogram() }
    }
}

/// From a nanosecond to a minute, which is longer than a connection waits; longer ones count as a minute.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("constant bounds that the crate accepts")
}

impl Latencies {
    pub fn record(&mut self, trip: Trip, took: Duration) {
        self.trips[trip as usize].saturating_record(nanos(took));
    }

    /// Both round trips of a request together.
    pub fn record_request(&mut self, took: Duration) {
        self.requests.saturating_record(nanos(took));
    }

    /// Adds the latencies of another connection.
    pub fn merge(&mut self, other: &Self) {
        let pairs = self.trips.iter_mut().zip(&other.trips).chain([(&mut self.requests, &other.requests)]);
        for (mine, theirs) in pairs {
            mine.add(theirs).expect("histograms of equal bounds");
        }
    }

    pub fn trip(&self, trip: Trip) -> Quantiles {
        quantiles(&self.trips[trip as usize])
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
    fn connections_add_up_by_round_trip() {
        let mut all = Latencies::default();
        for offset in [0, 50] {
            let mut one = Latencies::default();
            for micros in 1 + offset..=50 + offset {
                one.record(Trip::Settle, Duration::from_micros(micros));
            }
            one.record_request(Duration::from_secs(3_600));
            all.merge(&one);
        }
        let settled = all.trip(Trip::Settle);
        let near = |took: Duration, micros: u64| took.as_nanos().abs_diff(u128::from(micros) * 1_000) <= 1_000;
        assert_eq!(settled.count, 100);
        assert!(near(settled.p50, 50) && near(settled.p99, 99) && near(settled.max, 100), "{settled:?}");
        assert_eq!(all.trip(Trip::LogPop).count, 0);
        assert_eq!(all.requests().count, 2);
    }

    #[test]
    fn the_list_of_round_trips_is_in_the_order_of_their_numbers() {
        assert!(Trip::ALL.iter().enumerate().all(|(index, &trip)| trip as usize == index));
    }
}
