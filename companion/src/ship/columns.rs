//! Records as rows: the columns, and what of a record is in none of them.
//!
//! A value moves into its column only if it fits the column's type; everything else stays in [`REST`], as it was written.
//! So nothing of a record is lost, whatever the columns are.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The column of what is in no other: an object of the other fields, or a record that is not an object.
pub const REST: &str = "_rest";
/// More columns than this are not inferred.
const INFERRED_MAX: usize = 200;
/// Floating-point numbers hold all integers up to here.
const FLOAT_EXACT: i64 = 1 << 53;

/// A column, and where in a record its values are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The names of nested fields, with dots between them; without it the column's name is that of a field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    String,
    /// 64 bits, with a sign.
    Int,
    /// 64 bits.
    Float,
    Bool,
    /// A text as RFC 3339 has it, to the microsecond.
    Timestamp,
    /// Anything, as JSON.
    Json,
}

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// What columns must be.
///
/// # Errors
/// What is wrong with them.
pub fn check(columns: &[Column]) -> Result<(), String> {
    if columns.is_empty() {
        return Err("none".to_owned());
    }
    let mut names = BTreeSet::from([REST]);
    for column in columns {
        if column.name.is_empty() || !names.insert(&column.name) {
            return Err(format!("no name of its own: {:?}", column.name));
        }
        if column.path.as_ref().is_some_and(|path| path.split('.').any(str::is_empty)) {
            return Err(format!("not a path: {:?}", column.path.as_deref().unwrap_or_default()));
        }
    }
    Ok(())
}

/// The columns of these records: each field that has one type in all of them, by name.
pub fn infer(records: &[&[u8]]) -> Vec<Column> {
    // `None` if a field has several types.
    let mut kinds: BTreeMap<String, Option<Kind>> = BTreeMap::new();
    for fields in records.iter().filter_map(|record| fields(text(record))) {
        for (name, value) in fields.0 {
            let Some(kind) = kind_of(value.get()) else { continue };
            let known = kinds.entry(name.into_owned()).or_insert(Some(kind));
            *known = known.and_then(|known| unified(known, kind));
        }
    }
    let columns = kinds.into_iter().filter_map(|(name, kind)| Some(Column { name, kind: kind?, path: None }));
    columns.filter(|column| column.name != REST && !column.name.is_empty()).take(INFERRED_MAX).collect()
}

fn kind_of(value: &str) -> Option<Kind> {
    Some(match value.as_bytes().first()? {
        b'"' => Kind::String,
        b't' | b'f' => Kind::Bool,
        b'{' | b'[' => Kind::Json,
        b'n' => return None,
        _ if value.parse::<i64>().is_ok() => Kind::Int,
        _ => Kind::Float,
    })
}

fn unified(known: Kind, kind: Kind) -> Option<Kind> {
    match (known, kind) {
        _ if known == kind => Some(known),
        (Kind::Int, Kind::Float) | (Kind::Float, Kind::Int) => Some(Kind::Float),
        _ => None,
    }
}

/// Takes records apart.
pub struct Splitter {
    kinds: Vec<Kind>,
    /// Of each field of a record: the columns that have a value from it, and the names further below.
    places: BTreeMap<String, Vec<(usize, Vec<String>)>>,
}

impl Splitter {
    pub fn new(columns: &[Column]) -> Self {
        let mut places: BTreeMap<String, Vec<(usize, Vec<String>)>> = BTreeMap::new();
        for (index, column) in columns.iter().enumerate() {
            let mut path: Vec<String> = match &column.path {
                Some(path) => path.split('.').map(str::to_owned).collect(),
                None => vec![column.name.clone()],
            };
            let first = path.remove(0);
            places.entry(first).or_default().push((index, path));
        }
        Self { kinds: columns.iter().map(|column| column.kind).collect(), places }
    }

    /// A record's values, column for column, and the rest of it. The record is JSON.
    pub fn split<'a>(&self, record: &'a [u8]) -> (Vec<Option<Cell<'a>>>, Option<Cow<'a, str>>) {
        let mut cells: Vec<Option<Cell<'a>>> = vec![None; self.kinds.len()];
        let record = text(record);
        let Some(fields) = fields(record) else { return (cells, Some(Cow::Borrowed(record.trim_ascii()))) };
        let mut rest = String::new();
        for (name, value) in fields.0 {
            let mut is_moved = false;
            for (index, below) in self.places.get(&*name).into_iter().flatten() {
                // Of a field that is there twice, the second one is in the rest.
                if cells[*index].is_some() {
                    continue;
                }
                let Some(value) = find(value.get(), below) else { continue };
                cells[*index] = cell(self.kinds[*index], value);
                // What is further below stays where it was, too.
                is_moved |= below.is_empty() && cells[*index].is_some();
            }
            if !is_moved {
                rest.push(if rest.is_empty() { '{' } else { ',' });
                rest.push_str(&serde_json::Value::from(&*name).to_string());
                rest.push(':');
                rest.push_str(value.get());
            }
        }
        if rest.is_empty() {
            return (cells, None);
        }
        rest.push('}');
        (cells, Some(Cow::Owned(rest)))
    }
}

/// The value under these names. `None` if there is none.
fn find<'a>(value: &'a str, names: &[String]) -> Option<&'a str> {
    names.iter().try_fold(value, |value, name| {
        let (_, value) = fields(value)?.0.into_iter().find(|(field, _)| field == name)?;
        Some(value.get())
    })
}

