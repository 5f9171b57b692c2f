"""Amounts mean what the server takes them for."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from redis_gateway._commands import EXACT, Amount, format_amount, parse_amount, requests
from vectors import load

VECTORS = load("amounts.json")
Case = dict[str, Any]


@pytest.mark.parametrize("case", VECTORS["texts"], ids=lambda case: repr(case["given"]))
def test_a_text_is_the_servers_amount(case: Case) -> None:
    if "error" in case:
        with pytest.raises(ValueError, match=f"^{case['error']}$"):
            parse_amount(case["given"])
    else:
        assert format_amount(parse_amount(case["given"])) == case["value"]


@pytest.mark.parametrize("case", VECTORS["floats"], ids=lambda case: repr(case["given"]))
def test_a_float_is_sent_as_the_number_that_it_shows(case: Case) -> None:
    args = requests.add_cost("k", case["given"]).args
    assert format_amount(parse_amount(str(args[-1]))) == case["value"]


@pytest.mark.parametrize("case", VECTORS["sums"], ids=lambda case: case["value"])
def test_sums_are_exact(case: Case) -> None:
    total = Decimal(0)
    for text in case["given"]:
        total = EXACT.add(total, parse_amount(text))
    assert format_amount(total) == case["value"]


def test_an_amount_is_sent_as_it_is() -> None:
    cases: list[tuple[Amount, str]] = [
        (Decimal("1E+3"), "1E+3"),
        (Decimal("0.10"), "0.10"),
        (7, "7"),
        ("1.5e-07", "1.5e-07"),
        (0.1, "0.1"),
    ]
    for given, sent in cases:
        assert requests.add_cost("k", given).args == ("GW.ADDCOST", b"k", sent)


def test_a_long_text_is_refused() -> None:
    with pytest.raises(ValueError, match="amount too long"):
        parse_amount("1" * 2049)
    assert parse_amount("0" * 2047 + "1") == 1
