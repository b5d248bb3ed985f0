"""The guard: identify, feed, date, pair, and survive whatever a dissector does."""

from __future__ import annotations

import pytest
from fakes import PROBED, TOY, Table, Toy, rows

from kshark import limits
from kshark.api import Message, Outcome, ProtocolSpec, Side, Verdict
from kshark.wire import END_CAPTURE, END_EVICTED, END_FIN, END_HALF_OPEN, WireLimits


def finish(table: Table, guard: object, reason: int = END_FIN) -> list[tuple[str, str, str]]:
    guard.end(reason, table.ns + 1)  # type: ignore[attr-defined]
    assert table.engine.ledger.check() == []
    assert table.engine.tally.reserved == 0
    return rows(table.engine.take())


def test_pairs_in_order(table: type[Table]) -> None:
    t = table()
    g = t.open()
    entries = t.talk(
        g,
        """> TOY a
           > GET b
           < OK 1
           < ERR 2""",
    )
    assert rows(entries) == [("TOY a", "OK 1", "ok"), ("GET b", "ERR 2", "error")]
    assert [e.seq for e in entries] == [0, 1]
    assert entries[0].latency_ns == 2_000
    assert entries[0].flow.reason.startswith("prefix")
    assert finish(t, g) == []


def test_that_nobody_reads_a_connection_is_told_once(table: type[Table]) -> None:
    t = table()
    assert t.engine.unread is None  # nobody asks
    t.engine.unread = []
    for proto in (6, 17):
        g = t.open(proto=proto)
        g.give_up("why not")
        g.end(END_FIN, t.ns + 1)
    ((flow, seen_ns),) = t.engine.unread
    assert (flow.transport, flow.client.port, flow.server.port) == ("tcp", 40_000, 7)
    assert seen_ns == 10**15


def test_pairs_by_key_in_any_order(table: type[Table]) -> None:
    t = table()
    got = t.talk(t.open(), "> TOY a\n < OK\n > X#2 b\n > X#3 c\n < R#3 c\n < R#2 b\n < R#9 z")
    assert rows(got) == [
        ("TOY a", "OK", "ok"),
        ("X c", "R c", "ok"),
        ("X b", "R b", "ok"),
        ("-", "R z", "orphan"),
    ]


def test_dates_of_messages_that_span_chunks(table: type[Table]) -> None:
    t = table()
    g = t.open()
    for ns, data in ((10, b"TOY a"), (20, b"b\nGE"), (30, b"T\nQ\n")):
        g.chunk(0, data, ns)
    for ns in (40, 41, 42):
        g.chunk(1, b"OK\n", ns)
    asked = [e.request for e in t.engine.take()]
    assert [(m.verb, m.first_ns, m.last_ns) for m in asked if m] == [
        ("TOY", 10, 20),
        ("GET", 20, 30),
        ("Q", 30, 30),
    ]


def test_unanswered_orphan_cut(table: type[Table]) -> None:
    t = table()
    g = t.open()
    got = t.talk(g, "> TOY a\n < OK\n < OK late")
    assert rows(got) == [("TOY a", "OK", "ok"), ("-", "OK late", "orphan")]
    t.talk(g, "> GET b")
    g.chunk(1, b"half", t.ns)
    assert finish(t, g) == [("GET b", "half", "cut")]


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [(END_FIN, "unanswered"), (END_CAPTURE, "unanswered"), (END_EVICTED, "cut")],
)
def test_what_waits_at_the_end(table: type[Table], reason: int, outcome: str) -> None:
    t = table()
    g = t.open()
    t.talk(g, "> TOY a")
    assert finish(t, g, reason) == [("TOY a", "-", outcome)]


def test_interim_does_not_consume_the_request(table: type[Table]) -> None:
    t = table()
    (entry,) = t.talk(t.open(), "> TOY a\n < wait\n < OK")
    assert entry.request is not None
    assert entry.request.notes == ("interim-100",)
    assert entry.outcome == Outcome.OK


def test_interim_before_the_request_is_whole(table: type[Table]) -> None:
    t = table()
    g = t.open()
    g.chunk(0, b"TOY ", 5)
    (entry,) = t.talk(g, "< wait\n > body\n < OK")
    assert entry.request is not None
    assert entry.request.notes == ("interim-100",)


def test_oneway_from_either_side(table: type[Table]) -> None:
    t = table()
    got = t.talk(t.open(), "> TOY a\n < push x\n > push y\n < OK")
    assert rows(got) == [("push x", "-", "ok"), ("push y", "-", "ok"), ("TOY a", "OK", "ok")]
    assert [e.swapped for e in got] == [True, False, False]
    assert got[0].src.ip == "10.0.0.2"


