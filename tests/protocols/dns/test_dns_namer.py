"""Names for addresses: who was told what, when, and what is never said."""

from __future__ import annotations

import socket
from itertools import count

import dns.message
import dns.name
import dns.rdatatype
import pytest
from dns_kit import SOA, head, query, reply
from hypothesis import given
from hypothesis import strategies as st

from kshark import limits
from kshark.api import Endpoint, Entry, Flow, Kind, Message, Outcome
from kshark.protocols.dns.answers import addresses, through_aliases
from kshark.protocols.dns.dissector import DnsDatagrams
from kshark.protocols.dns.namer import FULL, Namer

SECOND = limits.SECOND
NOW = 1_700_000_000 * SECOND
POD, OTHER, RESOLVER, SITE = "10.0.0.5", "10.0.0.6", "10.96.0.10", "192.0.2.1"
number = count()


def namer() -> Namer:
    return Namer(lambda text: None)


def told(
    name: str, *records: str, client: str = POD, at: int = NOW, kind: str = "A", rcode: int = 0
) -> Entry:
    """The entry of a query and its answer, which came `at` that time."""
    asked = query(name, kind)
    talk = DnsDatagrams()
    request, response = talk.read(asked), talk.read(reply(asked, *records, rcode=rcode))
    request.first_ns = request.last_ns = response.first_ns = response.last_ns = at
    ends = Endpoint(client, 4_000), Endpoint(RESOLVER, 53)
    flow = Flow(str(next(number)), "udp", *ends, protocol="dns", began_ns=at)
    outcome = Outcome.OK if response.ok else Outcome.ERROR
    return Entry(flow, 0, "dns", request, response, outcome)


def call(
    server: str = SITE,
    client: str = POD,
    began: int = NOW + 1,
    seq: int = 0,
    midstream: bool = False,
) -> Entry:
    """An entry of a later flow."""
    ends = Endpoint(client, 5_000), Endpoint(server, 443)
    flow = Flow(str(next(number)), "tcp", *ends, protocol="http", began_ns=began)
    asked = Message(Kind.REQUEST, first_ns=began)
    return Entry(flow, seq, "http", asked, None, Outcome.UNANSWERED, midstream=midstream)


def names(*entries: Entry, by: Namer | None = None) -> list[str | None]:
    """What those that are not of DNS are called."""
    found = (by or namer()).enrich(list(entries))
    return [entry.dst.dns for entry in found if entry.protocol != "dns"]


A = f"a.example. 60 IN A {SITE}"


def test_a_connection_has_the_name_that_was_asked_for() -> None:
    assert names(told("A.Example.", A), call()) == ["a.example"]


def test_before_the_answer_nothing_is_known() -> None:
    assert names(call(), told("a.example.", A)) == [None]
    assert names(told("a.example.", A), call(began=NOW - 1)) == [None]


def test_what_one_client_was_told_says_nothing_of_another() -> None:
    assert names(told("a.example.", A), call(client=OTHER), call(server="192.0.2.2")) == [None] * 2


def test_a_flow_that_began_before_the_capture() -> None:
    assert names(told("a.example.", A), call(midstream=True)) == [None]


def test_every_address_of_an_answer() -> None:
    more = [f"a.example. 60 IN A 192.0.2.{n}" for n in (1, 2, 3)]
    assert (
        names(told("a.example.", *more), call("192.0.2.2"), call("192.0.2.3")) == ["a.example"] * 2
    )
    six = told("a.example.", "a.example. 60 IN AAAA 2001:db8::7", kind="AAAA")
    assert names(six, call("2001:db8::7")) == ["a.example"]


def test_aliases_lead_to_the_name_that_was_asked_for() -> None:
    chain = [
        "www.example. 60 IN CNAME edge.example.net.",
        "edge.example.net. 60 IN CNAME Node.example.net.",
        f"node.example.net. 60 IN A {SITE}",
    ]
    assert names(told("www.example.", *chain), call()) == ["www.example"]
    assert names(told("www.example.", *reversed(chain)), call()) == ["www.example"]


