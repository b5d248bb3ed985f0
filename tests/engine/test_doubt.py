"""Pairs whose order is not certain: kept until it is, given up when it cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import Table, rows

from kshark import limits
from kshark.wire import END_CAPTURE, END_EVICTED, END_FIN, END_IDLE, END_RST

SECOND = limits.SECOND
LOCKSTEP = "> GET x\n < OK x\n"


@pytest.fixture
def joined(table: type[Table]) -> tuple[Table, Any]:
    """A flow joined in mid-stream, known to be of the protocol by a push."""
    t = table()
    t.engine.since = 1
    g = t.open(midstream=True)
    g.chunk(1, b"TOY\n", t.ns)  # an answer to what was not seen
    t.talk(g, "> TOY a")
    t.engine.take()
    return t, g


def kept(t: Table) -> int:
    """Bytes of messages, without what every dissector costs."""
    return int(t.engine.tally.reserved)


def after(t: Table, wait: int) -> None:
    t.ns += wait


def test_one_request_waits_for_the_next_sixty_three(joined: tuple[Table, Any]) -> None:
    t, g = joined
    assert t.talk(g, "< OK a\n" + LOCKSTEP * (limits.STEADY - 1)) == []
    got = rows(t.talk(g, "> GET y"))
    assert got == [("TOY a", "OK a", "ok")] + [("GET x", "OK x", "ok")] * (limits.STEADY - 1)
    assert rows(t.talk(g, "< OK y")) == [("GET y", "OK y", "ok")]


def test_an_answer_too_many_refutes_all(joined: tuple[Table, Any]) -> None:
    t, g = joined
    assert t.talk(g, "< OK ?\n > GET b\n < OK ?") == []
    got = rows(t.talk(g, "< OK ?"))
    assert got == [
        ("TOY a", "-", "cut"), ("-", "OK ?", "orphan"),
        ("GET b", "-", "cut"), ("-", "OK ?", "orphan"),
        ("-", "OK ?", "orphan"),
    ]  # fmt: skip
    g.end(END_FIN, t.ns)
    assert kept(t) == 0


def test_requests_among_answers_are_no_steady_bursts(joined: tuple[Table, Any]) -> None:
    t, g = joined
    t.talk(g, "> GET b\n < OK a\n > GET c\n < OK b\n < OK c")
    assert t.talk(g, LOCKSTEP * (limits.STEADY + 1)) == []


def test_a_long_silence_settles_it(joined: tuple[Table, Any]) -> None:
    t, g = joined
    t.talk(g, "< OK a")
    after(t, limits.UNANSWERED + SECOND)
    assert rows(t.talk(g, "> GET b")) == [("TOY a", "OK a", "ok")]


def test_a_short_one_does_if_the_server_is_known_to_be_quick(joined: tuple[Table, Any]) -> None:
    t, g = joined
    t.talk(g, "< OK a\n" + LOCKSTEP)
    after(t, 20_000_000)
    assert t.talk(g, "> GET b") == []  # three answers say little
    t.talk(g, "< OK b\n")
    after(t, 7_000_000)
    assert t.talk(g, "> GET c") == []
    t.talk(g, "< OK c\n")
    after(t, 9_000_000)
    assert len(t.talk(g, "> GET d")) == 4


def test_not_if_it_was_slow_once(joined: tuple[Table, Any]) -> None:
    t, g = joined
    after(t, 20_000_000)
    t.talk(g, "< OK a\n" + LOCKSTEP * 4)
    after(t, 100_000_000)
    assert t.talk(g, "> GET b") == []


def test_time_alone_settles_it(joined: tuple[Table, Any]) -> None:
    t, g = joined
    t.talk(g, "< OK a")
    assert t.engine.tick(t.ns + limits.UNANSWERED - 1) == []
    assert rows(t.engine.tick(t.ns + limits.UNANSWERED + SECOND)) == [("TOY a", "OK a", "ok")]
    assert not t.engine.timers


def test_time_parts_what_is_followed_by_a_request_that_waits(joined: tuple[Table, Any]) -> None:
    t, g = joined
    t.talk(g, "< OK a\n > GET b")
    got = rows(t.engine.tick(t.ns + limits.UNANSWERED))
    assert got == [
        ("TOY a", "-", "cut"), ("-", "OK a", "orphan"), ("GET b", "-", "unanswered"),
    ]  # fmt: skip


@pytest.mark.parametrize("reason", [END_FIN, END_RST, END_IDLE, END_CAPTURE, END_EVICTED])
def test_the_end_settles_lockstep(reason: int, joined: tuple[Table, Any]) -> None:
    t, g = joined
    t.talk(g, "< OK a")
    g.end(reason, t.ns)
    assert rows(t.engine.take()) == [("TOY a", "OK a", "ok")]


@pytest.mark.parametrize("reason", [END_FIN, END_RST, END_IDLE, END_CAPTURE, END_EVICTED])
def test_a_pipeline_must_have_ended(reason: int, joined: tuple[Table, Any]) -> None:
    t, g = joined
    t.talk(g, "> GET b\n < OK a\n < OK b")
    g.end(reason, t.ns)
    pairs = [r for r in rows(t.engine.take()) if r[2] == "ok"]
    assert len(pairs) == (2 if reason in (END_FIN, END_IDLE) else 0)
    assert kept(t) == 0


def test_and_nothing_may_be_open(joined: tuple[Table, Any]) -> None:
    t, g = joined
    t.talk(g, "< OK a\n > GET b")
    g.end(END_FIN, t.ns)
    assert [r[2] for r in rows(t.engine.take())] == ["cut", "orphan", "unanswered"]


def test_what_is_kept_is_bounded_and_accounted(joined: tuple[Table, Any]) -> None:
    t, g = joined
    t.talk(g, "< OK a\n > GET b\n > GET c\n < OK b\n > GET d\n < OK c\n < OK d")  # mixed: for long
    got = rows(t.talk(g, LOCKSTEP * limits.MATCHED))
    assert len(got) == 8
    assert {r[2] for r in got} == {"cut", "orphan"}
    assert kept(t) >= limits.MATCHED * 2 * limits.MESSAGE_COST
    g.asked.shed()
    assert len(t.engine.take()) == 2 * limits.MATCHED
    g.end(END_FIN, t.ns)
    assert kept(t) == 0


def test_what_was_guessed_is_doubted_again(joined: tuple[Table, Any]) -> None:
    t, g = joined
    t.talk(g, "< OK a\n" + LOCKSTEP * limits.STEADY)
    assert t.talk(g, "< OK toomuch")[-1].outcome == "orphan"
    assert t.talk(g, LOCKSTEP) == []


def test_a_hole_among_answers_parts(joined: tuple[Table, Any]) -> None:
    t, g = joined
    t.talk(g, "< OK a")
    g.gap(1, 10, t.ns)
    assert rows(t.engine.take()) == [("TOY a", "-", "cut"), ("-", "OK a", "orphan")]


def test_a_hole_among_requests_does_not(joined: tuple[Table, Any]) -> None:
    t, g = joined
    g.gap(0, 10, t.ns)
    assert t.talk(g, "< OK a") == []
    g.end(END_CAPTURE, t.ns)
    assert rows(t.engine.take()) == [("TOY a", "OK a", "ok")]


def test_an_interim_answer_to_nobody_is_noted_on_nobody(joined: tuple[Table, Any]) -> None:
    t, g = joined
    t.talk(g, "< OK a\n < wait\n > GET b\n < OK b")
    g.end(END_FIN, t.ns)
    assert [e.request.notes for e in t.engine.take() if e.request] == [(), ()]


def test_a_wrong_choice_leaves_nothing(table: type[Table]) -> None:
    t = table()
    g = t.open(midstream=True)
    t.talk(g, "> TOY a\n < OK\n < boom")
    assert t.engine.take() == []
    g.end(END_FIN, t.ns)
    assert kept(t) == 0


def test_two_requests_open_over_a_lost_answer_are_no_pipeline(table: type[Table]) -> None:
    """The wire may let a request pass the hole of an answer."""
    t = table()
    g = t.open()
    t.talk(g, "> TOY a\n < OK a\n > GET b\n > GET c")
    g.gap(1, 10, t.ns)
    t.engine.take()
    t.talk(g, LOCKSTEP * limits.CALM)
    assert len(t.talk(g, "> GET d")) == limits.CALM
