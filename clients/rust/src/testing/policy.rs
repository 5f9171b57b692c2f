//! Policies, and what each has counted.

use serde_json::{Map, Value as Json};

use super::dates::period_of;
use super::limits::{Bucket, Window};
use super::words::{Done, MOST, Words, missing, refused, unsigned};
use crate::commands::Period;
use crate::{Amount, Text};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Window,
    Bucket,
    InFlight,
    Budget(Period),
    Block,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Window => "WINDOW",
            Self::Bucket => "BUCKET",
            Self::InFlight => "INFLIGHT",
            Self::Budget(_) => "BUDGET",
            Self::Block => "BLOCK",
        }
    }
}

pub(super) struct Policy {
    pub(super) name: Text,
    pub(super) kind: Kind,
    pub(super) meter: Text,
    /// Of a bucket it is the burst.
    pub(super) limit: Amount,
    rate: Amount,
    pub(super) per_ms: i64,
    /// Of what is in flight.
    pub(super) most: i64,
    /// Until when it blocks; none is for ever.
    pub(super) until: Option<i64>,
    pub(super) shadow: bool,
    /// It counts billionths, not whole units.
    billionths: bool,
    pub(super) fixed: bool,
    pub(super) window: Window,
    bucket: Option<Bucket>,
}

impl Policy {
    /// The least that it counts.
    pub(super) fn unit(&self) -> Amount {
        self.units(Amount::from_trillionths(1).unwrap_or_default())
    }

    /// Whole units, or billionths: rounded up.
    pub(super) fn units(&self, value: Amount) -> Amount {
        let unit = if self.billionths { 1_000 } else { 1_000_000_000_000 };
        let value = value.trillionths();
        let up = value.div_euclid(unit) + i128::from(value.rem_euclid(unit) > 0);
        // The largest amount is a whole one.
        Amount::from_trillionths(up * unit).unwrap_or_default()
    }

    /// Whether what it tells is a decimal.
    pub(super) fn is_decimal(&self) -> bool {
        self.billionths || matches!(self.kind, Kind::Budget(_))
    }

    // A bucket's numbers.

    pub(super) fn rate(&self) -> i128 {
        self.rate.trillionths() / 1_000
    }

    pub(super) fn parts(&self, units: Amount) -> i128 {
        units.trillionths() / 1_000 * i128::from(self.per_ms)
    }

    fn full(&self) -> i128 {
        self.parts(self.limit)
    }

    /// The bucket as it is now.
    pub(super) fn flown(&mut self, now: i64) -> &mut Bucket {
        let (rate, full) = (self.rate(), self.full());
        let own = self.bucket.get_or_insert(Bucket::new(full, now));
        own.flow(now, rate, full);
        own
    }

    /// Adds to what a window or bucket has counted, or takes from it.
    pub(super) fn count(&mut self, amount: Amount, at: i64, now: i64) {
        let units = self.units(amount);
        match self.kind {
            Kind::Window => self.window.take(at, units, self.fixed),
            Kind::Bucket => {
                let cost = self.parts(units);
                self.flown(now).take(cost);
            }
            _ => {}
        }
    }

    /// Goes on with what another has counted, if it counts the same.
    pub(super) fn inherit(&mut self, old: &mut Self) {
        let alike = std::mem::discriminant(&self.kind) == std::mem::discriminant(&old.kind);
        if alike && self.meter == old.meter && self.billionths == old.billionths {
            self.window = std::mem::take(&mut old.window);
            self.bucket = old.bucket.take();
        }
    }

