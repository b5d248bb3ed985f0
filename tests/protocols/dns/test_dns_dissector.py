"""What a message is in a row, what pairs with what, and what stays apart."""

from __future__ import annotations

import pytest
from dns_kit import SOA, WWW, C, S, Talk, framed, head, query, reply
from msgspec.structs import replace

from kshark import limits
from kshark.api import DissectError, Kind, Message
from kshark.protocols.dns import DATAGRAMS, SPEC
from kshark.protocols.dns.dissector import CONTINUED, INCOMPLETE, DnsDatagrams
from kshark.testing import converse, messages, rows

EMPTY = b"\0"
QUESTION = WWW[12:]
BADVERS = b"\0\0)\x10\0\x01\0\0\0\0\0"  # EDNS with the upper bits of code 16


def said(talk: Talk) -> list[str]:
    return rows(converse(DATAGRAMS, talk))


def read(data: bytes) -> Message:
    return DnsDatagrams().read(data)


def test_a_row_says_what_was_asked_and_what_came_of_it() -> None:
    [entry] = converse(DATAGRAMS, [(C, WWW), (S, reply(WWW, rcode=2))])
    assert entry.request is not None
    assert entry.response is not None
    assert (entry.request.verb, entry.request.target) == ("A", "www.example.com")
    assert (entry.response.status, entry.response.target, entry.response.ok) == (
        2,
        "SERVFAIL",
        False,
    )
    assert entry.outcome == "error"
    assert (entry.request.size, entry.response.size) == (len(WWW), len(reply(WWW)))


def test_the_case_of_a_name_does_not_matter() -> None:
    assert said([(C, WWW), (S, reply(WWW).replace(b"www", b"wWw"))]) == [
        "A www.example.com -> A [ok]"
    ]


@pytest.mark.parametrize(
    "forged",
    [
        reply(query("evil.example.com.", "A", 7)),  # another name
        reply(query("www.example.com.", "AAAA", 7)),  # another type
        reply(query("www.example.com.", "A", 8)),  # another id
    ],
    ids=["name", "type", "id"],
)
def test_an_answer_to_another_question_pairs_with_nothing(forged: bytes) -> None:
    outcomes = [e.outcome for e in converse(DATAGRAMS, [(C, WWW), (S, forged), (S, reply(WWW))])]
    assert outcomes == ["orphan", "ok"]


def test_a_reused_id() -> None:
    """The answer to the first question comes after the same id has asked another."""
    other = query("other.example.", "A", 7)
    talk: Talk = [(C, WWW), (C, other), (S, reply(WWW)), (S, reply(other))]
    assert said(talk) == ["A www.example.com -> A [ok]", "A other.example -> A [ok]"]


def test_a_query_that_is_sent_again() -> None:
    """The answer goes with the copy that was sent last; the first copy is unanswered, a second answer an orphan."""
    talk: Talk = [(C, WWW), (C, WWW), (S, reply(WWW)), (S, reply(WWW))]
    assert [e.outcome for e in converse(DATAGRAMS, talk)] == ["unanswered", "ok", "orphan"]


def test_an_answer_without_a_question_belongs_to_its_id() -> None:
    talk: Talk = [(C, WWW), (S, head(7, 0x8001))]
    assert said(talk) == ["A www.example.com -> QUERY 1 FORMERR [error]"]
    assert said([(C, WWW), (S, head(8, 0x8001))]) == [
        "- -> QUERY 1 FORMERR [orphan]",
        "A www.example.com -> - [unanswered]",
    ]


def test_answers_without_a_question_to_more_ids_than_are_remembered() -> None:
    """DNS_WAITING fires: the oldest id is forgotten, so its bare answer is an orphan."""
    asked = [query("a.example.", "A", 100 + number) for number in range(limits.DNS_WAITING + 1)]
    talk: Talk = [*((C, data) for data in asked), (S, head(100, 0x8001)), (S, head(101, 0x8001))]
    found = [e.outcome for e in converse(DATAGRAMS, talk)]
    assert found[:2] == ["orphan", "error"]
    dissector = DnsDatagrams()
    for data in asked:
        dissector.read(data)
    assert len(dissector.asked) == limits.DNS_WAITING


def test_the_upper_bits_of_the_code() -> None:
    bad = head(7, 0x8180, 1, 0, 0, 1) + QUESTION + BADVERS
    assert said([(C, WWW), (S, bad)]) == ["A www.example.com -> A 16 BADVERS [error]"]


