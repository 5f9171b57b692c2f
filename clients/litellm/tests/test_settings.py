"""Settings and estimates."""

from __future__ import annotations

from decimal import Decimal

import pytest

from redis_gateway_litellm.estimates import Prices, estimate, price_of, size
from redis_gateway_litellm.handler import LOOKED_UP, GatewayLogger
from redis_gateway_litellm.settings import credentials_of, read_settings


def test_the_file_wins_over_the_environment() -> None:
    environment = {"REDIS_GATEWAY_URL": "redis://one:1", "REDIS_GATEWAY_TIMEOUT": "0.5", "SECRET": "redis://two:2"}
    settings = read_settings({"url": "os.environ/SECRET", "away": "open"}, environment)
    assert (settings.url, settings.timeout, settings.away) == ("redis://two:2", 0.5, "open")
    assert settings.for_client().away.admission == "open"


def test_litellms_own_server_is_the_default() -> None:
    assert read_settings(None, {}).url == "redis://localhost:6379"
    told = {"REDIS_HOST": "there", "REDIS_PORT": "7", "REDIS_SSL": "true", "REDIS_PASSWORD": "p"}
    assert read_settings(None, told).url == "rediss://there:7"
    assert credentials_of(told, "rediss://there:7") == {"password": "p"}
    assert credentials_of(told, "redis://:q@there:7") == {}
    assert read_settings(None, {"REDIS_URL": "redis://here:8"}).url == "redis://here:8"


@pytest.mark.parametrize(
    ("configured", "text"),
    [
        ({"uri": "redis://one:1"}, "redis_gateway.uri: not a setting"),
        ({"away": "maybe"}, "redis_gateway.away: one of closed, open, local"),
        ({"timeout": "soon"}, "redis_gateway.timeout: not of the right kind"),
        ({"present_spend": "perhaps"}, "redis_gateway.present_spend"),
        ({"prefix": "{a}"}, "redis_gateway.prefix"),
        ("redis://one:1", "litellm_settings.redis_gateway"),
    ],
)
def test_mistakes_are_told(configured: object, text: str) -> None:
    with pytest.raises(ValueError, match="redis_gateway") as told:
        read_settings(configured, {})
    assert text in str(told.value)


@pytest.mark.parametrize(("away", "admission"), [("local", "open"), ("open", "open"), ("closed", "closed")])
def test_while_the_server_is_away(away: str, admission: str) -> None:
    """Without it, the client lets pass what this process then limits by itself."""
    assert read_settings({"away": away}, {}).for_client().away.admission == admission
    assert read_settings({}, {}).away == "local"


class Fixed(Prices):
    def of(self, model: str, team: str | None = None) -> tuple[Decimal, Decimal]:
        return Decimal("0.001"), Decimal("0.002")


def test_estimates() -> None:
    data = {"model": "m", "messages": [{"role": "user", "content": "x" * 26}], "max_tokens": 20}
    guess = estimate(data, "acompletion", 1_000, Fixed())
    assert (guess.input_tokens, guess.output_tokens) == (10, 20)
    assert guess.amounts() == {"tokens": 30, "input_tokens": 10, "output_tokens": 20, "usd": "0.05"}
    assert guess.input_usd == Decimal("0.01")
    assert estimate({**data, "n": 3}, "acompletion", 1_000, Fixed()).output_tokens == 60
    assert estimate({"model": "m", "messages": []}, "acompletion", 1_000, Fixed()).output_tokens == 1_000
    assert estimate({"model": "m", "input": ["x" * 3]}, "aembedding", 1_000, Fixed()).output_tokens == 0
    # A bound that is no number is the provider's business.
    assert estimate({**data, "max_tokens": "many"}, "acompletion", 7, Fixed()).output_tokens == 7


def test_a_price_is_looked_up_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM's get_model_info asks Ollama and Hugging Face, in the middle of the event loop."""
    import litellm

    def asks(*_: object, **__: object) -> None:
        raise AssertionError("somebody was asked")

    for name in ("get_model_info", "utils.get_model_info"):
        monkeypatch.setattr(f"litellm.{name}", asks)
    known = price_of({"litellm_params": {"model": "openai/gpt-4o"}})
    assert known == tuple(
        Decimal(str(litellm.model_cost["gpt-4o"][f"{way}_cost_per_token"])) for way in ("input", "output")
    )
    for model in ("ollama/mine", "huggingface/mine/too", None, 7):
        assert price_of({"litellm_params": {"model": model}}) == (0, 0)
    told = {"model": "ollama/mine", "input_cost_per_token": "0.5", "output_cost_per_token": float("nan")}
    assert price_of({"litellm_params": told}) == (Decimal("0.5"), 0)


def test_the_size_of_a_request() -> None:
    assert size({"a": ["xy", {"b": "z"}]}) == 3
    # A letter of Chinese is about a token.
    assert size("\u6d77") == 3
    # An image is not read as text.
    assert size("data:image/png;base64," + "A" * 1_000_000) == 3_000
    # Tokens instead of text.
    assert size([1, 2, 3]) == 9


def test_a_subclass_has_the_hooks_that_litellm_looks_up_in_it() -> None:
    class Plain(GatewayLogger):
        pass

    class Own(GatewayLogger):
        async def async_pre_call_hook(self, *_: object, **__: object) -> None:
            raise NotImplementedError

    own = Own.async_pre_call_hook
    assert set(LOOKED_UP) <= set(vars(Plain))
    assert set(LOOKED_UP) <= set(vars(Own))
    assert vars(Own)["async_pre_call_hook"] is own
    assert set(LOOKED_UP) <= set(vars(GatewayLogger))
