//! The names of objects. A batch that is delivered again has the same id, and so the same name: its time is that of the
//! id, when the batch was first leased.

use std::fmt::Write;

use gateway_core::queue::BatchId;
use jiff::Timestamp;

/// A name with places in braces: `{date}`, `{hour}`, `{queue}`, `{batch}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `2026-11-30`, in UTC.
    Date,
    /// `00` to `23`, in UTC.
    Hour,
    /// The queue's key; anything but letters, digits, `-`, `_` and `.` as `%` and two digits.
    Queue,
    Batch,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// If a place is unknown, if a brace has no other, or if two batches could have one name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, place) = rest.split_at(at);
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let (name, after) =
                place.strip_prefix('{').and_then(|place| place.split_once('}')).ok_or("a brace without the other")?;
            parts.push(match name {
                "date" => Part::Date,
                "hour" => Part::Hour,
                "queue" => Part::Queue,
                "batch" => Part::Batch,
                _ => return Err(format!("none of {{date}}, {{hour}}, {{queue}} and {{batch}}: {{{name}}}")),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        for (part, place) in [(Part::Batch, "{batch}"), (Part::Queue, "{queue}")] {
            if !parts.contains(&part) {
                return Err(format!("without {place} two objects would have one name"));
            }
        }
        Ok(Self(parts))
    }

    /// The name of a batch's object.
    pub fn name(&self, queue: &str, batch: &BatchId) -> String {
        let time = i64::try_from(batch.time_us()).ok().and_then(|us| Timestamp::from_microsecond(us).ok());
        // Ids have times up to the year 9999.
        let time = time.unwrap_or(Timestamp::MAX);
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Date => name.push_str(&time.strftime("%Y-%m-%d").to_string()),
                Part::Hour => name.push_str(&time.strftime("%H").to_string()),
                Part::Queue => push_plain(&mut name, queue),
                Part::Batch => name.push_str(&batch.to_string()),
            }
        }
        name
    }
}

fn push_plain(name: &mut String, queue: &str) {
    for byte in queue.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => name.push(char::from(byte)),
            _ => drop(write!(name, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_time_of_the_batch() {
        // 2026-11-30T17:12:06.000001Z
        let batch = BatchId::next(0, 1_796_058_726_000, 7);
        let template = Template::parse("date={date}/hour={hour}/{queue}-{batch}").unwrap();
        let name = template.name("logs:{a}/ü", &batch);
        assert_eq!(name, format!("date=2026-11-30/hour=17/logs%3A%7Ba%7D%2F%C3%BC-{batch}"));
        assert_eq!(Template::parse("{queue}{batch}x").unwrap().name("q", &batch), format!("q{batch}x"));
    }

    #[test]
    fn names_that_would_clash_are_refused() {
        for (text, told) in [
            ("{queue}/{date}", "without {batch}"),
            ("{batch}", "without {queue}"),
            ("{queue}-{batch", "a brace"),
            ("}{queue}-{batch}", "a brace"),
            ("{queue}-{batch}-{Date}", "{Date}"),
            ("", "without {batch}"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
