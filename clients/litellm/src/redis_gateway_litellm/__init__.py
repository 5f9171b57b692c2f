"""Limits and budgets of LiteLLM's proxy by redis-gateway: `callbacks: ["redis_gateway_litellm.gateway"]`."""

from .handler import GatewayLogger
from .settings import PluginSettings

__version__ = "0.1.0"
__all__ = ["GatewayLogger", "PluginSettings", "gateway"]

gateway = GatewayLogger()
"""What config.yaml names."""