/// The value as one of this kind, if it is that exactly.
fn cell(kind: Kind, value: &str) -> Option<Cell<'_>> {
    match kind {
        // Nothing in a column is what a record without the field has, too.
        _ if value == "null" => None,
        Kind::Json => Some(Cell::Text(Cow::Borrowed(value))),
        Kind::String => string(value).map(Cell::Text),
        Kind::Bool => value.parse().ok().map(Cell::Bool),
        Kind::Int => value.parse().ok().filter(|_| value != "-0").map(Cell::Int),
        Kind::Float => match value.parse::<i64>() {
            Ok(integer) => (integer.abs() <= FLOAT_EXACT).then_some(Cell::Float(integer as f64)),
            Err(_) if value.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                // The nearest, as every reader of JSON has it.
                value.parse().ok().filter(|float: &f64| float.is_finite()).map(Cell::Float)
            }
            Err(_) => None,
        },
        Kind::Timestamp => {
            let time: jiff::Timestamp = string(value)?.parse().ok()?;
            (time.subsec_nanosecond() % 1_000 == 0).then(|| Cell::Int(time.as_microsecond()))
        }
    }
}

/// A text whose escapes are resolved; `None` if it is not a text, or has half a surrogate pair.
fn string(value: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(value).ok().map(|text| text.0)
}

/// Records are checked before: they are JSON, and so UTF-8.
fn text(record: &[u8]) -> &str {
    std::str::from_utf8(record).unwrap_or_default()
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The fields of an object, in their order, each value as it is written.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// `None` if it is not an object.
fn fields(text: &str) -> Option<Fields<'_>> {
    serde_json::from_str(text).ok()
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: Kind, path: Option<&str>) -> Column {
        Column { name: name.into(), kind, path: path.map(str::to_owned) }
    }

    #[test]
    fn what_fits_moves_and_the_rest_stays_as_it_was() {
        let columns = [
            column("model", Kind::String, None),
            column("tokens", Kind::Int, None),
            column("cost", Kind::Float, None),
            column("user", Kind::String, Some("request.user.id")),
            column("at", Kind::Timestamp, None),
            column("ok", Kind::Bool, None),
            column("tags", Kind::Json, None),
        ];
        let splitter = Splitter::new(&columns);
        let text = |text: &'static str| Some(Cell::Text(text.into()));
        let record =
            br#"{"model":"a\u00e4","tokens":7,"cost":0.25,"request":{"user":{"id":"u"}},"ok":true,"tags":[1, 2],
            "at":"2026-11-30T17:12:06.5Z","more":1.50}"#;
        let (cells, rest) = splitter.split(record);
        let at = Some(Cell::Int(1_796_058_726_500_000));
        let cost = Some(Cell::Float(0.25));
        assert_eq!(
            cells,
            [text("aä"), Some(Cell::Int(7)), cost, text("u"), at, Some(Cell::Bool(true)), text("[1, 2]")]
        );
        assert_eq!(rest.as_deref(), Some(r#"{"request":{"user":{"id":"u"}},"more":1.50}"#));
        // None of these fits.
        let record =
            br#"{"model":null,"tokens":1.0,"cost":"1","request":[],"at":"today","ok":0,"tokens":9007199254740993}"#;
        let (cells, rest) = splitter.split(record);
        assert_eq!(cells.iter().flatten().collect::<Vec<_>>(), [&Cell::Int(9_007_199_254_740_993)]);
        let left = r#"{"model":null,"tokens":1.0,"cost":"1","request":[],"at":"today","ok":0}"#;
        assert_eq!(rest.as_deref(), Some(left));
        for (record, rest) in [("[1]", Some("[1]")), (" 7 ", Some("7")), ("{}", None), ("{\"tokens\":1}", None)] {
            assert_eq!(splitter.split(record.as_bytes()).1.as_deref(), rest, "{record}");
        }
        assert_eq!(splitter.split(br#"{"model":"\ud800"}"#).1.as_deref(), Some(r#"{"model":"\ud800"}"#));
        assert_eq!(splitter.split(br#"{"cost":9007199254740993}"#).0[2], None);
    }

    #[test]
    fn columns_are_inferred_from_what_all_records_agree_on() {
        let records: [&[u8]; 4] = [
            br#"{"b":1,"a":"x","mixed":1,"f":1,"n":null,"o":{},"_rest":1,"big":18446744073709551615}"#,
            br#"{"b":2,"mixed":"1","f":1.5,"t":true}"#,
            b"[]",
            br#"{"o":[]}"#,
        ];
        let found: Vec<_> = infer(&records).into_iter().map(|column| (column.name, column.kind)).collect();
        let expected = [
            ("a", Kind::String),
            ("b", Kind::Int),
            ("big", Kind::Float),
            ("f", Kind::Float),
            ("o", Kind::Json),
            ("t", Kind::Bool),
        ];
        assert_eq!(found, expected.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(infer(&[]), []);
    }

    #[test]
    fn columns_that_cannot_be_are_refused() {
        let named = |name| column(name, Kind::Int, None);
        assert!(check(&[named("a"), named("b")]).is_ok());
        for wrong in [vec![], vec![named("")], vec![named("a"), named("a")], vec![named(REST)]] {
            assert!(check(&wrong).is_err());
        }
        assert!(check(&[column("a", Kind::Int, Some("b..c"))]).is_err());
    }
}
