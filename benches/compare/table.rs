//! The results as Markdown.

use crate::case::Group;
use crate::guest;
use crate::instructions::Count;
use crate::latency::{KEYS, Latencies, Latency};
use crate::measure::{PIPELINES, Sample, Samples};
use crate::memory::Footprint;
use crate::persistent::Cost;
use crate::queue::{Report, Snapshot, Times};
use crate::stalls::Stall;
use crate::statistics::{Spread, median, ratio, spread};

/// Throughput and CPU time of each case.
pub fn throughput(measured: &[(Group, Samples)]) -> String {
    let mut text = String::from(
        "| command | -P 1, requests/s | -P 16, requests/s | server CPU, us per command | in the command, us |\n\
         |---|---:|---:|---:|---:|\n",
    );
    let mut seen = Vec::new();
    for (group, samples) in measured {
        for case in &group.cases {
            // SET is the reference in several groups.
            if seen.contains(&case.name) {
                continue;
            }
            seen.push(case.name);
            let of = |pipeline, value: fn(&Sample) -> f64| median(samples.of(case.name, pipeline).iter().map(value));
            let rates = PIPELINES.map(|pipeline| thousands(of(pipeline, |sample| sample.requests_per_s)));
            let (cpu_us, call_us) = (of(16, |sample| sample.cpu_us), of(16, |sample| sample.call_us));
            text += &format!("| {} | {} | {cpu_us:.2} | {call_us:.2} |\n", case.name, rates.join(" | "));
        }
    }
    text
}

/// For each pair, how many times as fast the candidate is, and whether that is enough.
pub fn ratios(measured: &[(Group, Samples)]) -> String {
    let mut text = String::from(
        "| command | against | throughput at -P 1 | throughput at -P 16 | CPU at -P 16 | bar at -P 16 | |\n\
         |---|---|---:|---:|---:|---:|---|\n",
    );
    for (group, samples) in measured {
        for pair in &group.pairs {
            let of = |pipeline| (samples.of(pair.candidate, pipeline), samples.of(pair.reference, pipeline));
            let [one, sixteen] = PIPELINES.map(|pipeline| {
                let (candidate, reference) = of(pipeline);
                ratio(candidate, reference, |sample| sample.requests_per_s)
            });
            let (candidate, reference) = of(16);
            // The inverse ratio: less time is better.
            let cpu = ratio(reference, candidate, |sample| sample.cpu_us);
            let (bar, verdict) = match pair.bar {
                Some(bar) => (format!("{bar}"), if sixteen.median >= bar { "pass" } else { "FAIL" }),
                None => Default::default(),
            };
            let [one, sixteen, cpu] = [one, sixteen, cpu].map(|ratio| range(ratio, 2));
            text += &format!(
                "| {} | {} | {one} | {sixteen} | {cpu} | {bar} | {verdict} |\n",
                pair.candidate, pair.reference
            );
        }
    }
    text
}

/// The bytes of each kind of value.
pub fn memory(footprints: &[Footprint]) -> String {
    let mut text = String::from(
        "| value | MEMORY USAGE, bytes | used_memory, bytes | bar | |\n\
         |---|---:|---:|---:|---|\n",
    );
    for Footprint { name, usage, used, bar } in footprints {
        let (bar, verdict) = match bar {
            Some(bar) => (format!("{bar}"), if *usage <= *bar as f64 { "pass" } else { "FAIL" }),
            None => Default::default(),
        };
        text += &format!("| {name} | {} | {} | {bar} | {verdict} |\n", thousands(*usage), thousands(*used));
    }
    text
}

/// Percentiles of each command, with few keys and with many, and their ratio.
pub fn latency(measured: &[Latencies]) -> String {
    const COLUMNS: [fn(&Latency) -> f64; 4] =
        [|run| run.p50_us, |run| run.p99_us, |run| run.p999_us, |run| run.call_p999_us];
    let mut text = String::from(
        "| command | keys | p50, us | p99, us | p99.9, us | p99.9 in the command, us |\n\
         |---|---:|---:|---:|---:|---:|\n",
    );
    for Latencies { name, runs: [few, many] } in measured {
        let mut row = |title: String, columns: [String; COLUMNS.len()]| {
            text += &format!("| {name} | {title} | {} |\n", columns.join(" | "));
        };
        for (keys, runs) in KEYS.into_iter().zip([few, many]) {
            row(thousands(keys as f64), COLUMNS.map(|of| range(spread(runs.iter().map(of)), 0)));
        }
        let ratios = |of: fn(&Latency) -> f64| many.iter().zip(few).map(move |(many, few)| of(many) / of(few));
        row("ratio".into(), COLUMNS.map(|of| range(spread(ratios(of)), 2)));
    }
    text
}

