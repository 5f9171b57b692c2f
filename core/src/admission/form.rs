//! The words of policies: one table of which words set which kind of policy, used to read and write arguments and JSON.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::borrow::Cow;

use super::amounts::{REQUESTS, USD};
use super::bounds::{BILLIONTHS_MAX, NAME_BYTES_MAX};
use super::name::ShortName;
use super::policy::{Kind, Policy};
use super::row::OBSTACLES;
use crate::breaker::Threshold;
use crate::bucket::Flow;
use crate::calendar::Period;
use crate::integer::parse_int;
use crate::money::{Amount, AmountError};
use crate::window::{Rule, Shape};
use crate::{PERIOD_MAX_MS, TIME_MAX_MS, UNITS_MAX};

/// Reserved names, which no meter may have, in any case: the option words of all commands that name meters, and words
/// kept for future options. So each request can be read in only one way.
pub const RESERVED: [&str; 10] =
    ["WITH", "LEASE", "TTL", "SHADOW", "REQUIRE", "ROWS", "PICK", "FAILED", "COOLDOWN", "TOOK"];

/// Whether the name is reserved.
#[inline]
pub fn is_reserved(word: &[u8]) -> bool {
    // Most words already differ in their lengths, and every admission checks its meters.
    RESERVED.iter().any(|reserved| reserved.len() == word.len() && reserved.as_bytes().eq_ignore_ascii_case(word))
}

/// The property that a word of a policy sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Property {
    Limit,
    Rate,
    Burst,
    Failures,
    OpenMs,
    Max,
    Amount,
    Period,
    PerMs,
    Decimal,
    Fixed,
    AnchorMs,
    ForMs,
    UntilMs,
    SoftPercent,
    Meter,
    GiveBack,
    Shadow,
}

/// The value that a word takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// None: the word itself is enough.
    Nothing,
    /// An integer within these bounds.
    Integer(u64, u64),
    /// A count of units, at least this many; with DECIMAL, an amount of at least this many billionths.
    Units(u64),
    /// An amount that is not negative.
    Amount,
    /// The name of a calendar period.
    Period,
    /// The name of a meter.
    Meter,
}

/// A word of a policy.
#[derive(Debug, PartialEq, Eq)]
pub struct Word {
    property: Property,
    /// Its name in JSON. Units stand last.
    pub member: &'static str,
    /// Its option as an argument. `None` for words that follow the kind, in the form's order.
    pub option: Option<&'static str>,
    /// Its value.
    pub takes: Takes,
    is_required: bool,
}

impl Word {
    const fn leading(property: Property, member: &'static str, takes: Takes) -> Self {
        Self { property, member, option: None, takes, is_required: true }
    }

    const fn option(property: Property, member: &'static str, option: &'static str, takes: Takes) -> Self {
        Self { property, member, option: Some(option), takes, is_required: false }
    }

    const fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    /// The name in errors, if it is an argument.
    pub fn argument(&self) -> &'static str {
        self.option.unwrap_or(self.member)
    }
}

const PER: Word = Word::option(Property::PerMs, "per_ms", "PER", Takes::Integer(1, PERIOD_MAX_MS)).required();
const DECIMAL: Word = Word::option(Property::Decimal, "decimal", "DECIMAL", Takes::Nothing);
const METER: Word = Word::option(Property::Meter, "meter", "METER", Takes::Meter);
const GIVE_BACK: Word = Word::option(Property::GiveBack, "give_back", "GIVEBACK", Takes::Nothing);
const SHADOW: Word = Word::option(Property::Shadow, "shadow", "SHADOW", Takes::Nothing);
const UNIX_MS: Takes = Takes::Integer(0, TIME_MAX_MS.unsigned_abs());

/// A kind of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KindWord {
    Window,
    Bucket,
    InFlight,
    Budget,
    Block,
    Breaker,
}

/// The words that set a policy of one kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Form {
    kind: KindWord,
    /// The kind's name, in capitals as in arguments.
    pub name: &'static str,
    /// Its words in the order in which they are written: first those that follow the kind, then options.
    pub words: &'static [Word],
}

