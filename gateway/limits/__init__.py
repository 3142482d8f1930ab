"""Requests and tokens a minute: how much of each an owner may use, shared between gateways or not."""

from gateway.limits.gate import RateGate
from gateway.limits.shared import SharedCounters

__all__ = ["RateGate", "SharedCounters"]
