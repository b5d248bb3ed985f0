"""Fixtures of the tests with a real server."""

from redis_proxy import recorder, redis_port

__all__ = ["recorder", "redis_port"]
