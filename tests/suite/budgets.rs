//! GW.ADDCOST, GW.WITHINBUDGET and GW.SPENT.

use crate::support::{command, pipeline, run, server_time_ms, start};
use gw_testkit::{Server, reply_line};

/// 2024-01-31 20:00:00 UTC: February in Kiritimati (UTC+14), January in most other places.
const LATE_JANUARY_MS: i64 = 1_706_731_200_000;

#[test]
fn sums_are_exact() {
    let (_server, mut client) = start();
    // With doubles the sum would be 1.4999999999887617.
    let charge = command("GW.ADDCOST k 0.0000015");
    for _ in 0..100 {
        pipeline(&mut client, (0..10_000).map(|_| charge.clone())).into_iter().for_each(|reply| drop(reply.unwrap()));
    }
    assert_eq!(run(&mut client, "GW.SPENT k"), "\"1.5\"");
    // A price that uses all twelve places.
    pipeline(&mut client, (0..9_999).map(|_| command("GW.ADDCOST p 0.000000123457")));
    assert_eq!(run(&mut client, "GW.SPENT p"), "\"0.001234446543\"");
}

#[test]
fn amounts_are_read_as_decimals_and_written_plainly() {
    let (_server, mut client) = start();
    let cases = [
        ("0.002", "0.002"),
        ("1.5e-07", "0.00000015"),
        ("2.500", "2.5"),
        ("1E3", "1000"),
        (".5", "0.5"),
        ("+1", "1"),
        ("1e-7", "0.0000001"),
        ("0", "0"),
        // Beyond the twelfth place: rounded to nearest, ties to even.
        ("0.0000000000005", "0"),
        ("0.0000000000015", "0.000000000002"),
        ("0.00000000000050001", "0.000000000001"),
        ("1000000000000000000", "1000000000000000000"),
    ];
    for (index, (given, total)) in cases.into_iter().enumerate() {
        assert_eq!(run(&mut client, &format!("GW.ADDCOST k{index} {given}")), format!("\"{total}\""), "{given}");
    }
}

#[test]
fn a_total_beyond_the_largest_is_an_error_and_changes_nothing() {
    let (_server, mut client) = start();
    run(&mut client, "GW.ADDCOST k 1e18");
    let error = run(&mut client, "GW.ADDCOST k 1e-12");
    assert!(error.starts_with("ERR ") && error.contains("out of range"), "{error}");
    assert_eq!(run(&mut client, "GW.SPENT k"), "\"1000000000000000000\"");
}

#[test]
fn a_charge_goes_to_the_month_it_happened_in() {
    let (_server, mut client) = start();
    assert_eq!(run(&mut client, "GW.ADDCOST k 3"), "\"3\"");
    assert_eq!(run(&mut client, &format!("GW.ADDCOST k 2 AT {LATE_JANUARY_MS}")), "\"2\"");
    assert_eq!(run(&mut client, &format!("GW.ADDCOST k 0.5 AT {LATE_JANUARY_MS}")), "\"2.5\"");
    assert_eq!(run(&mut client, "GW.SPENT k"), "\"3\"");
    assert_eq!(run(&mut client, "GW.SPENT k MONTH DATE 2024-01"), "\"2.5\"");
    assert_eq!(run(&mut client, "GW.SPENT k MONTH DATE 2024-01-15"), "\"2.5\"");
    assert_eq!(run(&mut client, "GW.SPENT k MONTH DATE 2024-02"), "\"0\"");
    assert_eq!(run(&mut client, "GW.SPENT k TOTAL"), "\"5.5\"");
    assert_eq!(run(&mut client, "GW.SPENT none"), "\"0\"");
}

#[test]
fn the_month_is_the_configured_time_zones() {
    let server = Server::options().config("gw.timezone Pacific/Kiritimati").start().unwrap();
    let mut client = server.connect().unwrap();
    run(&mut client, &format!("GW.ADDCOST k 2 AT {LATE_JANUARY_MS}"));
    assert_eq!(run(&mut client, "GW.SPENT k MONTH DATE 2024-01"), "\"0\"");
    assert_eq!(run(&mut client, "GW.SPENT k MONTH DATE 2024-02"), "\"2\"");
}

