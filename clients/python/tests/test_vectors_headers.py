"""Limits become the same HTTP headers in every language."""

from __future__ import annotations

from typing import Any

import pytest
from redis_gateway._commands import Request, admission_headers, requests, verdict_headers
from vectors import load, name_of

VECTORS = load("headers.json")
NOW_MS: int = VECTORS["now_ms"]
Case = dict[str, Any]


def read(request: Request[Any], reply: object) -> Any:
    return request.decode(reply)


@pytest.mark.parametrize("case", VECTORS["verdicts"], ids=lambda case: str(case["reply"]))
def test_a_limiters_headers(case: Case) -> None:
    verdict = read(requests.allow("k", 1), case["reply"])
    assert verdict_headers(case["name"], verdict, case["period_ms"], NOW_MS) == case["headers"]


@pytest.mark.parametrize("case", VECTORS["admissions"], ids=name_of)
def test_an_admissions_headers(case: Case) -> None:
    admission = read(requests.admit("a", lease_id="l", ttl_ms=1), case["reply"])
    options = {name: case[name] for name in ("meters", "families") if name in case}
    assert admission_headers(admission, NOW_MS, **options) == case["headers"]


def test_rows_without_details_make_no_headers() -> None:
    reply = [0, 1500, [["a", "rpm", 0, 1, 0, 1500, 60000]]]
    admission = read(requests.admit("a", lease_id="l", ttl_ms=1), reply)
    assert admission_headers(admission, NOW_MS) == {"Retry-After": "2"}
