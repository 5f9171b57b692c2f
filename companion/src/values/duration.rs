//! Durations as people write them: `500ms`, `30s`, `10m`, `1h`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

/// Reads a duration: an integer with a unit.
fn parse(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (count, unit) = text.split_at(digits);
    let count: u64 = count.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    count.checked_mul(ms).map(Duration::from_millis)
}

fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected = || de::Error::custom(format!("not a duration such as 500ms, 30s, 10m or 1h: {text:?}"));
    parse(&text).ok_or_else(expected)
}

/// A duration of a configuration, with its place there: for `deserialize_with`.
pub fn spanned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Spanned<Duration>, D::Error> {
    #[derive(Deserialize)]
    struct Written(#[serde(deserialize_with = "deserialize")] Duration);
    let written = Spanned::<Written>::deserialize(deserializer)?;
    let span = written.span();
    Ok(Spanned::new(span, written.into_inner().0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("30s", 30_000), ("10m", 600_000), ("2h", 7_200_000)] {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "1.5s", "-1s", "1 s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