#[test]
fn days_and_weeks_hold_what_was_spent_in_them() {
    let (_server, mut client) = start();
    let now_ms = server_time_ms(&mut client);
    run(&mut client, "GW.ADDCOST k 1");
    run(&mut client, &format!("GW.ADDCOST k 10 AT {}", now_ms - 8 * 86_400_000));
    assert_eq!(run(&mut client, "GW.SPENT k DAY"), "\"1\"");
    assert_eq!(run(&mut client, "GW.SPENT k WEEK"), "\"1\"");
    assert_eq!(run(&mut client, "GW.SPENT k TOTAL"), "\"11\"");
}

#[test]
fn only_the_past_and_a_day_ahead_can_be_charged() {
    let (_server, mut client) = start();
    let now_ms = server_time_ms(&mut client);
    assert_eq!(run(&mut client, "GW.ADDCOST k 1 AT 0"), "\"1\"");
    let soon = run(&mut client, &format!("GW.ADDCOST soon 1 AT {}", now_ms + 86_000_000));
    assert_eq!(soon, "\"1\"");
    for at in ["-1", "9223372036854775807", "-9223372036854775808", "x", &(now_ms + 2 * 86_400_000).to_string()] {
        let error = run(&mut client, &format!("GW.ADDCOST late 1 AT {at}"));
        assert!(error.starts_with("ERR ") && error.ends_with(": AT"), "{at}: {error}");
    }
    assert_eq!(run(&mut client, "EXISTS late"), "0");
}

/// Splits GW.WITHINBUDGET's reply into its last field, reset_after_ms, and the fields before it.
fn within(client: &mut gw_testkit::redis::Connection, words: &str) -> (String, i64) {
    let reply = run(client, words);
    let (head, reset) = reply.strip_suffix(']').and_then(|reply| reply.rsplit_once(", ")).unwrap_or_else(|| {
        panic!("{words}: {reply}");
    });
    (head.to_owned(), reset.parse().unwrap())
}

