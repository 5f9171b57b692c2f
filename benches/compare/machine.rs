//! The machine of the measurement.

use crate::generator::Generator;
use gw_testkit::Server;

/// A few words on the machine and the programs.
pub fn description(server: &Server, generator: &Generator) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}, {cores} cores, {}; {}; {}; load average {} at the start",
        cpu_model().unwrap_or_else(|| "unknown CPU".into()),
        kernel().unwrap_or_else(|| std::env::consts::OS.into()),
        server.binary(),
        generator.version,
        load_average().unwrap_or_else(|| "unknown".into()),
    )
}

fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'))?.1;
    Some(model.trim().to_owned())
}

fn kernel() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(format!("Linux {}", release.trim()))
}

/// The load average of the last minute. If it is well above zero, other processes have influenced the figures.
fn load_average() -> Option<String> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next().map(str::to_owned)
}
