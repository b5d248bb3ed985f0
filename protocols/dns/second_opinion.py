"""Which of tshark's fields are ours: for ``kshark verify``. What multicast DNS announces has no counterpart there."""

from __future__ import annotations

from typing import Any, Final

TSHARK: Final[dict[str, Any]] = {
    "filter": "(dns or mdns or llmnr) and not http2",
    "decode_as": "dns",
    "request": {
        "present": "dns.flags.response",
        "only": {"dns.flags.response": "0"},
        "fields": {"target": "dns.qry.name"},
        "values": {"target": {"<Root>": ".", "*": ""}},
    },
    "response": {
        "present": "dns.flags.rcode",
        "only": {"dns.flags.response": "1"},
        "fields": {"status": "dns.flags.rcode"},
    },
}