class TestHoles:
    def test_a_lost_answer_is_cut_and_the_next_pair_is_right(self, table: type[Table]) -> None:
        t = table()
        g = t.open()
        t.talk(g, "> TOY a")
        g.gap(1, 100, t.ns)
        got = t.talk(g, "> GET b\n < OK b")
        assert rows(got) == [("TOY a", "-", "cut"), ("GET b", "OK b", "ok")]

    def test_pipelined_answers_after_a_hole_pair_with_nobody(self, table: type[Table]) -> None:
        t = table()
        g = t.open()
        t.talk(g, "> TOY a\n > GET b")
        g.gap(1, 100, t.ns)
        got = t.talk(g, "> GET c\n < OK b-or-c\n > GET d\n < OK ?")
        assert not [r for r in rows(got) if "-" not in r]

    def test_after_a_long_quiet_pipelines_pair_again(self, table: type[Table]) -> None:
        t = table()
        g = t.open()
        t.talk(g, "> TOY a\n > GET b")
        g.gap(1, 100, t.ns)
        t.ns += limits.UNANSWERED + limits.SECOND
        assert rows(t.talk(g, "> GET c\n < OK c"))[-1] == ("GET c", "OK c", "ok")

    def test_after_lost_requests_a_few_exchanges_in_lockstep_are_awaited(
        self, table: type[Table]
    ) -> None:
        t = table()
        g = t.open()
        t.talk(g, "> TOY a\n < OK a")
        g.gap(0, 100, t.ns)
        talk = "> GET x\n < OK x\n" * limits.CALM
        assert t.talk(g, talk) == []
        assert rows(t.talk(g, "> GET y")) == [("GET x", "OK x", "ok")] * limits.CALM
        assert rows(t.talk(g, "< OK y")) == [("GET y", "OK y", "ok")]

    def test_the_first_pipeline_in_the_hole(self, table: type[Table]) -> None:
        t = table()
        g = t.open()
        t.talk(g, "> TOY a\n < OK a")
        g.gap(0, 100, t.ns)  # GET b, GET c
        got = rows(t.talk(g, "> GET d\n < OK b\n < OK c\n < OK d\n > GET e\n > GET f\n < OK e"))
        assert not [r for r in got if r[2] == "ok"]

    def test_a_hole_in_the_first_request_of_all(self, table: type[Table]) -> None:
        """Nothing was seen before it, which is not the long quiet after which an order is certain."""
        t = table()
        g = t.open()
        t.ns += 1_700_000_000 * limits.SECOND
        g.chunk(0, b"TOY a", t.ns)
        g.gap(0, 1, t.ns)
        got = rows(t.talk(g, "> GET b\n > GET c\n < OK a\n < OK b\n < OK c"))
        assert not [r for r in got if r[2] == "ok"]

    def test_lost_requests_of_a_pipeline(self, table: type[Table]) -> None:
        t = table()
        g = t.open()
        t.talk(g, "> TOY a\n > GET b")
        g.gap(0, 100, t.ns)
        got = rows(t.talk(g, "> GET d\n < OK a\n < OK b\n < OK c\n < OK d"))
        assert [r for r in got if r[2] == "ok"] == [
            ("TOY a", "OK a", "ok"),
            ("GET b", "OK b", "ok"),
        ]

    def test_a_hole_before_identification_is_a_join_in_mid_stream(self, table: type[Table]) -> None:
        t = table()
        g = t.open()
        g.chunk(0, b"garbage that nobody knows", 5)
        g.gap(0, 10, 6)
        assert t.talk(g, "> TOY a\n < OK") == []
        g.end(END_FIN, t.ns)
        (entry,) = t.engine.take()
        assert entry.midstream
        assert entry.outcome == Outcome.OK


