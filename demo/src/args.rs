//! The command line.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::path::PathBuf;

/// Replays a gateway's traffic over real connections against a private server with the module loaded, and checks every
/// answer. Exits with 1 and the reason if a check fails.
#[derive(Debug, Parser)]
#[command(name = "gw-demo", after_help = AFTER_HELP)]
pub struct Args {
    /// CSV file to replay, with the columns TIMESTAMP,ContextTokens,GeneratedTokens; empty: traffic is generated
    #[arg(long, env = "TRACE", default_value = "", hide_default_value = true)]
    trace: String,

    /// How many times as fast as in the trace, from 0.1 to 6000; auto: so fast that it takes about 25 s, or with --routing 1
    #[arg(long, env = "SPEED", default_value = "auto", value_parser = parse_speed)]
    pub speed: Speed,

    /// Connections at once; 48, or with --routing 200
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub connections: Option<u16>,

    /// Requests to generate if no trace is given
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub requests: u32,

    /// A different seed gives different traffic
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// The companion's executable: it shows the replay in its console meanwhile
    #[arg(long, value_name = "GW", conflicts_with_all = ["top", "routing"])]
    pub watch: Option<PathBuf>,

    /// The console's port on 127.0.0.1
    #[arg(long, env = "CONSOLE", value_name = "PORT", default_value_t = 9464, value_parser = clap::value_parser!(u16).range(1..))]
    pub console: u16,

    /// Instead of the replay: give the requests to 10,000 keys, and print how many of the heaviest GW.TOP would find
    #[arg(long)]
    pub top: bool,

    /// Instead of the replay: route calls to simulated deployments, by GW.ROUTE and by counters that clients keep, and print
    /// how well each does
    #[arg(long, conflicts_with = "top")]
    pub routing: bool,
}

const AFTER_HELP: &str = "\
Limits are per minute of the trace: at 100 times the speed, their windows are 0.6 s long.
GW_SERVER chooses another server than the redis-server on the PATH; GW_MODULE another build of the module.";

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    Auto,
    Times(f64),
}

impl Args {
    pub fn trace(&self) -> Option<PathBuf> {
        // `make demo` passes an empty TRACE if there is none.
        (!self.trace.is_empty()).then(|| self.trace.clone().into())
    }
}

fn parse_speed(text: &str) -> Result<Speed> {
    if text.is_empty() || text.eq_ignore_ascii_case("auto") {
        return Ok(Speed::Auto);
    }
    let times: f64 = text.parse().context("neither a number nor auto")?;
    ensure!((0.1..=6_000.0).contains(&times), "not from 0.1 to 6000");
    Ok(Speed::Times(times))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declaration_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn speeds_have_bounds() {
        assert_eq!(parse_speed("").unwrap(), Speed::Auto);
        assert_eq!(parse_speed("AUTO").unwrap(), Speed::Auto);
        assert_eq!(parse_speed("144").unwrap(), Speed::Times(144.0));
        for text in ["0", "-1", "NaN", "inf", "6001", "fast"] {
            assert!(parse_speed(text).is_err(), "{text}");
        }
    }
}
