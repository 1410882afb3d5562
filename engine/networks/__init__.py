"""Where containers talk: one bridge per tenant and host, and walls between tenants, instances and the host."""

from engine.networks.endpoints import Endpoint
from engine.networks.networks import Networks

__all__ = ["Endpoint", "Networks"]
