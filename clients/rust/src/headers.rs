use std::time::{SystemTime, UNIX_EPOCH};

use crate::commands::{Admission, AdmissionRow, Quantity, Verdict};

/// Whose headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFamily {
    /// Those of the IETF draft ratelimit-headers: `RateLimit-Policy` and `RateLimit`.
    Ietf,
    /// `x-ratelimit-limit-requests` and the like.
    OpenAi,
    /// `anthropic-ratelimit-requests-limit` and the like.
    Anthropic,
}

/// What [`verdict_headers`] and [`admission_headers`] may be told.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderOptions<'a> {
    /// The usual names of meters that are called otherwise here, such as `("tpm", "tokens")`.
    pub meters: &'a [(&'a str, &'a str)],
    /// Whose headers are made. Default: all.
    pub families: Option<&'a [HeaderFamily]>,
}

impl HeaderOptions<'_> {
    fn wants(&self, family: HeaderFamily) -> bool {
        self.families.is_none_or(|families| families.contains(&family))
    }
}

/// The names that OpenAI's and Anthropic's headers have for a meter.
fn names_of(meter: &str) -> (Option<&'static str>, Option<&'static str>) {
    match meter {
        "requests" => (Some("requests"), Some("requests")),
        "tokens" => (Some("tokens"), Some("tokens")),
        "input_tokens" => (None, Some("input-tokens")),
        "output_tokens" => (None, Some("output-tokens")),
        _ => (None, None),
    }
}

/// A limit in whole units, as headers tell of it.
#[derive(Clone)]
struct Counted {
    name: String,
    meter: String,
    allowed: bool,
    limit: i64,
    remaining: i64,
    reset_after_ms: i64,
    period_ms: i64,
}

impl Counted {
    /// The order in which a client meets limits.
    fn rank(&self) -> (bool, i64, i64) {
        (self.allowed, self.remaining, -self.reset_after_ms)
    }
}

/// The headers of one limiter, by name. `name` is `requests` for a limit on requests, and `tokens` for one on tokens; `period_ms` is
/// the window, or the period of a bucket's rate.
pub fn verdict_headers(
    name: &str,
    verdict: &Verdict,
    period_ms: i64,
    now: SystemTime,
    options: &HeaderOptions<'_>,
) -> Vec<(String, String)> {
    let limit = Counted {
        name: name.to_owned(),
        meter: name.to_owned(),
        allowed: verdict.allowed,
        limit: verdict.limit,
        remaining: verdict.remaining,
        reset_after_ms: verdict.reset_after_ms,
        period_ms,
    };
    headers(&[limit], now, options, retry_after(verdict.allowed, verdict.retry_after_ms))
}

/// The headers of a decision with ROWS DETAIL, by name.
///
/// They tell of windows and buckets that count whole units. If several count one meter, OpenAI's and Anthropic's headers tell of the
/// one that a client meets first. Budgets are left out, since their amounts are decimals.
pub fn admission_headers(admission: &Admission, now: SystemTime, options: &HeaderOptions<'_>) -> Vec<(String, String)> {
    let limits: Vec<_> = admission.rows.iter().filter_map(|row| counted(row, admission.admitted, options)).collect();
    headers(&limits, now, options, retry_after(admission.admitted, admission.retry_after_ms))
}

fn counted(row: &AdmissionRow, admitted: bool, options: &HeaderOptions<'_>) -> Option<Counted> {
    let kind = row.kind.as_ref()?;
    if kind != "WINDOW" && kind != "BUCKET" || row.reset_after_ms < 0 {
        return None;
    }
    if admitted && !row.allowed {
        return None; // The policy is in SHADOW: it refuses nobody.
    }
    let (Quantity::Whole(limit), Quantity::Whole(remaining)) = (row.limit, row.remaining) else { return None };
    let meter = row.meter.as_ref()?.to_string();
    let usual = options.meters.iter().find(|(own, _)| *own == meter).map(|(_, usual)| (*usual).to_owned());
    Some(Counted {
        name: row.policy.to_string(),
        meter: usual.unwrap_or(meter),
        allowed: row.allowed,
        limit,
        remaining,
        reset_after_ms: row.reset_after_ms,
        period_ms: row.period_ms?,
    })
}