    pub(super) fn of_words(name: Text, words: &mut Words, now: i64) -> Done<Self> {
        let word = words.option()?;
        let zero = Amount::ZERO;
        let mut made = Self {
            name,
            kind: Kind::Block,
            meter: Text::default(),
            limit: zero,
            rate: zero,
            per_ms: 0,
            most: 0,
            until: None,
            shadow: false,
            billionths: false,
            fixed: false,
            window: Window::default(),
            bucket: None,
        };
        match word.as_str() {
            "WINDOW" => {
                made.kind = Kind::Window;
                made.limit = unsigned(&words.take("limit")?, "limit")?;
            }
            "BUCKET" => {
                made.kind = Kind::Bucket;
                made.rate = unsigned(&words.take("rate")?, "rate")?;
                made.limit = unsigned(&words.take("burst")?, "burst")?;
            }
            "INFLIGHT" => {
                made.kind = Kind::InFlight;
                made.most = words.integer("max", 0..=MOST)?;
            }
            "BUDGET" => {
                made.limit = words.amount("amount")?;
                let period = words.option()?;
                match period_of(&period) {
                    Some(period) => made.kind = Kind::Budget(period),
                    None => return refused("not DAY, WEEK, MONTH or TOTAL", period),
                }
                made.meter = "usd".into();
            }
            "BLOCK" => {}
            _ => return missing(format!("policy of the kind {word}")),
        }
        let counts = matches!(made.kind, Kind::Window | Kind::Bucket);
        if counts {
            made.meter = "requests".into();
        }
        while let Some(option) = words.next_option() {
            match option.as_str() {
                "PER" => made.per_ms = words.time(&option)?,
                "METER" => made.meter = words.name(&option, 64)?,
                "DECIMAL" => made.billionths = true,
                "FIXED" => made.fixed = true,
                "SHADOW" => made.shadow = true,
                "SOFT" => drop(words.integer(&option, 1..=100)?),
                "FOR" => made.until = Some(now + words.time(&option)?),
                "UNTIL" => made.until = Some(words.integer(&option, 0..=MOST)?),
                _ => return missing(format!("option {option} of a policy")),
            }
        }
        if counts && made.per_ms == 0 {
            return refused("missing option", "PER");
        }
        Ok(made)
    }

    /// A policy of GW.POLICYPUT's document, by way of GW.POLICYSET's words.
    pub(super) fn of_members(members: &Map<String, Json>, now: i64) -> Done<Self> {
        let text = |name: &str| -> Done<Text> {
            match members.get(name) {
                Some(Json::String(text)) => Ok(text.into()),
                Some(other) => Ok(other.to_string().into()),
                None => refused("a policy has no member", name),
            }
        };
        let kind = text("kind").map(|kind| kind.to_string().to_uppercase());
        let taken: &[&str] = match kind.as_deref() {
            Ok("WINDOW") => &["limit"],
            Ok("BUCKET") => &["rate", "burst"],
            Ok("INFLIGHT") => &["max"],
            Ok("BUDGET") => &["amount", "period"],
            _ => &[],
        };
        let (mut given, mut unknown) = (Vec::new(), None);
        for (name, value) in members {
            let (word, flag) = match name.as_str() {
                "per_ms" => ("PER", false),
                "meter" => ("METER", false),
                "soft_percent" => ("SOFT", false),
                "anchor_ms" => ("ANCHOR", false),
                "for_ms" => ("FOR", false),
                "until_ms" => ("UNTIL", false),
                "decimal" => ("DECIMAL", true),
                "fixed" => ("FIXED", true),
                "give_back" => ("GIVEBACK", true),
                "shadow" => ("SHADOW", true),
                other => {
                    if !["name", "kind"].contains(&other) && !taken.contains(&other) {
                        unknown = Some(name);
                    }
                    continue;
                }
            };
            if !flag {
                given.extend([word.into(), text(name)?]);
            } else if *value == Json::Bool(true) {
                given.push(word.into());
            }
        }
        let kind = kind?;
        let mut all: Vec<Text> = vec![kind.as_str().into()];
        for name in taken {
            all.push(text(name)?);
        }
        all.extend(given);
        let made = Self::of_words(text("name")?, &mut Words::new(all), now)?;
        match unknown {
            Some(name) => refused("unknown word", format!("{name} (policies)")),
            None => Ok(made),
        }
    }
}
