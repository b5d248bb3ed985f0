"""kshark: Kubernetes API traffic as paired requests and responses, programmable in Python."""

from kshark import _pure

__version__ = "0.1.0"

_pure.install()
