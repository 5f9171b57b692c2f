//! The tables, in the form of the documentation.

use super::figures::{Figures, shares};
use super::plan::{Load, Plan};
use super::run::{By, Run};
use crate::text::grouped;
use std::fmt::Write;
use std::time::Duration;

/// What the runs of a load have come to, a row each.
pub fn comparison(plan: &Plan, runs: &[(By, Run)]) -> String {
    let rows = runs.iter().map(|(by, run)| (by.name(), run.calls.len(), Figures::new(plan, run)));
    let rows: Vec<(&str, usize, Figures)> = rows.collect();
    let mut text = limits(&rows);
    if plan.load == Load::Full {
        text += "\n";
        text += &outages(plan, &rows);
    }
    text
}

fn limits(rows: &[(&str, usize, Figures)]) -> String {
    let mut text = String::from(
        "| routed by | calls | utilisation | calls above a limit | by fixed windows | fullest window | p50, ms | p99, ms |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for (name, calls, figures) in rows {
        let [calls, above, above_fixed] = [*calls, figures.above, figures.above_fixed].map(grouped);
        let [utilisation, fullest] = [figures.utilisation, figures.fullest].map(|part| 100.0 * part);
        let [p50, p99] = [figures.p50, figures.p99].map(millis);
        let _ = writeln!(
            text,
            "| {name} | {calls} | {utilisation:.1} % | {above} | {above_fixed} | {fullest:.1} % | {p50} | {p99} |"
        );
    }
    let longest = rows.iter().map(|(.., figures)| figures.longest_way).max().unwrap_or_default();
    let _ = writeln!(text, "\nThe longest way from the question to the deployment took {} ms.", millis(longest));
    text
}

fn outages(plan: &Plan, rows: &[(&str, usize, Figures)]) -> String {
    let failing: Vec<&str> = plan.fleet.iter().filter(|it| it.outage.is_some()).map(|it| it.name).collect();
    let mut text = String::from("| routed by |");
    for name in &failing {
        let _ = write!(text, " {name}: failed calls until left alone | in all | back after, ms |");
    }
    let _ = writeln!(text, "\n|---|{}", "---:|".repeat(3 * failing.len()));
    for (name, _, figures) in rows {
        let _ = write!(text, "| {name} |");
        for outage in &figures.outages {
            let back_after = outage.back_after.map_or("never".into(), millis);
            let _ = write!(text, " {} | {} | {back_after} |", outage.first_calls, grouped(outage.calls));
        }
        let _ = writeln!(text);
    }
    text
}

/// Each deployment's part of the tokens over time.
pub fn shares_over_time(plan: &Plan, run: &Run) -> String {
    let shares = shares(plan, run);
    let slot = plan.window / 2;
    let slots = shares.first().map_or(0, Vec::len);
    let mut text = String::from("| deployment | of the limits |");
    for number in 0..slots {
        let _ = write!(text, " {} s |", (slot * number as u32).as_secs_f64());
    }
    let _ = writeln!(text, "\n|---|---:|{}", "---:|".repeat(slots));
    let limits: u64 = plan.fleet.iter().map(|deployment| deployment.tokens).sum();
    for (deployment, shares) in plan.fleet.iter().zip(&shares) {
        let of_limits = 100.0 * deployment.tokens as f64 / limits as f64;
        let _ = write!(text, "| {} | {of_limits:.0} % |", deployment.name);
        for share in shares {
            let _ = write!(text, " {:.0} |", 100.0 * share);
        }
        let _ = writeln!(text);
    }
    text
}

fn millis(time: Duration) -> String {
    grouped(time.as_millis() as usize)
}