/// None if waiting does not help.
fn retry_after(allowed: bool, retry_after_ms: i64) -> Option<i64> {
    (!allowed && retry_after_ms >= 0).then(|| seconds(retry_after_ms))
}

/// Of each name the limit that a client meets first, in the order in which the names came.
fn tightest(limits: &[Counted], name_of: fn(&Counted) -> &str) -> Vec<&Counted> {
    let mut found: Vec<&Counted> = Vec::new();
    for limit in limits {
        match found.iter_mut().find(|other| name_of(other) == name_of(limit)) {
            Some(other) if limit.rank() < other.rank() => *other = limit,
            Some(_) => {}
            None => found.push(limit),
        }
    }
    found
}

fn headers(
    limits: &[Counted],
    now: SystemTime,
    options: &HeaderOptions<'_>,
    retry_after: Option<i64>,
) -> Vec<(String, String)> {
    let mut made = Vec::new();
    if options.wants(HeaderFamily::Ietf) && !limits.is_empty() {
        let (mut policies, mut states) = (Vec::new(), Vec::new());
        for one in tightest(limits, |limit| &limit.name) {
            let name = quoted(&one.name);
            policies.push(format!("{name};q={};w={}", one.limit, seconds(one.period_ms)));
            states.push(format!("{name};r={};t={}", one.remaining, seconds(one.reset_after_ms)));
        }
        made.push(("RateLimit-Policy".to_owned(), policies.join(", ")));
        made.push(("RateLimit".to_owned(), states.join(", ")));
    }
    let now_ms = now.duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis() as i64);
    for one in tightest(limits, |limit| &limit.meter) {
        let (open_ai, anthropic) = names_of(&one.meter);
        if let Some(name) = open_ai.filter(|_| options.wants(HeaderFamily::OpenAi)) {
            made.push((format!("x-ratelimit-limit-{name}"), one.limit.to_string()));
            made.push((format!("x-ratelimit-remaining-{name}"), one.remaining.to_string()));
            made.push((format!("x-ratelimit-reset-{name}"), duration(one.reset_after_ms)));
        }
        if let Some(name) = anthropic.filter(|_| options.wants(HeaderFamily::Anthropic)) {
            made.push((format!("anthropic-ratelimit-{name}-limit"), one.limit.to_string()));
            made.push((format!("anthropic-ratelimit-{name}-remaining"), one.remaining.to_string()));
            made.push((format!("anthropic-ratelimit-{name}-reset"), timestamp(now_ms + one.reset_after_ms)));
        }
    }
    made.extend(retry_after.map(|seconds| ("Retry-After".to_owned(), seconds.to_string())));
    made
}

/// A string of RFC 9651, which has printable ASCII alone.
fn quoted(name: &str) -> String {
    let mut made = String::from("\"");
    for letter in name.chars() {
        if letter == '\\' || letter == '"' {
            made.push('\\');
        }
        made.push(if (' '..='~').contains(&letter) { letter } else { '?' });
    }
    made.push('"');
    made
}

/// Rounded up: a client that waits so long is admitted.
fn seconds(ms: i64) -> i64 {
    (ms + 999) / 1000
}

/// A time as OpenAI writes it: `1h2m3.5s`.
fn duration(ms: i64) -> String {
    if ms > 0 && ms < 1000 {
        return format!("{ms}ms");
    }
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    let mut made = String::new();
    if hours > 0 {
        made.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        made.push_str(&format!("{minutes}m"));
    }
    let fraction = format!("{:03}", ms % 1000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    made + &format!("{}{point}{fraction}s", ms / 1000 % 60)
}

/// A time as RFC 3339 has it, with milliseconds.
fn timestamp(unix_ms: i64) -> String {
    let (days, ms) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000));
    // Howard Hinnant's days_to_civil: eras of 400 years, which begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}
