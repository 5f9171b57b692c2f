use super::*;
use proptest::prelude::*;

fn parsed(text: &str) -> Result<String, AmountError> {
    Amount::parse(text.as_bytes()).map(|amount| amount.to_string())
}

#[test]
fn decimals_are_read_and_written() {
    for (text, written) in [
        ("0", "0"),
        ("-0", "0"),
        ("+0.000", "0"),
        ("1", "1"),
        ("+1", "1"),
        ("-1", "-1"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("5.", "5"),
        ("0.002", "0.002"),
        ("0.0000015", "0.0000015"),
        ("1.5e-07", "0.00000015"),
        ("1E3", "1000"),
        ("1e+3", "1000"),
        ("00012.3400", "12.34"),
        ("1000000", "1000000"),
        ("18446744.073709551615", "18446744.073709551615"),
        ("18446744.073709551616", "18446744.073709551616"),
        ("999999999999999999.999999999999", "999999999999999999.999999999999"),
        ("1000000000000000000", "1000000000000000000"),
        ("-1e18", "-1000000000000000000"),
        ("0.000000000001", "0.000000000001"),
        ("1e-12", "0.000000000001"),
        ("0e999999999999", "0"),
        ("0.0e-999999999999", "0"),
        ("1e-400", "0"),
        ("1e-99999999999999999999999999", "0"),
    ] {
        assert_eq!(parsed(text).as_deref(), Ok(written), "{text}");
    }
}

#[test]
fn finer_places_are_rounded_half_to_even_by_the_whole_text() {
    for (text, written) in [
        ("0.0000000000005", "0"),
        ("0.0000000000015", "0.000000000002"),
        ("0.0000000000025", "0.000000000002"),
        ("-0.0000000000015", "-0.000000000002"),
        ("-0.0000000000005", "0"),
        ("0.00000000000050000000000000000000000000000000001", "0.000000000001"),
        ("0.00000000000249999999999999999999999999999999999", "0.000000000002"),
        ("5e-13", "0"),
        ("5.0000001e-13", "0.000000000001"),
        ("9e-14", "0"),
        ("9.9999999999995", "10"),
        ("999999999999999999.9999999999996", "1000000000000000000"),
        ("1000000000000000000.0000000000005", "1000000000000000000"),
    ] {
        assert_eq!(parsed(text).as_deref(), Ok(written), "{text}");
    }
}

#[test]
fn texts_other_than_decimals_are_refused() {
    for text in [
        "",
        "+",
        "-",
        ".",
        "-.",
        "e5",
        ".e5",
        "1e",
        "1e+",
        "1e1.5",
        "1e5e5",
        "1..2",
        "1.2.3",
        "--1",
        "+-1",
        " 1",
        "1 ",
        "1_000",
        "1,5",
        "0x10",
        "1f",
        "NaN",
        "nan",
        "inf",
        "-Infinity",
        "1e400x",
        "1\0",
        "\u{0661}",
    ] {
        assert_eq!(parsed(text), Err(AmountError::NotANumber), "{text:?}");
    }
    assert_eq!(Amount::parse(b"\xff"), Err(AmountError::NotANumber));
}

#[test]
fn amounts_out_of_range_are_refused() {
    for text in ["1000000000000000000.000000000001", "1e19", "-1e19", "1e400", "1e999999999999", "0.1e30"] {
        assert_eq!(parsed(text), Err(AmountError::OutOfRange), "{text}");
    }
    assert_eq!(parsed(&"9".repeat(TEXT_MAX_BYTES)), Err(AmountError::OutOfRange));
}

#[test]
fn long_texts_are_read_up_to_the_bound() {
    // A short number far from the point, on either side.
    let zeros = "0".repeat(1_000);
    assert_eq!(parsed(&format!("{zeros}7{zeros}e-1000")).as_deref(), Ok("7"));
    assert_eq!(parsed(&format!("0.{zeros}7e+1001")).as_deref(), Ok("7"));
    // The smallest double, in full.
    assert_eq!(parsed(&format!("{:.1074}", f64::from_bits(1))).as_deref(), Ok("0"));
    assert_eq!(parsed(&"0".repeat(TEXT_MAX_BYTES)).as_deref(), Ok("0"));
    assert_eq!(parsed(&"0".repeat(TEXT_MAX_BYTES + 1)), Err(AmountError::TooLong));
    assert_eq!(parsed(&"7".repeat(10 << 20)), Err(AmountError::TooLong));
}

#[test]
fn a_sum_of_many_amounts_does_not_drift() {
    let price = Amount::parse(b"0.0000015").expect("a price");
    let sum = (0..100_000).try_fold(Amount::ZERO, |sum, _| sum.checked_add(price)).expect("within range");
    assert_eq!(sum.to_string(), "0.15");
}

#[test]
fn sums_beyond_the_range_are_refused() {
    let pico = Amount(1);
    let lowest = Amount(-Amount::MAX.0);
    assert_eq!(Amount::MAX.checked_add(pico), None);
    assert_eq!(lowest.checked_sub(pico), None);
    assert_eq!(Amount::MAX.checked_sub(pico).and_then(|less| less.checked_add(pico)), Some(Amount::MAX));
    assert_eq!(Amount::MAX.checked_add(lowest), Some(Amount::ZERO));
    assert_eq!(Amount(i128::MIN).checked_add(Amount(i128::MIN)), None);
    assert_eq!(Amount::from_picos(Amount::MAX.0 + 1), None);
    assert_eq!(Amount::from_picos(i128::MIN), None);
    assert_eq!(Amount::from_picos(-Amount::MAX.0), Some(lowest));
}

#[test]
fn every_count_can_be_written() {
    assert_eq!(Amount(i128::MIN).to_string(), "-170141183460469231731687303.715884105728");
    assert_eq!(Amount(i128::MAX).to_string(), "170141183460469231731687303.715884105727");
    let mut out = b"spent ".to_vec();
    Amount(-1_230_000_000_000).write_to(&mut out);
    assert_eq!(out, b"spent -1.23");
}

/// A naive model that works on the text alone: shifts the decimal point and rounds digit by digit.
fn naive(text: &str) -> Result<String, AmountError> {
    let bad = AmountError::NotANumber;
    let (sign, number) = match text.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = number.to_ascii_lowercase();
    let (mantissa, exponent) = match lower.split_once('e') {
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || digits.bytes().any(|byte| !byte.is_ascii_digit()) {
                return Err(bad);
            }
            (mantissa, exponent.parse::<i32>().map_err(|_| bad)?)
        }
        None => (lower.as_str(), 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || all.bytes().any(|byte| !byte.is_ascii_digit()) {
        return Err(bad);
    }
    // Zeros on both sides, so that the point of the picos lies within the digits.
    let pad = 1_100;
    let digits = format!("{}{all}{}", "0".repeat(pad), "0".repeat(pad));
    let point = (pad + whole.len()) as i32 + exponent + PLACES as i32;
    let (kept, dropped) = digits.split_at(usize::try_from(point).expect("an exponent of three digits"));
    let mut kept = kept.as_bytes().to_vec();
    let half = format!("5{}", "0".repeat(dropped.len() - 1));
    let odd = kept.last().is_some_and(|digit| digit % 2 == 1);
    if dropped > half.as_str() || dropped == half && odd {
        for digit in kept.iter_mut().rev() {
            *digit = if *digit == b'9' { b'0' } else { *digit + 1 };
            if *digit != b'0' {
                break;
            }
        }
    }
    let picos = String::from_utf8(kept).expect("digits");
    let picos = picos.trim_start_matches('0');
    let max = Amount::MAX.picos().to_string();
    if picos.len() > max.len() || picos.len() == max.len() && picos > max.as_str() {
        return Err(AmountError::OutOfRange);
    }
    let picos = format!("{picos:0>13}");
    let (units, fraction) = picos.split_at(picos.len() - PLACES);
    let plain = format!("{units}.{fraction}");
    let plain = plain.trim_end_matches('0').trim_end_matches('.');
    Ok(if plain == "0" { "0".to_owned() } else { format!("{sign}{plain}") })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn reads_like_the_naive_model(text in "[+-]?[0-9]{0,32}(\\.[0-9]{0,32})?([eE][+-]?[0-9]{1,2})?") {
        prop_assert_eq!(parsed(&text), naive(&text));
    }

    #[test]
    fn reads_short_decimals_like_the_naive_model(text in "-?[0-9]{0,12}\\.?[0-9]{0,14}") {
        prop_assert_eq!(parsed(&text), naive(&text));
    }

    #[test]
    fn rounds_like_the_naive_model(text in "[0-9]{0,2}\\.[0-9]{10,12}[05]{1,3}[01]?(e[+-]?[0-3])?") {
        prop_assert_eq!(parsed(&text), naive(&text));
    }

    #[test]
    fn refuses_like_the_naive_model(text in "[0-9.eE+-]{0,5}") {
        prop_assert_eq!(parsed(&text), naive(&text));
    }

    #[test]
    fn any_bytes_are_read_without_panic(text: Vec<u8>) {
        let _ = Amount::parse(&text);
    }

    #[test]
    fn written_amounts_are_read_back(picos in -Amount::MAX.0..=Amount::MAX.0, shift in 0u32..100) {
        let amount = Amount(picos >> shift);
        prop_assert_eq!(Amount::parse(amount.to_text().as_bytes()), Ok(amount));
    }
}