def test_data_that_look_like_edns_are_no_code() -> None:
    record = b"\xc0\x0c\0\x10\0\x01\0\0\0\x3c\0\x0c\x0b" + BADVERS
    data = head(7, 0x8180, 1, 1, 0, 1) + QUESTION + record + b"\0\0)\x10\0\0\0\0\0\0\0"
    message = read(data)
    assert (message.status, message.ok) == (0, True)


def test_an_answer_that_did_not_fit() -> None:
    assert read(head(7, 0x8380, 1) + QUESTION).notes == INCOMPLETE


@pytest.mark.parametrize(
    ("flags", "verb"), [(0x2000, "NOTIFY"), (0x2800, "UPDATE"), (0x1000, "STATUS")]
)
def test_other_operations(flags: int, verb: str) -> None:
    asked, answered = head(7, flags, 1) + QUESTION, head(7, 0x8000 | flags)
    assert said([(C, asked), (S, answered)]) == [f"{verb} www.example.com -> {verb} [ok]"]


def test_the_root_and_odd_labels() -> None:
    assert read(query(".", "NS")).target == "."
    assert read(head(7, 0, 1) + b"\x03a.b\x02\0\xc3\0\0\x01\0\x01").target == "a\\.b.\\000\\195"


# ---------------------------------------------------------------- multicast

LOCAL = b"\x05_http\x04_tcp\x05local\0"
ASKED = head(0, 0, 1) + LOCAL + b"\0\x0c\0\x01"
TOLD = head(0, 0x8400, 0, 1) + LOCAL + b"\0\x0c\x80\x01\0\0\0\x78\0\x04\x01x\xc0\x0c"


def test_multicast() -> None:
    """Nobody knows who will answer, or whom: both are one-way."""
    assert said([(C, ASKED), (C, TOLD)]) == ["PTR _http._tcp.local -> - [ok]"] * 2
    assert [m.kind for m in messages(DnsDatagrams(), [(C, ASKED), (C, TOLD)])] == [Kind.ONEWAY] * 2


def test_id_zero_of_a_resolver_is_an_id_like_any_other() -> None:
    asked = query("www.example.com.", "A", 0)
    assert said([(C, asked), (S, reply(asked))]) == ["A www.example.com -> A [ok]"]


def test_late_to_the_flow() -> None:
    """The first datagram is an answer: whoever sent it is the server of its entry."""
    first, second = converse(DATAGRAMS, [(C, reply(WWW)), (S, WWW), (C, reply(WWW))])
    assert (first.outcome, first.swapped) == ("orphan", True)
    assert (second.outcome, second.swapped) == ("ok", True)


# ---------------------------------------------------------------- zone transfers

AXFR = query("example.", "AXFR", 5)
FIRST = reply(AXFR, "example. 1 IN SOA ns.example. me.example. 1 2 3 4 5")
MORE = head(5, 0x8400, 0, 1) + b"\x07example\0\0\x02\0\x01\0\0\0\x01\0\x02\xc0\x0c"


def test_a_transfer_is_one_answer_and_what_follows_it() -> None:
    talk = framed([(C, AXFR), (S, FIRST), (S, MORE), (S, FIRST), (C, WWW), (S, reply(WWW))])
    found = converse(SPEC, talk)
    assert rows(found) == [
        "AXFR example -> AXFR [ok]",
        "QUERY -> - [ok]",
        "AXFR -> - [ok]",
        "A www.example.com -> A [ok]",
    ]
    assert [e.request.notes for e in found[1:3] if e.request] == [CONTINUED] * 2


def test_more_transfers_than_are_remembered() -> None:
    """DNS_TRANSFERS fires: the second message of the first one is an orphan."""
    asked = [query("example.", "AXFR", number) for number in range(1, limits.DNS_TRANSFERS + 2)]
    answers = [reply(data) for data in asked]
    talk = framed([*((C, data) for data in asked), *((S, data) for data in answers * 2)])
    found = [str(e.outcome) for e in converse(SPEC, talk)]
    assert found.count("orphan") == 1


# ---------------------------------------------------------------- framing


def test_the_longest_message_of_a_stream() -> None:
    size = 65_535 - len(WWW) - 12
    long = (
        head(7, 0x8180, 1, 1)
        + QUESTION
        + b"\xc0\x0c\xff\x00\0\x01\0\0\0\0"
        + size.to_bytes(2, "big")
        + bytes(size)
    )
    assert len(long) == 65_535
    [entry] = converse(SPEC, framed([(C, WWW), (S, long)]))
    assert entry.response is not None
    assert entry.response.size == 65_537
    assert entry.outcome == "ok"


