"""Limits on how often somebody may do something, and the delay of those who guess passwords."""

from streambroker.transport.limiting.addresses import network
from streambroker.transport.limiting.guard import Guard
from streambroker.transport.limiting.rates import RateLimits
from streambroker.transport.limiting.shares import Kind, Policy, Standing
from streambroker.transport.limiting.who import counted_as

__all__ = ["Guard", "Kind", "Policy", "RateLimits", "Standing", "counted_as", "network"]
