//! When requests arrive and how many tokens they take: read from a trace, or generated in the same shape.

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use jiff::civil::DateTime;
use std::f64::consts::{PI, TAU};
use std::time::Duration;

/// One request of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The time since the first request.
    pub at: Duration,
    pub context_tokens: u32,
    pub generated_tokens: u32,
}

const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens";

/// Reads a trace in the CSV form in which Azure publishes its LLM inference traces, one request a line after the
/// header: `2023-11-16 18:15:46.6805900,374,44`. The requests are returned in the order of their times.
///
/// # Errors
/// The mistake, with its line. A trace without requests is an error, too.
pub fn parse(text: &str) -> Result<Vec<Arrival>> {
    let mut lines = text.lines().enumerate();
    match lines.next() {
        Some((_, header)) if header.trim() == HEADER => {}
        _ => bail!("the first line is not {HEADER}"),
    }
    let mut rows = lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| parse_row(line).with_context(|| format!("line {}: {line}", index + 1)))
        .collect::<Result<Vec<_>>>()?;
    rows.sort_by_key(|&(time, ..)| time);
    let Some(&(first, ..)) = rows.first() else { bail!("the trace has no requests") };
    let arrival = |(time, context_tokens, generated_tokens): (DateTime, u32, u32)| Arrival {
        // Never negative after the sort.
        at: time.duration_since(first).unsigned_abs(),
        context_tokens,
        generated_tokens,
    };
    Ok(rows.into_iter().map(arrival).collect())
}

fn parse_row(line: &str) -> Result<(DateTime, u32, u32)> {
    let mut fields = line.trim().split(',');
    let mut next = |name: &str| fields.next().with_context(|| format!("no {name}"));
    let time = next("TIMESTAMP")?.parse().context("TIMESTAMP")?;
    let context_tokens = next("ContextTokens")?.parse().context("ContextTokens")?;
    let generated_tokens = next("GeneratedTokens")?.parse().context("GeneratedTokens")?;
    ensure!(fields.next().is_none(), "more than three fields");
    Ok((time, context_tokens, generated_tokens))
}

/// An hour of chat traffic shaped like the conversation trace that Azure published in 2023: random arrivals at a rate
/// that rises to twice its lowest level and falls again, and log-normal token counts with the trace's parameters. The
/// same `seed` gives the same traffic.
pub fn generate(requests: usize, seed: u64) -> Vec<Arrival> {
    const HOUR_S: f64 = 3_600.0;
    let mut rng = Rng::with_seed(seed);
    let mut at_s = 0.0;
    let mut arrivals = Vec::with_capacity(requests);
    for _ in 0..requests {
        arrivals.push(Arrival {
            at: Duration::from_secs_f64(at_s),
            context_tokens: log_normal(&mut rng, 6.63, 0.985, 14_050.0),
            generated_tokens: log_normal(&mut rng, 5.02, 0.859, 1_000.0),
        });
        // From 2/3 to 4/3 of the mean rate, once up and down in the hour; exponential gaps between arrivals.
        let swell = 1.0 - (TAU * at_s / HOUR_S).cos() / 3.0;
        let rate_per_s = requests as f64 / HOUR_S * swell;
        at_s += -(1.0 - rng.f64()).ln() / rate_per_s;
    }
    arrivals
}

/// A token count whose logarithm has this mean and standard deviation: at least 1, at most `max`.
fn log_normal(rng: &mut Rng, mean: f64, deviation: f64, max: f64) -> u32 {
    // Box and Muller: two uniform numbers make one normal number.
    let normal = (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (2.0 * PI * rng.f64()).cos();
    (mean + deviation * normal).exp().clamp(1.0, max).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> String {
        format!("{:#}", parse(text).unwrap_err())
    }

    #[test]
    fn rows_become_arrivals_in_the_order_of_time() {
        let text = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n\
                    2023-11-16 18:15:46.6805900,374,44\r\n\
                    2023-11-16 18:15:50.9951690,396,109\r\n\
                    2023-11-16 18:15:46.6805901,1,2";
        let expected = [(0, 374, 44), (100, 1, 2), (4_314_579_000, 396, 109)].map(|(nanos, context, generated)| {
            Arrival { at: Duration::from_nanos(nanos), context_tokens: context, generated_tokens: generated }
        });
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn errors_name_the_line_and_the_field() {
        let with = |row: &str| error_of(&format!("{HEADER}\n2023-11-16 18:15:46,1,1\n{row}\n"));
        assert!(with("2023-11-16 18:15:46,1").starts_with("line 3: 2023-11-16 18:15:46,1: no GeneratedTokens"));
        assert!(with("2023-11-16 18:15:46,1,-1").contains("line 3") && with("2023-13-16,1,1").contains("TIMESTAMP"));
        assert!(with("2023-11-16 18:15:46,1.5,1").contains("ContextTokens"));
        assert!(with("2023-11-16 18:15:46,1,1,1").contains("more than three fields"));
        assert!(error_of("").contains("first line"));
        assert!(error_of("a,b,c\n").contains("first line"));
        assert!(error_of(HEADER).contains("no requests"));
    }

    #[test]
    fn generated_traffic_has_the_shape_of_the_trace() {
        let arrivals = generate(20_000, 7);
        assert_eq!(arrivals, generate(20_000, 7));
        assert_ne!(arrivals, generate(20_000, 8));
        assert!(arrivals.windows(2).all(|pair| pair[0].at <= pair[1].at));

        let last_s = arrivals.last().unwrap().at.as_secs_f64();
        assert!((3_300.0..3_900.0).contains(&last_s), "{last_s}");
        let median = |tokens: fn(&Arrival) -> u32| {
            let mut counts: Vec<u32> = arrivals.iter().map(tokens).collect();
            counts.sort_unstable();
            counts[counts.len() / 2]
        };
        // exp(6.63) = 757, exp(5.02) = 151
        assert!((720..800).contains(&median(|arrival| arrival.context_tokens)));
        assert!((143..160).contains(&median(|arrival| arrival.generated_tokens)));
        let in_minutes = |minutes: std::ops::Range<u64>| {
            arrivals.iter().filter(|arrival| minutes.contains(&(arrival.at.as_secs() / 60))).count()
        };
        assert!(in_minutes(25..35) * 10 > in_minutes(0..10) * 15, "no swell in the middle");
    }
}
