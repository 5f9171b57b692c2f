"""The same request has the same cache key from every client and from the server."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from redis_gateway._commands import NotCanonical, cache_key, canonical
from redis_gateway._commands._cachekey import parse
from vectors import from_json, load, name_of

VECTORS = load("cache-keys.json")
Case = dict[str, Any]


def kept(case: Case) -> Any:
    value = json.loads(case["json"])
    if isinstance(value, dict):
        return {name: member for name, member in value.items() if name not in case["ignore"]}
    return value


@pytest.mark.parametrize("case", VECTORS["keys"] + VECTORS["not_objects"] + VECTORS["large"], ids=name_of)
def test_a_request_has_the_servers_key(case: Case) -> None:
    assert canonical(kept(case)).decode() == case["canonical"]
    assert hashlib.sha256(canonical(kept(case))).hexdigest() == case["sha256"]
    for request in (json.loads(case["json"]), parse(case["json"]), parse(case["json"].encode())):
        assert cache_key("llm", request, ignore=case["ignore"]) == f"llm:{case['sha256']}"


@pytest.mark.parametrize("case", VECTORS["tenants"], ids=lambda case: case["key"])
def test_a_key_says_the_tenant(case: Case) -> None:
    request = json.loads(case["json"])
    assert cache_key(case["category"], request, tenant=case["tenant"], ignore=case["ignore"]) == case["key"]


@pytest.mark.parametrize("case", VECTORS["refused"] + VECTORS["refused_bytes"])
def test_a_text_that_could_have_two_keys_is_refused(case: Case) -> None:
    with pytest.raises(NotCanonical):
        parse(from_json(case.get("json", case)))


def test_a_colon_is_refused() -> None:
    for tenant in VECTORS["refused_tenants"]:
        with pytest.raises(ValueError, match="colon"):
            cache_key("chat", {}, tenant=tenant)
    for category in VECTORS["refused_categories"]:
        with pytest.raises(ValueError, match="colon"):
            cache_key(category, {})


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        2**53 + 1,
        -(2**53) - 1,
        10**400,
        "\ud800",
        {"\udc00": 1},
        {1: 2},
        {"a": b"x"},
        {"a": {1}},
        object(),
    ],
    ids=repr,
)
def test_a_value_without_a_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(NotCanonical):
        canonical(value)


def test_nesting_has_a_bound() -> None:
    value: object = 1
    for _ in range(128):
        value = [value]
    assert canonical(value) == b"[" * 128 + b"1" + b"]" * 128
    with pytest.raises(NotCanonical):
        canonical({"a": value})
