//! The columns of FOCUS 1.2 (FinOps Open Cost and Usage Specification), a row for each account and day.

use anyhow::Result;
use jiff::civil::{Date, time};
use jiff::tz::TimeZone;

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

/// In the order of a row.
pub const COLUMNS: [&str; 25] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SubAccountId",
    "SubAccountName",
];

/// The row of a day. Days and months begin at midnight in `zone`, and are told in UTC, as FOCUS demands.
pub fn row(spent: &Spent, names: &Names, zone: &TimeZone) -> Result<[String; COLUMNS.len()]> {
    let midnight = |day: Date| -> Result<String> {
        let at = day.to_datetime(time(0, 0, 0, 0)).to_zoned(zone.clone())?;
        Ok(at.timestamp().to_string())
    };
    let Spent { account, day, amount } = spent;
    let month = day.first_of_month();
    let next_month = month.last_of_month().tomorrow()?;
    let amount = || amount.to_string();
    let provider = || names.provider.clone();
    Ok([
        amount(),
        names.billing_account.clone(),
        names.billing_account.clone(),
        names.currency.clone(),
        midnight(next_month)?,
        midnight(month)?,
        "Usage".to_owned(),
        // No correction of an earlier bill: late charges and refunds are in the day that they are for.
        String::new(),
        format!("{} of {account} on {day}", names.service),
        "Usage-Based".to_owned(),
        midnight(day.tomorrow()?)?,
        midnight(*day)?,
        amount(),
        amount(),
        provider(),
        amount(),
        // A ledger counts money: so many units of the currency, each at the price of 1.
        amount(),
        names.currency.clone(),
        provider(),
        provider(),
        "AI and Machine Learning".to_owned(),
        names.service.clone(),
        "Generative AI".to_owned(),
        account.clone(),
        account.clone(),
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
        let of = |column: &str| &*row[COLUMNS.iter().position(|name| *name == column).unwrap()];
        // The day on which summer time ends has 25 hours.
        assert_eq!((of("ChargePeriodStart"), of("ChargePeriodEnd")), ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"));
        assert_eq!(
            (of("BillingPeriodStart"), of("BillingPeriodEnd")),
            ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z")
        );
        assert_eq!((of("BilledCost"), of("BillingCurrency"), of("SubAccountId")), ("0.1", "EUR", "team"));
        assert!(COLUMNS.is_sorted());
    }
}
