//! What a process has used, by the word of the kernel.

use std::fs;
use std::process::Child;

/// Ticks of /proc in a second, on every Linux that matters.
pub const TICKS: f64 = 100.0;

#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Processor time in user and in system mode, of all threads, in seconds.
    pub cpu_s: f64,
    /// The most memory that it has had at once, in MB.
    pub peak_mb: f64,
}

impl Usage {
    /// Of a process that was not waited for yet.
    pub fn of(process: &Child) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", process.id())).unwrap_or_default();
        let (stat, status) = (read("stat"), read("status"));
        // Behind the name, which may have spaces: the 12th and 13th field.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak_kb = peak.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        Self { cpu_s: ticks / TICKS, peak_mb: peak_kb.unwrap_or_default() / 1_024.0 }
    }
}
