"""Packets that the capture lost: never a wrong pair, and pairing comes back at once."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

import pytest
from numbered import MS, SECOND, outcomes, played, serial, timed
from record import CLASSES

EXCHANGES = 150
FIRST = 3  # packets of the handshake


def without(lost: set[int], count: int = EXCHANGES) -> list[bytes]:
    """The packets of a serial connection, but the `lost` ones; ask n is 2n, answer n is 2n+1."""
    return [p for i, p in enumerate(serial(count).packets) if i - FIRST not in lost]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("step", [MS // 100, 50 * MS])
@pytest.mark.parametrize("lost", [{20}, {21}, {21, 23}, {21, 23, 25}, {20, 22}, {20, 21, 22}])
def test_pairs_after_a_few_lost_packets(
    lost: set[int], step: int, cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = outcomes(played(timed(without(lost), step), monkeypatch, cls))
    assert found["ok"] >= EXCHANGES - len(lost) - 6


@pytest.mark.parametrize("cls", CLASSES)
def test_pairs_after_two_slow_answers_lost(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = outcomes(played(timed(without({21, 23}), 2 * SECOND), monkeypatch, cls))
    assert found["ok"] >= EXCHANGES - 8


@pytest.mark.parametrize("cls", CLASSES)
def test_every_loss_of_three_packets_near_each_other(
    cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lost in combinations(range(20, 27), 3):
        found = outcomes(played(timed(without(set(lost), 30)), monkeypatch, cls))
        assert found["ok"] >= 30 - 12, lost


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("seed", range(5))
def test_one_percent_lost(seed: int, cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    lost = {n for n in range(2_000) if chance.random() < 0.01}
    found = outcomes(played(timed(without(lost, 1_000), 10 * MS), monkeypatch, cls))
    assert found["ok"] > 1_000 - 12 * len(lost)
