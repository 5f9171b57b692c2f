//! What happened in the last half hour, for charts and for those who have just opened the page.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::fleet::Fleet;
use crate::nodes::Seed;
use crate::stop::Stop;
use crate::supervise::{Job, Reporter};
use crate::watch::{Queues, Reading, Sample};

const INTERVAL: Duration = Duration::from_secs(2);
const POINTS_MAX: usize = 900;

#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    points: VecDeque<Point>,
    last: Option<Arc<Sample>>,
}

/// A point of every chart.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Point {
    /// In unix seconds.
    pub at: f64,
    pub admitted_per_second: f64,
    pub refused_per_second: f64,
    pub usd_per_minute: f64,
    pub usd_saved: f64,
    pub hit_rate: Option<f64>,
    pub oldest_age_s: f64,
}

impl History {
    /// Those after this time, in unix seconds, and the last sample.
    pub fn since(&self, at: f64) -> (Vec<Point>, Option<Arc<Sample>>) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.points.iter().filter(|point| point.at > at).copied().collect(), kept.last.clone())
    }

    fn add(&self, sample: Sample) {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let number = |text: &str| text.parse().unwrap_or(0.0);
        let oldest_ms = sample.queues.iter().map(|queue| queue.oldest_age_ms).max().unwrap_or(0);
        let point = Point {
            at,
            admitted_per_second: sample.rates.iter().map(|rate| rate.admitted_per_second).sum(),
            refused_per_second: sample.rates.iter().map(|rate| rate.refused_per_second).sum(),
            usd_per_minute: number(&sample.usd_per_minute),
            usd_saved: number(&sample.usd_saved),
            hit_rate: sample.hit_rate,
            oldest_age_s: oldest_ms as f64 / 1_000.0,
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.points.len() == POINTS_MAX {
            kept.points.pop_front();
        }
        kept.points.push_back(point);
        kept.last = Some(Arc::new(sample));
    }

    /// What fills it.
    pub fn job(&self, seed: &Seed) -> Job {
        let (history, seed) = (self.clone(), seed.clone());
        Box::new(move |stop: &Stop, reporter: &Reporter| {
            let (mut fleet, mut queues) = (Fleet::new(seed.clone()), Queues::in_passing());
            let mut before = Reading::take(&mut fleet, &mut queues)?;
            while !stop.pause(INTERVAL) {
                let now = Reading::take(&mut fleet, &mut queues)?;
                history.add(Sample::new(&before, &now));
                before = now;
                reporter.well();
            }
            Ok(())
        })
    }
}