def test_what_does_not_follow_from_the_question() -> None:
    """An address of another name, a hint for HTTPS, an error with addresses, one that is only additional."""
    assert names(told("a.example.", f"b.example. 60 IN A {SITE}"), call()) == [None]
    hint = f'a.example. 60 IN HTTPS 1 . ipv4hint="{SITE}"'
    assert names(told("a.example.", hint, kind="HTTPS"), call()) == [None]
    assert names(told("a.example.", A, rcode=2), call()) == [None]


def test_an_answer_that_did_not_fit_is_not_believed() -> None:
    entry = told("a.example.", A)
    assert entry.response is not None
    flags = entry.response.head[2] | 2
    entry.response.head = entry.response.head[:2] + bytes((flags,)) + entry.response.head[3:]
    assert names(entry, call()) == [None]


def test_an_answer_to_nobodys_question_is_not_believed() -> None:
    entry = told("a.example.", A)
    entry.request, entry.outcome = None, Outcome.ORPHAN
    assert names(entry, call()) == [None]


def test_time_to_live() -> None:
    kept = NOW + 60 * SECOND
    assert names(told("a.example.", A), call(began=kept), call(began=kept + 1)) == [
        "a.example",
        None,
    ]


def test_a_time_to_live_of_nothing_lasts_for_a_connection() -> None:
    """DNS_FOLLOWS."""
    entry, last = told("a.example.", f"a.example. 0 IN A {SITE}"), NOW + limits.DNS_FOLLOWS
    assert names(entry, call(began=last), call(began=last + 1)) == ["a.example", None]


def test_the_longest_time_to_live() -> None:
    """DNS_KEPT."""
    entry, last = told("a.example.", f"a.example. 2000000000 IN A {SITE}"), NOW + limits.DNS_KEPT
    assert names(entry, call(began=last), call(began=last + 1)) == ["a.example", None]


def test_the_shortest_of_a_chain_counts() -> None:
    chain = ["a.example. 20 IN CNAME b.example.", f"b.example. 600 IN A {SITE}"]
    last = NOW + 20 * SECOND
    assert names(told("a.example.", *chain), call(began=last), call(began=last + 1)) == [
        "a.example",
        None,
    ]


def test_the_last_answer_before_the_connection_wins() -> None:
    """Behind one address are two names; the first connection's entry comes after the second question."""
    later = NOW + 2 * SECOND
    entries = [
        told("a.example.", A),
        told("b.example.", f"b.example. 60 IN A {SITE}", at=later),
        call(began=NOW + SECOND),
        call(began=later + 1),
    ]
    assert names(*entries) == ["a.example", "b.example"]


def test_more_answers_than_are_kept() -> None:
    """DNS_BEFORE fires: of the first of them nothing is known any more."""
    kept = limits.DNS_BEFORE
    asked = [
        told(f"n{n}.example.", f"n{n}.example. 600 IN A {SITE}", at=NOW + 2 * n)
        for n in range(kept + 1)
    ]
    calls = [call(began=NOW + 2 * n + 1) for n in range(kept + 1)]
    assert names(*asked, *calls) == [None, *(f"n{n}.example" for n in range(1, kept + 1))]


def test_asking_again_prolongs() -> None:
    """A connection between two answers of one name keeps it, though its first entry comes after both."""
    again = told("a.example.", A, at=NOW + 50 * SECOND)
    first, last = call(began=NOW + SECOND), call(began=NOW + 100 * SECOND)
    assert names(told("a.example.", A), again, first, last) == ["a.example"] * 2
    assert names(
        told("a.example.", A),
        told("a.example.", A, at=NOW + 70 * SECOND),
        call(began=NOW + 65 * SECOND),
    ) == [None]


