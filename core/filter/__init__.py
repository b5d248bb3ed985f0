"""Filters: one line of CEL, checked against the protocols' schemas, compiled to a Python predicate.

>>> from kshark.filter import compile_filter
>>> from kshark.plugins import load
>>> wanted = compile_filter("http && response.status >= 500", load().protocols)
>>> sorted(wanted.protocols), wanted.needs_details
(['http'], False)
"""

from kshark.filter.compile import Filter, compile_filter
from kshark.filter.fields import Field, known_fields

__all__ = ["Field", "Filter", "compile_filter", "known_fields"]
