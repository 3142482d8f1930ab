"""How many tokens a prompt has, before an engine is asked."""

from gateway.tokens.counter import Count, TokenCounter
from gateway.tokens.store import TokenizerStore

__all__ = ["Count", "TokenCounter", "TokenizerStore"]