#[test]
fn a_budget_is_within_while_something_is_left() {
    let (_server, mut client) = start();
    let (head, reset_after_ms) = within(&mut client, "GW.WITHINBUDGET k 10");
    assert_eq!(head, r#"[1, "MONTH", "10", "0", "0", "10""#);
    assert!((1..=31 * 86_400_000 + 3_600_000).contains(&reset_after_ms), "{reset_after_ms}");
    assert_eq!(run(&mut client, "EXISTS k"), "0");

    run(&mut client, "GW.ADDCOST k 9.5");
    assert_eq!(within(&mut client, "GW.WITHINBUDGET k 10").0, r#"[1, "MONTH", "10", "9.5", "0", "0.5""#);
    // An estimate must fit, to the last digit.
    assert_eq!(within(&mut client, "GW.WITHINBUDGET k 10 COST 0.5").0, r#"[1, "MONTH", "10", "9.5", "0", "0.5""#);
    let over = within(&mut client, "GW.WITHINBUDGET k 10 COST 0.500000000001").0;
    assert_eq!(over, r#"[0, "MONTH", "10", "9.5", "0", "0.5""#);

    run(&mut client, "GW.ADDCOST k 0.5");
    assert_eq!(within(&mut client, "GW.WITHINBUDGET k 10").0, r#"[0, "MONTH", "10", "10", "0", "0""#);
    assert_eq!(within(&mut client, "GW.WITHINBUDGET k 10 COST 0").0, r#"[1, "MONTH", "10", "10", "0", "0""#);
    // Overspent: the remaining amount is zero, not negative.
    assert_eq!(within(&mut client, "GW.WITHINBUDGET k 4").0, r#"[0, "MONTH", "4", "10", "0", "0""#);
}

#[test]
fn of_several_budgets_the_tightest_answers() {
    let (_server, mut client) = start();
    run(&mut client, "GW.ADDCOST k 3");
    let (head, reset_after_ms) = within(&mut client, "GW.WITHINBUDGET k 100 month 5 day 50 TOTAL");
    assert_eq!(head, r#"[1, "DAY", "5", "3", "0", "2""#);
    assert!((1..=25 * 3_600_000).contains(&reset_after_ms), "{reset_after_ms}");
    assert_eq!(within(&mut client, "GW.WITHINBUDGET k 100 MONTH 5 DAY 50 TOTAL COST 2.5").0[..2], *"[0");
    // Of equal budgets the first one named is replied.
    assert_eq!(within(&mut client, "GW.WITHINBUDGET k 5 WEEK 5 DAY").0, r#"[1, "WEEK", "5", "3", "0", "2""#);
    // A total never resets.
    assert_eq!(within(&mut client, "GW.WITHINBUDGET k 5 TOTAL"), (r#"[1, "TOTAL", "5", "3", "0", "2""#.to_owned(), -1));
}

#[test]
fn a_free_request_is_remembered_by_its_id() {
    let (_server, mut client) = start();
    assert_eq!(run(&mut client, "GW.ADDCOST k 0"), "\"0\"");
    assert_eq!(run(&mut client, "EXISTS k"), "0", "nothing to book, nothing to remember");
    assert_eq!(run(&mut client, "GW.ADDCOST k 0 ID a"), "\"0\"");
    assert_eq!(run(&mut client, "GW.ADDCOST k 5 ID a"), "\"0\"", "charged before, whatever the amount");
    run(&mut client, "GW.ADDCOST k 2");
    assert_eq!(run(&mut client, "GW.ADDCOST k 0 ID b"), "\"2\"");
    assert_eq!(run(&mut client, "GW.ADDCOST k 5 ID b"), "\"2\"");
}

#[test]
fn a_ledger_never_expires() {
    let (_server, mut client) = start();
    run(&mut client, "GW.ADDCOST k 1");
    assert_eq!(run(&mut client, "PTTL k"), "-1");
    assert_eq!(run(&mut client, "TYPE k"), "gw-ledger");
}

#[test]
fn nonsense_is_refused_in_the_same_words() {
    let (_server, mut client) = start();
    for (words, argument) in
        [("GW.ADDCOST k", "amount"), ("GW.WITHINBUDGET k", "budget"), ("GW.WITHINBUDGET k 1 COST", "COST")]
    {
        for amount in ["nan", "NaN", "inf", "-inf", "infinity", "0x10", "1,5", "1_000", "1.2.3", "e5", "-", "."] {
            let error = run(&mut client, &format!("{words} {amount}"));
            assert_eq!(error, format!("ERR not an amount: {argument}"), "{words} {amount}");
        }
        let (before, empty) = (command(words), "");
        assert_eq!(reply_line(before.clone().arg(empty).query(&mut client)), format!("ERR not an amount: {argument}"));
        for amount in ["-1", "-0.000000000001", "1e30", "1e400"] {
            let error = run(&mut client, &format!("{words} {amount}"));
            assert!(
                error.starts_with("ERR ") && error.ends_with(&format!(": {argument}")),
                "{words} {amount}: {error}"
            );
        }
    }
    for date in ["2024", "2024-13", "2024-00", "2024-02-30", "24-01", "2024-1", "2024-01-01T00:00", "x"] {
        let error = run(&mut client, &format!("GW.SPENT k MONTH DATE {date}"));
        assert_eq!(error, "ERR not a date as yyyy-mm or yyyy-mm-dd: DATE", "{date}");
    }
    let error = "ERR not DAY, WEEK, MONTH or TOTAL: FORTNIGHT";
    assert_eq!(run(&mut client, "GW.WITHINBUDGET k 1 FORTNIGHT"), error);
    assert_eq!(run(&mut client, "GW.SPENT k FORTNIGHT"), "ERR unknown option: FORTNIGHT");
    assert_eq!(run(&mut client, "DBSIZE"), "0");
}