/// All kinds of policies.
pub static FORMS: [Form; 6] = [
    Form {
        kind: KindWord::Window,
        name: "WINDOW",
        words: &[
            Word::leading(Property::Limit, "limit", Takes::Units(0)),
            PER,
            DECIMAL,
            Word::option(Property::Fixed, "fixed", "FIXED", Takes::Nothing),
            Word::option(Property::AnchorMs, "anchor_ms", "ANCHOR", UNIX_MS),
            METER,
            GIVE_BACK,
            SHADOW,
        ],
    },
    Form {
        kind: KindWord::Bucket,
        name: "BUCKET",
        words: &[
            Word::leading(Property::Rate, "rate", Takes::Units(1)),
            Word::leading(Property::Burst, "burst", Takes::Units(0)),
            PER,
            DECIMAL,
            METER,
            GIVE_BACK,
            SHADOW,
        ],
    },
    Form {
        kind: KindWord::InFlight,
        name: "INFLIGHT",
        words: &[Word::leading(Property::Max, "max", Takes::Integer(0, UNITS_MAX)), SHADOW],
    },
    Form {
        kind: KindWord::Budget,
        name: "BUDGET",
        words: &[
            Word::leading(Property::Amount, "amount", Takes::Amount),
            Word::leading(Property::Period, "period", Takes::Period),
            Word::option(Property::SoftPercent, "soft_percent", "SOFT", Takes::Integer(1, 100)),
            METER,
            SHADOW,
        ],
    },
    Form {
        kind: KindWord::Block,
        name: "BLOCK",
        words: &[
            Word::option(Property::ForMs, "for_ms", "FOR", Takes::Integer(1, PERIOD_MAX_MS)),
            Word::option(Property::UntilMs, "until_ms", "UNTIL", UNIX_MS),
            SHADOW,
        ],
    },
    Form {
        kind: KindWord::Breaker,
        name: "BREAKER",
        words: &[
            Word::leading(Property::Failures, "failures", Takes::Integer(1, UNITS_MAX)),
            PER,
            Word::option(Property::OpenMs, "open_ms", "OPEN", Takes::Integer(1, PERIOD_MAX_MS)).required(),
            SHADOW,
        ],
    },
];

