"""Taking less under pressure: bytes of calls first, then connections, and back."""

from __future__ import annotations

from kshark.backends._pressure import QUIET, SMALLEST, Pressure


def test_bytes_are_lowered_before_connections_are_left_out() -> None:
    steps = Pressure(16_384).steps
    assert [step.payload for step in steps[:4]] == [16_384, 4_096, 1_024, 256]
    assert [step.one_in for step in steps] == [1, 1, 1, 1, 2, 4, 8, 16, 32, 64]
    assert all(step.payload == SMALLEST for step in steps[3:])


def test_what_the_user_asks_for_is_never_exceeded() -> None:
    assert {step.payload for step in Pressure(0).steps} == {0}
    assert {step.payload for step in Pressure(100).steps} == {100}


def test_a_loss_and_a_full_ring_lower_it_and_quiet_raises_it() -> None:
    pressure = Pressure(4_096)
    assert not pressure.look(0, 0.3)
    assert pressure.look(1, 0.0)
    assert pressure.step.payload == 1_024
    assert pressure.look(0, 0.9)
    assert pressure.step.payload == 256
    assert not any(pressure.look(0, 0.0) for _ in range(QUIET - 1))
    assert pressure.look(0, 0.0)
    assert pressure.step.payload == 1_024
    assert pressure.worst == 2


def test_it_ends_at_both_ends() -> None:
    pressure = Pressure(4_096)
    for _ in range(100):
        pressure.look(1, 1.0)
    assert pressure.step == pressure.steps[-1]
    for _ in range(100 * QUIET):
        pressure.look(0, 0.0)
    assert pressure.step == pressure.steps[0]
