"""Fixtures of the tests with a real server."""

from dns_server import dns_port, relay

__all__ = ["dns_port", "relay"]