/// The times of each command, and the other figures of the queue.
pub fn queue(report: &Report) -> String {
    let mut text = String::from(
        "| command | calls | p50, us | p99.99, us | longest, us |\n\
         |---|---:|---:|---:|---:|\n",
    );
    for Times { name, calls, p50_us, p9999_us, max_us } in &report.times {
        text += &format!("| {name} | {} | {p50_us} | {p9999_us} | {max_us} |\n", thousands(*calls as f64));
    }
    let Report { record_bytes, snapshots, .. } = report;
    text += &format!("\nMEMORY USAGE per record: {record_bytes:.0} bytes.\n\n");
    for Snapshot { took, records_per_s, copied, popped } in snapshots {
        text += &format!(
            "A BGSAVE while {} records a second were pushed and popped took {:.1} s and copied {:.1} % of the server's \
             memory; {:.1} % of the queue were popped meanwhile.\n",
            thousands(records_per_s.round()),
            took.as_secs_f64(),
            copied * 100.0,
            popped * 100.0
        );
    }
    text
}

/// For each deletion, how long another client waited, and how long it waits without one.
pub fn stalls(measured: &[Stall]) -> String {
    let mut text = String::from(
        "| deletion | reply, ms | all freed, s | PING p99.9, ms | with nothing | longest PING, ms | with nothing |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
    );
    for Stall { name, reply_ms, freed_s, meanwhile_ms, idle_ms } in measured {
        let waits = meanwhile_ms.iter().zip(idle_ms).map(|(&meanwhile, &idle)| [range(meanwhile, 2), range(idle, 2)]);
        let waits = waits.flatten().collect::<Vec<_>>().join(" | ");
        text += &format!("| {name} | {} | {} | {waits} |\n", range(*reply_ms, 2), range(*freed_s, 1));
    }
    text
}

pub fn persistent(costs: &[Cost]) -> String {
    let mut text = String::from(
        "| command | requests/s | primary, us | replica, us | bytes to a replica | bytes in the file |\n\
         |---|---:|---:|---:|---:|---:|\n",
    );
    for Cost { name, requests_per_s, primary_us, replica_us, wire_bytes, aof_bytes } in costs {
        text += &format!(
            "| {name} | {} | {} | {} | {:.0} | {:.0} |\n",
            thousands(requests_per_s.median),
            range(*primary_us, 2),
            range(*replica_us, 2),
            wire_bytes.median,
            aof_bytes.median,
        );
    }
    text
}

/// The instructions of each case, and, if SET was counted, SET's as a multiple of them.
pub fn instructions(counted: &[Count]) -> String {
    let mut text = String::from("| command | instructions | SET / command |\n|---|---:|---:|\n");
    let set = counted.iter().find(|count| count.name == "SET").map(|count| count.instructions);
    for &Count { name, instructions } in counted {
        let ratio = set.map(|set| format!("{:.2}", set / instructions)).unwrap_or_default();
        text += &format!("| {name} | {} | {ratio} |\n", thousands(instructions));
    }
    text
}

/// Each command on servers with the module, compared with itself on the one without.
pub fn guest(measured: &[Samples; 3]) -> String {
    let [_, with, following] = guest::SERVERS;
    let mut text = format!(
        "| command | throughput {with}, -P 1 | -P 16 | CPU, -P 16 | throughput {following}, -P 1 | -P 16 | CPU, -P 16 |\n\
         |---|---:|---:|---:|---:|---:|---:|\n"
    );
    let [without, rest @ ..] = measured;
    for case in guest::group().cases {
        let columns = rest.iter().flat_map(|samples| {
            let of = |pipeline| (samples.of(case.name, pipeline), without.of(case.name, pipeline));
            let [one, sixteen] = PIPELINES.map(|pipeline| {
                let (candidate, reference) = of(pipeline);
                ratio(candidate, reference, |sample| sample.requests_per_s)
            });
            let (candidate, reference) = of(16);
            [one, sixteen, ratio(reference, candidate, |sample| sample.cpu_us)].map(|ratio| range(ratio, 2))
        });
        text += &format!("| {} | {} |\n", case.name, columns.collect::<Vec<_>>().join(" | "));
    }
    text
}

/// The same, in instructions.
pub fn guest_instructions(counted: &[Vec<Count>; 3]) -> String {
    let mut text =
        format!("| command | {} | ratio | ratio |\n|---|---:|---:|---:|---:|---:|\n", guest::SERVERS.join(" | "));
    for (name, [without, with, following]) in guest::by_command(counted) {
        let columns = [without, with, following].map(thousands).join(" | ");
        text += &format!("| {name} | {columns} | {:.3} | {:.3} |\n", with / without, following / without);
    }
    text
}

fn range(spread: Spread, decimals: usize) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.decimals$} ({min:.decimals$} - {max:.decimals$})")
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
