"""Error replies become types."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from redis_gateway import _errors as errors
from vectors import load, name_of

CASES: list[dict[str, Any]] = load("errors.json")["cases"]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_an_error_has_the_type_of_its_code(case: dict[str, Any]) -> None:
    made = [errors.error_of(case["line"]), errors.error_with(case["code"], case["text"])]
    if case["code"] == "ERR":
        # Clients leave this code out.
        made.append(errors.error_of(case["text"]))
    for error in made:
        assert type(error) is getattr(errors, case["type"])
        assert (error.code, error.text) == (case["code"], case["text"])
        assert (error.away, error.retry) == (case["away"], case["retry"])
        assert str(error) == case["line"]
        for name, value in (case["fields"] or {}).items():
            assert getattr(error, name) == value


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_an_error_goes_between_processes(case: dict[str, Any]) -> None:
    error = errors.error_of(case["line"])
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), vars(copy)) == (type(error), vars(error))


def test_all_errors_have_one_base() -> None:
    assert all(issubclass(kind, errors.GatewayError) for kind in errors.BY_CODE.values())
