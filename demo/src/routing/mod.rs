//! Routing with real connections: clients of a gateway send their calls to eight simulated deployments with unequal limits
//! and speeds, of which two fail in the middle. GW.ROUTE chooses by each of its rules, and beside it counters that the
//! clients keep by themselves, as gateways do it without it.

mod checks;
mod counters;
mod deployments;
mod figures;
mod judge;
mod module;
mod plan;
mod report;
mod router;
mod run;

use crate::clock::Pace;
use crate::report::checks as lines;
use anyhow::{Result, bail};
use plan::{Load, Plan};
use run::{By, run};
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs all of it, and prints the tables.
///
/// # Errors
/// If something that must hold does not, or a run fails.
pub fn simulate(clients: usize, pace: Pace, seed: u64, stop: &AtomicBool) -> Result<()> {
    let mut wrong = 0;
    for load in [Load::Half, Load::Full] {
        let plan = Plan::new(load, clients, pace, seed);
        println!(
            "\n{clients} clients, {} deployments, {} of {:.1?}: windows of {:.1?}, policies of {:.2?}",
            plan.fleet.len(),
            match load {
                Load::Half => "half of what they can serve is asked for, for a time",
                Load::Full => "more than they can serve is asked for, for a time",
            },
            plan.duration,
            plan.window,
            plan.policy_window
        );
        let mut runs = Vec::new();
        for by in By::ALL {
            let run = run(&plan, by, stop)?;
            if stop.load(Ordering::Relaxed) {
                bail!("stopped");
            }
            println!("\n{}: share of the tokens, in %, from each time on\n", by.name());
            println!("{}", report::shares_over_time(&plan, &run));
            if by != By::Counters {
                let checks = checks::checks(&plan, &run);
                wrong += checks.iter().filter(|check| check.result.is_err()).count();
                print!("{}", lines(&checks));
            }
            runs.push((by, run));
        }
        println!("\n{}", report::comparison(&plan, &runs));
    }
    match wrong {
        0 => Ok(()),
        wrong => bail!("{wrong} checks failed"),
    }
}
