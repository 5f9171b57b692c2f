"""Amounts: decimals that are exact to 12 places, from -10^18 to 10^18."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal

#: The most bytes of a text.
TEXT_MAX = 2048
#: The furthest from zero.
AMOUNT_MAX = Decimal(10**18)
#: All digits of any two amounts together: arithmetic in it is exact, while the default context rounds to 28 digits.
EXACT = Context(prec=64, rounding=ROUND_HALF_EVEN)

_PLACES = Decimal("1e-12")
_TEXT = re.compile(r"([+-]?)([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]+))?")


def parse_amount(text: str) -> Decimal:
    """What the server takes a text for, or `ValueError` with the words of its error."""
    if len(text) > TEXT_MAX:
        raise ValueError("amount too long")
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError("not an amount")
    sign, digits, exponent = match[1], match[2], int(match[3] or "0")
    number = Decimal(digits)
    # The place of the first digit decides whether it is far out of range or far too small, before any rounding.
    first = number.adjusted() + exponent
    if number == 0 or first < -14:
        return Decimal(0)
    if first > 18:
        raise ValueError("amount out of range")
    rounded = number.scaleb(exponent, Context(prec=TEXT_MAX)).quantize(_PLACES, context=EXACT)
    if rounded > AMOUNT_MAX:
        raise ValueError("amount out of range")
    return EXACT.minus(rounded) if sign == "-" and rounded else rounded


def format_amount(amount: Decimal) -> str:
    """A plain decimal, as the server writes it: no exponent, no zeros at the end."""
    text = format(amount, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text