def test_more_addresses_than_are_kept() -> None:
    """DNS_ADDRESSES fires: the oldest half is forgotten, and it is said once."""
    said: list[str] = []
    one = Namer(said.append)
    size = 128
    for start in range(0, limits.DNS_ADDRESSES + size, size):
        records = [
            f"a.example. 60 IN A {socket.inet_ntoa((0x0B000000 + start + n).to_bytes(4))}"
            for n in range(size)
        ]
        one.enrich([told("a.example.", *records)])
    kept = [*one.young.values(), *one.old.values()]
    assert sum(map(len, kept)) <= limits.DNS_ADDRESSES
    assert said == [FULL]
    last = socket.inet_ntoa((0x0B000000 + limits.DNS_ADDRESSES // 2 + 1).to_bytes(4))
    assert names(call("11.0.0.0"), call(last), by=one) == [None, "a.example"]


def test_a_flow_is_asked_for_now_and_then() -> None:
    """The answer that another process saw comes late: with the next entry whose number is a power of two."""
    one, flow = namer(), call()
    late = [Entry(flow.flow, seq, "http", flow.request, None, Outcome.OK) for seq in range(5)]
    assert names(*late[:2], by=one) == [None] * 2
    one.enrich([told("a.example.", A)])
    assert names(late[3], by=one) == [None]
    assert names(late[4], by=one) == ["a.example"]


def test_what_the_server_asks_is_not_what_the_client_was_told() -> None:
    entry = told("a.example.", A)
    entry.swapped = True
    assert names(entry, call()) == [None]


@pytest.mark.parametrize("server", ["", "shop", "fe80::1%eth0", "1.2.3"])
def test_an_end_that_has_no_address(server: str) -> None:
    assert names(told("a.example.", A), call(server)) == [None]


# ---------------------------------------------------------------- the addresses of a message

QUESTION = query("a.example.", "A")[12:]


@pytest.mark.parametrize(
    "data",
    [b"", head(7, 0x8180), head(7, 0x8180, 2) + QUESTION * 2, head(7, 0x8180, 1, 9) + QUESTION],
    ids=["nothing", "no question", "two questions", "no records"],
)
def test_no_addresses(data: bytes) -> None:
    assert addresses(data) == []


def test_aliases_in_a_circle() -> None:
    asked = query("a.example.")
    made = reply(asked, "a.example. 1 IN CNAME b.example.", "b.example. 1 IN CNAME a.example.")
    assert addresses(made) == []


def test_what_the_snap_length_left() -> None:
    made = reply(query("a.example."), *[f"a.example. 60 IN A 192.0.2.{n}" for n in range(3)])
    assert [raw[3] for raw, _ in addresses(made[:-4])] == [0, 1]


@given(st.binary(max_size=200))
def test_whatever_comes(rest: bytes) -> None:
    for data in (rest, head(7, 0x8180, 1, 3) + QUESTION + rest):
        for raw, ttl in (*addresses(data), *through_aliases(data)):
            assert len(raw) in (4, 16)
            assert 0 <= ttl < 1 << 32


NAMES = st.sampled_from(["a.example.", "b.example.", "c.example.", "A.EXAMPLE."])


@given(
    st.lists(
        st.tuples(NAMES, st.one_of(NAMES, st.ip_addresses().map(str)), st.integers(0, 99)),
        max_size=8,
    )
)
def test_against_dnspython(records: list[tuple[str, str, int]]) -> None:
    """Its `resolve_chaining` follows aliases, too; where it finds an answer, we find the same."""
    kinds = [
        "CNAME" if one.endswith(".") else "AAAA" if ":" in one else "A" for _, one, _ in records
    ]
    asked = query("a.example.", "A")
    lines = [
        f"{name} {ttl} IN {kind} {one}"
        for (name, one, ttl), kind in zip(records, kinds, strict=True)
    ]
    data = reply(asked, *lines, more=SOA)
    try:
        chain = dns.message.from_wire(data).resolve_chaining()  # type: ignore[attr-defined]
    except Exception:
        return
    theirs = {socket.inet_pton(socket.AF_INET, str(one)) for one in chain.answer or ()}
    ours = {raw for raw, _ in addresses(data) if len(raw) == 4}
    aliases = [
        name.lower() for (name, _, _), kind in zip(records, kinds, strict=True) if kind == "CNAME"
    ]
    others = {
        name.lower() for (name, _, _), kind in zip(records, kinds, strict=True) if kind != "CNAME"
    }
    if len(aliases) == len(set(aliases)) and not others & set(
        aliases
    ):  # else nobody says which holds
        assert ours == theirs
