"""Fixtures of the engine's tests."""

from fakes import table

__all__ = ["table"]
