//! The tables at the end.

use crate::audit::{Check, total_cost};
use crate::gateway::Journey;
use crate::latency::{Quantiles, Trip};
use crate::replay::Run;
use crate::text::grouped;
use crate::workload::Workload;
use std::fmt::Write;
use std::time::Duration;

/// The outcomes of the requests, and the latencies.
pub fn tables(workload: &Workload, run: &Run) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = outcomes(&mut text, workload, run);
    let _ = latencies(&mut text, run);
    text
}

fn outcomes(text: &mut String, workload: &Workload, run: &Run) -> std::fmt::Result {
    let count = |wanted: fn(&Journey) -> bool| run.journeys.iter().filter(|journey| wanted(journey)).count();
    let total = run.journeys.len();
    let admitted = count(Journey::admitted);
    let rows = [
        ("requests", total),
        ("  admitted", admitted),
        ("    answered from the cache", count(|journey| journey.admitted() && journey.cached)),
        ("    answered by the model", count(Journey::answered_by_model)),
        ("  refused, by one policy or more", total - admitted),
        ("    limited by requests a minute", count(|journey| !journey.admission.reply.requests.allowed)),
        ("    limited by tokens a minute", count(|journey| !journey.admission.reply.tokens.allowed)),
        ("    limited by requests in flight", count(|journey| !journey.admission.reply.in_flight.allowed)),
        ("    over budget", count(|journey| !journey.admission.reply.budget.allowed)),
        ("log records in", admitted),
        ("log records out", run.records.len()),
    ];
    writeln!(text)?;
    for (name, count) in rows {
        writeln!(text, "{name:<36}{:>10}{:>8.1} %", grouped(count), percent(count, total))?;
    }
    writeln!(text, "{:<36}{:>10} USD", "total cost", total_cost(workload, run))
}

fn latencies(text: &mut String, run: &Run) -> std::fmt::Result {
    let commands: u64 = Trip::ALL.iter().map(|&trip| trip.commands() * run.latencies.trip(trip).count).sum();
    let per_second = commands as f64 / run.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let header = ("count", "p50 us", "p99 us", "max us");
    writeln!(text, "\n{:<36}{:>10}{:>10}{:>10}{:>10}", "", header.0, header.1, header.2, header.3)?;
    let mut row = |name: &str, quantiles: Quantiles| {
        let [p50, p99, max] = [quantiles.p50, quantiles.p99, quantiles.max].map(micros);
        writeln!(text, "{name:<36}{:>10}{p50:>10}{p99:>10}{max:>10}", grouped(quantiles.count as usize))
    };
    for trip in Trip::ALL {
        row(trip.name(), run.latencies.trip(trip))?;
    }
    row("a request, without the model's time", run.latencies.requests())?;
    let late = run.journeys.iter().map(|journey| journey.late).max().unwrap_or_default();
    writeln!(
        text,
        "\n{} commands in {:.1?}, {} a second as the requests came; none began later than {} us after its time",
        grouped(commands as usize),
        run.elapsed,
        grouped(per_second as usize),
        micros(late),
    )
}

/// One line a check.
pub fn checks(checks: &[Check]) -> String {
    let line = |Check { name, result }: &Check| match result {
        Ok(detail) => format!("ok    {name}: {detail}\n"),
        Err(error) => format!("WRONG {name}: {error:#}\n"),
    };
    checks.iter().map(line).collect()
}

fn percent(count: usize, total: usize) -> f64 {
    100.0 * count as f64 / total.max(1) as f64
}

fn micros(duration: Duration) -> String {
    grouped(duration.as_micros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_shows_its_reason() {
        let list = [
            Check { name: "sums", result: Ok("1 is 1".into()) },
            Check { name: "records", result: Err(anyhow::anyhow!("3 are left")) },
        ];
        assert_eq!(checks(&list), "ok    sums: 1 is 1\nWRONG records: 3 are left\n");
    }
}