def test_after_a_hole_framing_is_found_again() -> None:
    asked = [query(f"n{number}.example.", "A", number) for number in range(1, 9)]
    stream = b"".join(data for _, data in framed([(C, data) for data in asked]))
    talk: Talk = [(C, stream[:50]), (C, 30), (C, stream[80:])]  # type: ignore[list-item]
    found = [e.request.target for e in converse(SPEC, talk) if e.request]
    assert found[0] == "n1.example"
    assert found[-4:] == ["n5.example", "n6.example", "n7.example", "n8.example"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "shorter than its header"),
        (WWW[:11], "shorter than its header"),
        (head(7, 0, 1), "beyond the end"),
        (WWW[:20], "beyond the end"),
        (WWW[:-3], "beyond the end"),
        (head(7, 0, 1) + b"\xc0\x0c\0\1\0\1", "label of type 3"),
        (head(7, 0, 1) + (b"\x3f" + b"a" * 63) * 5, "name over 255"),
        (head(7, 0x3800, 1) + QUESTION, "no such operation: 7"),
        (head(0, 0x8400, 0, 1) + b"\x01a\0", "beyond the end"),
        (head(0, 0x8400, 0, 1) + b"\xc0\x0c", "forwards"),
    ],
)
def test_what_is_no_message(data: bytes, text: str) -> None:
    with pytest.raises(DissectError, match=text):
        read(data)


def test_a_cut_datagram_still_has_its_row() -> None:
    """A capture that keeps the first bytes of each packet."""
    short = replace(DATAGRAMS)
    assert rows(converse(short, [(C, WWW), (S, reply(WWW, "a. 1 IN A 192.0.2.1")[:40])])) == [
        "A www.example.com -> A [ok]"
    ]


# ---------------------------------------------------------------- cut by the capture


NXDOMAIN = reply(WWW, rcode=3, more=SOA)
ANSWERED = reply(WWW, *[f"www.example.com. 1 IN A 192.0.2.{n}" for n in range(9)])


def test_a_message_that_the_snap_length_cut_is_truncated() -> None:
    """Wherever it is cut behind its question; a whole one never is."""
    for data in (ANSWERED, NXDOMAIN, query("www.example.com.", "A", 7, use_edns=0)):
        question = 12 + len(QUESTION)
        assert not read(data).truncated
        assert [cut for cut in range(question, len(data)) if not read(data[:cut]).truncated] == []
        short = read(data[:-3])
        assert (short.verb, short.status & 15) == ("A", data[3] & 15)


def test_the_entry_says_so() -> None:
    [entry] = converse(DATAGRAMS, [(C, WWW), (S, ANSWERED[:-20])])
    assert (entry.outcome, entry.truncated) == ("ok", True)


def test_a_record_whose_name_is_none_is_not_cut() -> None:
    assert not read(head(7, 0x8180, 1, 1) + QUESTION + b"\xff\xff\0\1\0\1").truncated


# ---------------------------------------------------------------- LLMNR


def test_llmnr() -> None:
    """RFC 4795: the format is that of DNS, with other flags; who answers does so by unicast."""
    asked = head(7, 0x0000, 1) + b"\x06laptop\0\0\x01\0\x01"
    conflict = (
        head(7, 0x8400, 1, 1) + asked[12:] + b"\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\xc0\0\x02\x07"
    )
    assert said([(C, asked), (S, conflict)]) == ["A laptop -> A [ok]"]
    assert said([(C, asked)]) == ["A laptop -> - [unanswered]"]


@pytest.mark.parametrize("kind", [0x7FFF, 0x8010, 0xFF06, 0xFFFF])
def test_types_of_private_use(kind: int) -> None:
    """RFC 6895 section 3.1: 65280 to 65534; no number of 32 bits may turn negative on the way."""
    question = b"\7example\3com\0" + kind.to_bytes(2) + b"\0\1"
    asked = b"\0\x3d\1\0\0\1\0\0\0\0\0\0" + question
    answered = b"\0\x3d\x81\x80\0\1\0\0\0\0\0\0" + question
    dissector = DnsDatagrams()
    (request,) = dissector.feed(C, asked)
    (response,) = dissector.feed(S, answered)
    assert isinstance(request, Message)
    assert isinstance(response, Message)
    assert request.key == response.key > 0
    assert request.verb == f"TYPE{kind}"