/// The value given for a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given<'a> {
    /// No value, for a word that takes none.
    Word,
    /// An argument of any content.
    Argument(&'a [u8]),
    /// The text of a JSON number.
    Number(&'a str),
    /// A JSON string.
    Text(Cow<'a, str>),
    /// A JSON boolean.
    Flag(bool),
    /// The text of any other JSON value.
    Other(&'a str),
}

impl Given<'_> {
    /// The text to show in an error.
    pub fn shown(&self) -> &[u8] {
        match self {
            Given::Word => b"",
            Given::Argument(text) => text,
            Given::Number(text) | Given::Other(text) => text.as_bytes(),
            Given::Text(text) => text.as_bytes(),
            Given::Flag(true) => b"true",
            Given::Flag(false) => b"false",
        }
    }

    fn integer(&self, min: u64, max: u64) -> Result<u64, Mistake> {
        let value = match self {
            Given::Argument(text) => parse_int(text),
            Given::Number(text) => parse_int(text.as_bytes()),
            _ => None,
        };
        let value = value.and_then(|value| u64::try_from(value).ok()).filter(|value| (min..=max).contains(value));
        value.ok_or(Mistake::NotAnInteger(min, max))
    }

    fn amount(&self) -> Result<Amount, Mistake> {
        let text = match self {
            Given::Argument(text) => text,
            Given::Number(text) => text.as_bytes(),
            Given::Text(text) => text.as_bytes(),
            _ => return Err(Mistake::NotAnAmount(AmountError::NotANumber)),
        };
        match Amount::parse(text).map_err(Mistake::NotAnAmount)? {
            amount if amount < Amount::ZERO => Err(Mistake::NegativeAmount),
            amount => Ok(amount),
        }
    }

    fn billionths(&self, min: u64) -> Result<u64, Mistake> {
        let picos = self.amount()?.picos().unsigned_abs();
        if picos % 1_000 != 0 {
            return Err(Mistake::FinerThanBillionths);
        }
        let value = u64::try_from(picos / 1_000).ok().filter(|value| (min..=BILLIONTHS_MAX).contains(value));
        value.ok_or(Mistake::NotAnAmountFrom(min))
    }

    fn flag(&self) -> Result<bool, Mistake> {
        match self {
            Given::Word => Ok(true),
            Given::Flag(value) => Ok(*value),
            _ => Err(Mistake::NotABoolean),
        }
    }

    fn name(&self) -> Result<&[u8], Mistake> {
        match self {
            Given::Argument(text) => Ok(text),
            Given::Text(text) => Ok(text.as_bytes()),
            _ => Err(Mistake::NotAString),
        }
    }
}

/// A mistake in a word or its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Not an integer within these bounds.
    NotAnInteger(u64, u64),
    /// Not an amount.
    NotAnAmount(AmountError),
    /// Below zero.
    NegativeAmount,
    /// Not an amount from this many billionths to [`BILLIONTHS_MAX`].
    NotAnAmountFrom(u64),
    /// Not a whole number of billionths.
    FinerThanBillionths,
    /// Not a kind of policy.
    NotAKind,
    /// Not a calendar period.
    NotAPeriod,
    /// Empty, or too long for a name.
    NotAName,
    /// A reserved name, which no meter or no policy may have.
    Reserved,
    /// Another policy has this name.
    Repeated,
    /// A JSON value that is not a string.
    NotAString,
    /// A JSON value that is neither true nor false.
    NotABoolean,
    /// A JSON value that is not an object.
    NotAnObject,
    /// A JSON value that is not an array.
    NotAnArray,
    /// The kind does not have this word.
    UnknownWord,
    /// The word was given before.
    RepeatedWord,
    /// The kind requires the word.
    MissingWord,
    /// The word cannot stand beside another one that was given.
    ConflictingWord,
    /// The word has no meaning without this one.
    OnlyWith(&'static Word),
}

impl Mistake {
    /// Whether the mistake is in the word, not in its value.
    pub fn is_of_the_word(&self) -> bool {
        use Mistake as M;
        matches!(self, M::UnknownWord | M::RepeatedWord | M::MissingWord | M::ConflictingWord | M::OnlyWith(_))
    }
}

/// A mistake, and the word that it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong<'a> {
    /// The word.
    pub word: &'static Word,
    /// The value given for the word, if there is one.
    pub given: Option<Given<'a>>,
    /// The mistake.
    pub mistake: Mistake,
}

impl Form {
    /// The form of a kind, by its name in any case.
    pub fn named(name: &[u8]) -> Option<&'static Form> {
        FORMS.iter().find(|form| form.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The form of a policy.
    pub fn of(kind: &Kind) -> &'static Form {
        let [window, bucket, in_flight, budget, block, breaker] = &FORMS;
        match kind {
            Kind::Window(_) => window,
            Kind::Bucket(_) => bucket,
            Kind::InFlight { .. } => in_flight,
            Kind::Budget { .. } => budget,
            Kind::Block { .. } => block,
            Kind::Breaker(_) => breaker,
        }
    }
}

/// The most words of a form.
const WORDS_MAX: usize = 8;

/// A policy while it is read.
#[derive(Debug)]
pub struct Draft<'a> {
    form: &'static Form,
    given: [Option<Given<'a>>; WORDS_MAX],
}

impl<'a> Draft<'a> {
    /// A policy of which only the kind is known.
    pub fn new(form: &'static Form) -> Self {
        Self { form, given: Default::default() }
    }

    /// Notes the value given for the form's word at `index`. Returns whether it is the first one.
    pub fn give(&mut self, index: usize, given: Given<'a>) -> bool {
        self.given.get_mut(index).is_some_and(|place| place.replace(given).is_none())
    }

    /// Makes the policy. `now_ms` is the server's time, at which a block with `FOR` begins.
    ///
    /// # Errors
    /// If a word is missing, or its value is wrong.
    pub fn policy(&self, now_ms: i64) -> Result<Policy, Wrong<'a>> {
        let decimal = self.flag(Property::Decimal)?;
        let kind = match self.form.kind {
            KindWord::Window => {
                let (limit, window_ms) = (self.units(Property::Limit, decimal)?, self.integer(Property::PerMs)?);
                Kind::Window(Rule { limit, window_ms: window_ms.unwrap_or(1), shape: self.shape()? })
            }
            KindWord::Bucket => {
                let (rate, burst) = (self.units(Property::Rate, decimal)?, self.units(Property::Burst, decimal)?);
                Kind::Bucket(Flow { rate, burst, per_ms: self.integer(Property::PerMs)?.unwrap_or(1) })
            }
            KindWord::InFlight => Kind::InFlight { max: self.integer(Property::Max)?.unwrap_or(0) },
            KindWord::Budget => Kind::Budget {
                amount: self.read(Property::Amount, Given::amount)?.unwrap_or_default(),
                period: self.period()?,
                soft_percent: u8::try_from(self.integer(Property::SoftPercent)?.unwrap_or(0)).unwrap_or(100),
            },
            KindWord::Block => Kind::Block { until_ms: self.block_ends_ms(now_ms)? },
            KindWord::Breaker => Kind::Breaker(Threshold {
                failures: self.integer(Property::Failures)?.unwrap_or(1),
                per_ms: self.integer(Property::PerMs)?.unwrap_or(1),
                open_ms: self.integer(Property::OpenMs)?.unwrap_or(1),
            }),
        };
        let meter = match self.form.kind {
            KindWord::InFlight | KindWord::Block | KindWord::Breaker => ShortName::new(),
            KindWord::Window | KindWord::Bucket => self.meter(REQUESTS)?,
            KindWord::Budget => self.meter(USD)?,
        };
        let (shadow, give_back) = (self.flag(Property::Shadow)?, self.flag(Property::GiveBack)?);
        // All given values are checked first, so that placeholders for missing ones are never used.
        self.check_missing()?;
        Ok(Policy { kind, meter, shadow, give_back, decimal })
    }

    fn check_missing(&self) -> Result<(), Wrong<'a>> {
        let missing = self.form.words.iter().zip(&self.given).find(|(word, given)| word.is_required && given.is_none());
        missing.map_or(Ok(()), |(word, _)| Err(Wrong { word, given: None, mistake: Mistake::MissingWord }))
    }

    /// The word of a property, if the form has one, and the value given for it.
    fn get(&self, property: Property) -> Option<(&'static Word, &Given<'a>)> {
        let index = self.form.words.iter().position(|word| word.property == property)?;
        Some((self.form.words.get(index)?, self.given.get(index)?.as_ref()?))
    }

    fn wrong(word: &'static Word, given: &Given<'a>, mistake: Mistake) -> Wrong<'a> {
        Wrong { word, given: Some(given.clone()), mistake }
    }

    fn read<T>(
        &self,
        property: Property,
        read: impl FnOnce(&Given<'a>) -> Result<T, Mistake>,
    ) -> Result<Option<T>, Wrong<'a>> {
        let Some((word, given)) = self.get(property) else { return Ok(None) };
        read(given).map(Some).map_err(|mistake| Self::wrong(word, given, mistake))
    }

    fn flag(&self, property: Property) -> Result<bool, Wrong<'a>> {
        Ok(self.read(property, Given::flag)?.unwrap_or(false))
    }

    fn integer(&self, property: Property) -> Result<Option<u64>, Wrong<'a>> {
        match self.get(property) {
            Some((Word { takes: Takes::Integer(min, max), .. }, _)) => {
                self.read(property, |given| given.integer(*min, *max))
            }
            _ => Ok(None),
        }
    }

    fn units(&self, property: Property, decimal: bool) -> Result<u64, Wrong<'a>> {
        let min = match self.get(property) {
            Some((Word { takes: Takes::Units(min), .. }, _)) => *min,
            _ => 0,
        };
        let units = |given: &Given<'a>| if decimal { given.billionths(min) } else { given.integer(min, UNITS_MAX) };
        Ok(self.read(property, units)?.unwrap_or(min))
    }

    fn unix_ms(&self, property: Property) -> Result<Option<i64>, Wrong<'a>> {
        Ok(self.integer(property)?.map(u64::cast_signed))
    }

    fn shape(&self) -> Result<Shape, Wrong<'a>> {
        let anchor_ms = self.unix_ms(Property::AnchorMs)?;
        match (self.flag(Property::Fixed)?, anchor_ms) {
            (false, None) => Ok(Shape::Sliding),
            (true, None) => Ok(Shape::Fixed),
            (true, Some(anchor_ms)) => Ok(Shape::Anchored(anchor_ms)),
            (false, Some(_)) => {
                let fixed = self.form.words.iter().find(|word| word.property == Property::Fixed);
                let mistake = fixed.map_or(Mistake::ConflictingWord, Mistake::OnlyWith);
                self.read(Property::AnchorMs, |_| Err(mistake)).map(|_: Option<()>| Shape::Sliding)
            }
        }
    }

    fn period(&self) -> Result<Period, Wrong<'a>> {
        let period = |given: &Given<'a>| {
            let name = given.name().map_err(|_| Mistake::NotAPeriod)?;
            Period::parse(name).ok_or(Mistake::NotAPeriod)
        };
        Ok(self.read(Property::Period, period)?.unwrap_or(Period::Total))
    }

    fn meter(&self, default: &[u8]) -> Result<ShortName, Wrong<'a>> {
        let meter = |given: &Given<'a>| match given.name()? {
            name if is_reserved(name) => Err(Mistake::Reserved),
            name => check_name(name).map(|()| ShortName::from_slice(name)),
        };
        Ok(self.read(Property::Meter, meter)?.unwrap_or_else(|| ShortName::from_slice(default)))
    }

    fn block_ends_ms(&self, now_ms: i64) -> Result<Option<i64>, Wrong<'a>> {
        match (self.integer(Property::ForMs)?, self.unix_ms(Property::UntilMs)?) {
            (Some(_), Some(_)) => {
                self.read(Property::UntilMs, |_| Err(Mistake::ConflictingWord)).map(|_: Option<()>| None)
            }
            (Some(for_ms), None) => Ok(Some(now_ms.saturating_add_unsigned(for_ms).min(TIME_MAX_MS))),
            (None, until_ms) => Ok(until_ms),
        }
    }
}