class TestMidstream:
    def test_the_server_is_told_by_its_bytes(self, table: type[Table]) -> None:
        t = table(PROBED)
        g = t.open(midstream=True)
        g.chunk(0, b"< answer\n", 5)
        g.chunk(1, b"> ask\n", 6)
        g.chunk(0, b"< OK\n", 7)
        g.end(END_FIN, 8)
        orphan, pair = t.engine.take()
        assert orphan.outcome == Outcome.ORPHAN
        assert (pair.src.ip, pair.dst.ip) == ("10.0.0.2", "10.0.0.1")

    def test_with_a_syn_nobody_is_turned_round(self, table: type[Table]) -> None:
        t = table(PROBED)
        g = t.open()
        g.chunk(0, b"< answer\n", 5)
        g.chunk(1, b"> ask\n", 6)
        assert [r[2] for r in finish(t, g)] == ["ok"]
        assert "probed" not in t.engine.ledger.flows

    def test_inside_a_long_message_further_windows_are_tried(self, table: type[Table]) -> None:
        t = table()
        g = t.open(midstream=True)
        for _ in range(20):
            assert not g.chunk(0, b"x" * 2_000, 5)
        assert t.talk(g, "> TOY a\n < OK") == []
        assert [r[0] for r in finish(t, g)] == ["TOY a"]

    def test_between_windows_nobody_is_asked_until_the_other_side_speaks(
        self, table: type[Table]
    ) -> None:
        asked: list[bytes] = []

        def probe(data: bytes, side: Side) -> Verdict:
            asked.append(data)
            return Verdict.CERTAIN if data.startswith(b"> ") else Verdict.NO

        t = table(ProtocolSpec(name="probed", dissector=Toy, probe=probe))
        g = t.open(midstream=True)
        for _ in range(3):
            g.chunk(1, b"x" * 5_000, 5)
        looks = len(asked)
        for _ in range(30):
            assert not g.chunk(1, b"x" * 5_000, 5)
        assert len(asked) == looks
        t.talk(g, "> > a\n < OK")
        assert [r[2] for r in finish(t, g)] == ["ok"]

    def test_windows_are_counted(self, table: type[Table]) -> None:
        t = table()
        g = t.open(midstream=True)
        turns = 0
        while not g.chunk(turns % 2, b"x" * 5_000, 5):
            turns += 1
        assert turns == limits.WINDOWS - 1
        assert finish(t, g) == [("FLOW", "", "ok")]

    def test_but_not_for_ever(self, table: type[Table]) -> None:
        t = table()
        g = t.open(midstream=True)
        fed = 0
        while not g.chunk(0, b"x" * 50_000, 5):
            fed += 50_000
            assert fed <= limits.SILENT_BYTES
        assert finish(t, g) == [("FLOW", "", "ok")]


class TestUnknown:
    def test_a_flow_that_nobody_claims(self, table: type[Table]) -> None:
        t = table()
        g = t.open()
        g.chunk(0, b"hello", 5)
        assert g.chunk(1, b"there", 6), "both have spoken and nobody wants more"
        g.end(END_FIN, 9)
        (entry,) = t.engine.take()
        assert entry.protocol == "tcp"
        assert entry.request is not None
        assert entry.request.extra.packets == 3
        assert entry.request.extra.reason == "no dissector matched"
        assert t.engine.ledger.snapshot()["packets"]["opaque"] == {"no dissector matched": 5}
        assert t.engine.ledger.check() == []

    @pytest.mark.parametrize(
        ("facts", "outcome"),
        [
            ({"sent": [2, 0]}, "unanswered"),
            ({"refused": True}, "error"),
            ({"sent": [0, 2]}, "orphan"),
            ({"sent": [3, 3]}, "ok"),
            ({"sent": [3, 0], "midstream": True}, "ok"),
        ],
    )
    def test_connections_without_payload(
        self, table: type[Table], facts: dict[str, object], outcome: str
    ) -> None:
        t = table()
        assert [r[2] for r in finish(t, t.open(**facts), END_HALF_OPEN)] == [outcome]

    def test_probing_ends_with_the_window(self, table: type[Table]) -> None:
        t = table(ProtocolSpec(name="shy", dissector=TOY.dissector, probe=lambda d, s: 1))  # type: ignore[arg-type,return-value]
        g = t.open()
        chunks = 0
        while not g.chunk(0, b"x", 5):
            chunks += 1
        assert chunks == limits.PROBE_CHUNKS - 1


