"""How entries are made: plainly here; compiled code calls ``_message.entry`` by the same name."""

from __future__ import annotations

from kshark.api import Entry

entry = Entry
