//! The columns of FOCUS 1.2 (FinOps Open Cost and Usage Specification), a row for each account and day.

use anyhow::Result;
use jiff::Timestamp;
use jiff::civil::{Date, time};
use jiff::tz::TimeZone;
use redis_gateway_client::Amount;

use crate::ledgers::Spent;

/// What is the same in every row.
#[derive(Debug, clap::Args)]
pub struct Names {
    /// The currency of the ledgers (BillingCurrency)
    #[arg(long, default_value = "USD")]
    currency: String,
    /// Who bills it (ProviderName, PublisherName, InvoiceIssuerName)
    #[arg(long, default_value = "redis-gateway")]
    provider: String,
    /// What it was spent on (ServiceName)
    #[arg(long, default_value = "LLM gateway")]
    service: String,
    /// The account above all accounts (BillingAccountId, BillingAccountName)
    #[arg(long, default_value = "gateway")]
    billing_account: String,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Decimal,
    Time,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Nothing,
    Text(String),
    Decimal(Amount),
    Time(Timestamp),
}

impl Value {
    /// As CSV has it.
    pub fn text(&self) -> String {
        match self {
            Value::Nothing => String::new(),
            Value::Text(text) => text.clone(),
            Value::Decimal(amount) => amount.to_string(),
            Value::Time(time) => time.to_string(),
        }
    }
}

/// In the order of a row.
pub const COLUMNS: [(&str, Kind); 25] = [
    ("BilledCost", Kind::Decimal),
    ("BillingAccountId", Kind::Text),
    ("BillingAccountName", Kind::Text),
    ("BillingCurrency", Kind::Text),
    ("BillingPeriodEnd", Kind::Time),
    ("BillingPeriodStart", Kind::Time),
    ("ChargeCategory", Kind::Text),
    ("ChargeClass", Kind::Text),
    ("ChargeDescription", Kind::Text),
    ("ChargeFrequency", Kind::Text),
    ("ChargePeriodEnd", Kind::Time),
    ("ChargePeriodStart", Kind::Time),
    ("ContractedCost", Kind::Decimal),
    ("EffectiveCost", Kind::Decimal),
    ("InvoiceIssuerName", Kind::Text),
    ("ListCost", Kind::Decimal),
    ("PricingQuantity", Kind::Decimal),
    ("PricingUnit", Kind::Text),
    ("ProviderName", Kind::Text),
    ("PublisherName", Kind::Text),
    ("ServiceCategory", Kind::Text),
    ("ServiceName", Kind::Text),
    ("ServiceSubcategory", Kind::Text),
    ("SubAccountId", Kind::Text),
    ("SubAccountName", Kind::Text),
];

/// The row of a day. Days and months begin at midnight in `zone`, and are told in UTC, as FOCUS demands.
pub fn row(spent: &Spent, names: &Names, zone: &TimeZone) -> Result<[Value; COLUMNS.len()]> {
    let midnight = |day: Date| -> Result<Value> {
        Ok(Value::Time(day.to_datetime(time(0, 0, 0, 0)).to_zoned(zone.clone())?.timestamp()))
    };
    let text = |text: &str| Value::Text(text.to_owned());
    let Spent { account, day, amount } = spent;
    let month = day.first_of_month();
    let next_month = month.last_of_month().tomorrow()?;
    let amount = || Value::Decimal(*amount);
    let provider = || text(&names.provider);
    Ok([
        amount(),
        text(&names.billing_account),
        text(&names.billing_account),
        text(&names.currency),
        midnight(next_month)?,
        midnight(month)?,
        text("Usage"),
        // No correction of an earlier bill: late charges and refunds are in the day that they are for.
        Value::Nothing,
        Value::Text(format!("{} of {account} on {day}", names.service)),
        text("Usage-Based"),
        midnight(day.tomorrow()?)?,
        midnight(*day)?,
        amount(),
        amount(),
        provider(),
        amount(),
        // A ledger counts money: this number of units of the currency, each at the price of 1.
        amount(),
        text(&names.currency),
        provider(),
        provider(),
        text("AI and Machine Learning"),
        text(&names.service),
        text("Generative AI"),
        text(account),
        text(account),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_are_told_in_utc() {
        let names =
            Names { currency: "EUR".into(), provider: "p".into(), service: "s".into(), billing_account: "b".into() };
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let spent = Spent { account: "team".into(), day: Date::constant(2026, 10, 25), amount: "0.1".parse().unwrap() };
        let row = row(&spent, &names, &zone).unwrap();
        let texts = row.each_ref().map(Value::text);
        let of = |column: &str| &*texts[COLUMNS.iter().position(|(name, _)| *name == column).unwrap()];
        // The day on which summer time ends has 25 hours.
        assert_eq!((of("ChargePeriodStart"), of("ChargePeriodEnd")), ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"));
        assert_eq!(
            (of("BillingPeriodStart"), of("BillingPeriodEnd")),
            ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z")
        );
        assert_eq!((of("BilledCost"), of("BillingCurrency"), of("SubAccountId")), ("0.1", "EUR", "team"));
        assert!(COLUMNS.is_sorted_by_key(|(name, _)| *name));
        for ((name, kind), value) in COLUMNS.iter().zip(&row) {
            let fits = match value {
                Value::Nothing => true,
                Value::Text(_) => *kind == Kind::Text,
                Value::Decimal(_) => *kind == Kind::Decimal,
                Value::Time(_) => *kind == Kind::Time,
            };
            assert!(fits, "{name}");
        }
    }
}
