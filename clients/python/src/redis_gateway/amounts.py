"""What was used, as it is told."""

from __future__ import annotations

from ._commands import Amount, parse_amount

__all__ = ["checked_amount"]


def checked_amount(name: str, amount: Amount) -> Amount:
    """Raises ValueError if the server would refuse it. A settlement is too late to find that out."""
    try:
        allowed = parse_amount(repr(amount) if isinstance(amount, float) else str(amount)) >= 0
    except ValueError:
        allowed = False
    if not allowed:
        raise ValueError(f"{name}: an amount from 0 to 10^18")
    return amount