/// Checks the name of a policy or a meter.
///
/// # Errors
/// [`Mistake::NotAName`].
pub fn check_name(name: &[u8]) -> Result<(), Mistake> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) { Ok(()) } else { Err(Mistake::NotAName) }
}

/// Checks the name of a policy.
///
/// # Errors
/// [`Mistake::NotAName`], and [`Mistake::Reserved`] for the name of what can be in the way besides policies.
pub fn check_policy_name(name: &[u8]) -> Result<(), Mistake> {
    if OBSTACLES.iter().any(|obstacle| obstacle.as_bytes().eq_ignore_ascii_case(name)) {
        return Err(Mistake::Reserved);
    }
    check_name(name)
}

/// The value of a word in a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said<'a> {
    /// No value: the word itself is enough.
    Word,
    /// An integer.
    Integer(u64),
    /// An amount.
    Amount(Amount),
    /// A calendar period.
    Period(Period),
    /// A meter.
    Name(&'a [u8]),
}

impl Policy {
    /// The policy's words in their order, with their values. [`Draft`] makes the same policy from them.
    pub fn words(&self) -> impl Iterator<Item = (&'static Word, Said<'_>)> {
        Form::of(&self.kind).words.iter().filter_map(|word| Some((word, self.said(word.property)?)))
    }