class TestBadPlugins:
    def test_a_protocol_error_soon_means_another_protocol(self, table: type[Table]) -> None:
        second = ProtocolSpec(name="second", dissector=TOY.dissector, magic=(b"TOY",))
        t = table(ProtocolSpec(name="first", dissector=Sour, magic=(b"TOY ",)), second)
        g = t.open()
        assert rows(t.talk(g, "> TOY a\n < OK")) == [("TOY a", "OK", "ok")]
        assert t.engine.ledger.flows == {"first": 1, "second": 1}

    def test_errors_end_in_opaque(self, table: type[Table]) -> None:
        t = table()
        g = t.open()
        t.talk(g, "> TOY a\n < OK\n > GET b\n < OK")
        for n in range(limits.ERRORS):
            assert g.chunk(0, b"boom\n", 50) == (n == limits.ERRORS - 1)
        assert finish(t, g) == [("FLOW", "", "ok")]
        assert t.engine.ledger.errors == {"toy: boom": limits.ERRORS}

    @pytest.mark.parametrize("word", ["crash secret", "rubbish"])
    def test_a_bug_quarantines_the_flow_and_is_said_once(
        self, table: type[Table], word: str
    ) -> None:
        t = table()
        for _ in range(3):
            g = t.open()
            t.talk(g, f"> TOY a\n < {word}")
            assert finish(t, g) == [("FLOW", "", "ok")]
        assert len(t.said) == 1
        assert "secret" not in t.said[0], "no payload in what is said"

    @pytest.mark.parametrize(
        "message",
        [
            Message(1, verb=5),  # type: ignore[arg-type]
            Message(1, size=-1),
            Message(77),
            Message(1, size="x"),  # type: ignore[arg-type]
            Message(1, key=[1]),  # type: ignore[arg-type]
        ],
    )
    def test_rubbish_in_a_message(self, table: type[Table], message: Message) -> None:
        t = table(ProtocolSpec(name="odd", dissector=lambda: Says(message), magic=(b"TOY",)))
        g = t.open()
        assert g.chunk(0, b"TOY a\n", 5)
        assert finish(t, g) == [("FLOW", "", "ok")]

    def test_a_dissector_that_cannot_be_made(self, table: type[Table]) -> None:
        t = table(ProtocolSpec(name="odd", dissector=lambda: 1 / 0, magic=(b"TOY",)))  # type: ignore[arg-type,return-value]
        g = t.open()
        assert g.chunk(0, b"TOY a\n", 5)
        assert finish(t, g) == [("FLOW", "", "ok")]

    def test_many_bugs_switch_the_protocol_off(self, table: type[Table]) -> None:
        t = table()
        for _ in range(limits.BREAKER_ERRORS + 1):
            g = t.open()
            t.talk(g, "> TOY a\n < crash")
            finish(t, g)
        assert "switched off" in t.said[-1]
        assert t.engine.states["toy"].flows == limits.BREAKER_ERRORS

    def test_silence_is_bounded(self, table: type[Table]) -> None:
        t = table()
        g = t.open()
        g.chunk(0, b"TOY ", 1)
        fed = 0
        while not g.chunk(0, b"x" * 60_000, 5):
            fed += 60_000
            assert fed <= limits.SILENT_BYTES
        assert t.engine.ledger.limits == {"silent_bytes": 1}
        finish(t, g)

    def test_waiting_requests_are_bounded(self, table: type[Table]) -> None:
        t = table()
        g = t.open()
        got = t.talk(g, "> TOY a\n" + "> GET x\n" * limits.WAITING)
        assert rows(got) == [("TOY a", "-", "unanswered")]
        assert rows(t.talk(g, "< OK\n < OK")) == [("-", "OK", "orphan"), ("GET x", "OK", "ok")]

    @pytest.mark.parametrize("key", ["", "#7"])
    def test_nothing_stays_reserved_for_a_wrong_choice(self, table: type[Table], key: str) -> None:
        t = table()
        g = t.open()
        assert t.talk(g, f"> TOY a\n > GET{key} x\n < boom") == []
        assert finish(t, g) == [("FLOW", "", "ok")]
        assert t.engine.tally.reserved == 0


class Sour:
    """Refuses everything."""

    def feed(self, side: Side, data: bytes) -> list[Message]:
        from kshark.api import NotMine

        raise NotMine("sour")

    def gap(self, side: Side, missing: int) -> list[Message]:
        return []

    def close(self) -> list[Message]:
        return []


class Greedy(Sour):
    """Notes what it is fed."""

    def __init__(self) -> None:
        self.fed: list[bytes] = []
        GREEDY.append(self.fed)

    def feed(self, side: Side, data: bytes) -> list[Message]:
        self.fed.append(data)
        return []


GREEDY: list[list[bytes]] = []


def test_the_second_choice_is_fed_every_piece_once(table: type[Table]) -> None:
    def probe(data: bytes, side: Side) -> Verdict:
        return Verdict.CERTAIN if b"three" in data else Verdict.MORE

    GREEDY.clear()
    specs = [
        ProtocolSpec(name=n, dissector=d, probe=probe) for n, d in (("a", Sour), ("b", Greedy))
    ]
    t = table(*specs)
    g = t.open()
    for piece in (b"one", b"two", b"three", b"four"):
        g.chunk(0, piece, 5)
    assert GREEDY == [[b"one", b"two", b"three", b"four"]]