    fn said(&self, property: Property) -> Option<Said<'_>> {
        let units =
            |units| if self.decimal { Said::Amount(Amount::from_billionths(units)) } else { Said::Integer(units) };
        let unix_ms = |at_ms: i64| Said::Integer(at_ms.max(0).unsigned_abs());
        match (property, self.kind) {
            (Property::Limit, Kind::Window(rule)) => Some(units(rule.limit)),
            (Property::PerMs, Kind::Window(rule)) => Some(Said::Integer(rule.window_ms)),
            (Property::Fixed, Kind::Window(rule)) => (rule.shape != Shape::Sliding).then_some(Said::Word),
            (Property::AnchorMs, Kind::Window(Rule { shape: Shape::Anchored(at_ms), .. })) => Some(unix_ms(at_ms)),
            (Property::Rate, Kind::Bucket(flow)) => Some(units(flow.rate)),
            (Property::Burst, Kind::Bucket(flow)) => Some(units(flow.burst)),
            (Property::PerMs, Kind::Bucket(flow)) => Some(Said::Integer(flow.per_ms)),
            (Property::Max, Kind::InFlight { max }) => Some(Said::Integer(max)),
            (Property::Amount, Kind::Budget { amount, .. }) => Some(Said::Amount(amount)),
            (Property::Period, Kind::Budget { period, .. }) => Some(Said::Period(period)),
            (Property::SoftPercent, Kind::Budget { soft_percent, .. }) => {
                (soft_percent > 0).then_some(Said::Integer(soft_percent.into()))
            }
            (Property::UntilMs, Kind::Block { until_ms }) => until_ms.map(unix_ms),
            (Property::Failures, Kind::Breaker(threshold)) => Some(Said::Integer(threshold.failures)),
            (Property::PerMs, Kind::Breaker(threshold)) => Some(Said::Integer(threshold.per_ms)),
            (Property::OpenMs, Kind::Breaker(threshold)) => Some(Said::Integer(threshold.open_ms)),
            (Property::Meter, _) => Some(Said::Name(&self.meter)),
            (Property::Decimal, _) => self.decimal.then_some(Said::Word),
            (Property::GiveBack, _) => self.give_back.then_some(Said::Word),
            (Property::Shadow, _) => self.shadow.then_some(Said::Word),
            _ => None,
        }
    }
}