class TestMemory:
    def test_pieces_to_be_replayed_are_accounted_and_bounded(self, table: type[Table]) -> None:
        t = table()
        g = t.open()
        t.talk(g, "> TOY " + "x" * 5_000)
        assert 5_000 < t.engine.tally.reserved < 20_000
        g.chunk(0, b"y" * limits.REPLAYED, 5)
        assert not g.window.pieces
        assert g.proven

    def test_a_dissector_that_works_has_its_price(self, table: type[Table]) -> None:
        t = table()
        g = t.open()
        assert t.engine.memory == 0
        t.talk(g, "> TOY a\n < OK\n > b\n < OK")
        assert t.engine.memory == limits.DISSECTOR_COST
        t.talk(g, "< crash")
        assert t.engine.memory == 0

    def test_who_holds_much_for_long_pays(self, table: type[Table]) -> None:
        t = table(limits=WireLimits(memory=250_000))
        old, young, small = t.open(), t.open(), t.open()
        for now, guard in enumerate((old, young), 1):
            guard.chunk(0, b"TOY ", now)
            for _ in range(20):
                guard.chunk(0, b"x" * 2_000, 10_000 * now + 1)
        t.talk(small, "> TOY a\n < OK\n > GET b")
        t.wire.flows, t.wire.now = 3, 30_000
        t.engine.shrink()  # 45 KB each are under half of the bound
        assert t.wire.evicted == 0
        for guard in (old, young):
            for _ in range(20):
                guard.chunk(0, b"x" * 2_000, 20_000)
        t.engine.shrink()
        assert [g.reason for g in (old, young, small)] == ["memory bound", "", ""]
        assert t.engine.ledger.limits["shed"] == 1
        assert [(e.outcome, e.request.size) for e in t.engine.take() if e.request] == [
            ("cut", 80_004)
        ]
        assert [r[2] for r in rows(t.talk(small, "< OK"))] == ["ok"]
        assert t.wire.evicted == 0

    def test_requests_that_wait_are_halved(self, table: type[Table]) -> None:
        t = table(limits=WireLimits(memory=100_000))
        g = t.open()
        t.talk(g, "> TOY a\n < OK\n" + "> GET x\n" * 200 + "> GET#9 k\n" * 1)
        t.engine.shrink()
        assert [r[2] for r in rows(t.engine.take())] == ["unanswered"] * 101
        got = t.talk(g, "< A\n" * 200 + "< K#9\n")
        assert [r[2] for r in rows(got)] == ["orphan"] * 100 + ["ok"] * 100 + ["orphan"]

    def test_else_the_idle_go(self, table: type[Table]) -> None:
        t = table(limits=WireLimits(memory=100_000))
        t.wire.flows, t.wire.memory = 100, 153_600
        t.engine.shrink()
        assert t.wire.evicted >= 100
        assert "shed" not in t.engine.ledger.limits


class TestSwitch:
    def test_to_a_named_protocol(self, table: type[Table]) -> None:
        t = table(TOY, PROBED)
        g = t.open()
        got = t.talk(g, "> TOY a\n < OK\n < switch probed\n > x\n < OK")
        assert [e.protocol for e in got] == ["toy", "probed"]
        assert [e.seq for e in got] == [0, 1]

    def test_to_one_that_is_not_here(self, table: type[Table]) -> None:
        t = table()
        g = t.open()
        t.talk(g, "> TOY a\n < OK\n < switch nowhere")
        assert finish(t, g) == [("FLOW", "", "ok")]

    def test_afresh(self, table: type[Table]) -> None:
        t = table(TOY, PROBED)
        g = t.open()
        t.talk(g, "> TOY a\n < OK\n < switch")
        g.chunk(0, b"> ask\n", 5)
        assert [e.protocol for e in t.talk(g, "< OK")] == ["probed"]


class Says:
    """Says one thing, whatever it hears."""

    def __init__(self, message: Message) -> None:
        self.message = message

    def feed(self, side: Side, data: bytes) -> list[Message]:
        return [self.message]

    def gap(self, side: Side, missing: int) -> list[Message]:
        return []

    def close(self) -> list[Message]:
        return []


def test_timers_end_what_waits_too_long(table: type[Table]) -> None:
    t = table()
    g = t.open()
    t.talk(g, "> TOY a")
    assert rows(t.engine.tick(t.ns + limits.UNANSWERED - 1)) == []
    assert rows(t.engine.tick(t.ns + limits.UNANSWERED)) == [("TOY a", "-", "unanswered")]
    assert not t.engine.timers
    assert rows(t.talk(g, "< OK\n > GET b\n < OK b")) == [
        ("-", "OK", "orphan"),
        ("GET b", "OK b", "ok"),
    ]
