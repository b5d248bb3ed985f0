"""The sink ``loki`` with a log server that others wrote and that takes Loki's push API: VictoriaLogs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sinks.test_loki_real import deliver, entries
from sinks.victorialogs_server import VictoriaLogs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaLogs]:
    server = VictoriaLogs(tmp_path_factory.mktemp("victorialogs"))
    server.start()
    server.wait()
    yield server
    server.stop()


@pytest.mark.parametrize("form", ["protobuf", "json"])
def test_all_that_was_delivered_is_there(server: VictoriaLogs, form: str) -> None:
    """Labels, structured metadata and the fields of the line, by both formats."""
    books, said = deliver(
        server.push, form, entries(10_000, form), format=form, metadata=["dst.name"]
    )
    assert (books["delivered"], books["dropped"], said) == (10_000, {}, [])
    rows = f'{{run="{form}"}}'
    server.until(rows, 10_000)
    assert server.count(rows, "count_uniq(id)") == 10_000
    by_outcome = server.stats(f"{rows} | stats by (outcome) count() n")
    assert {row["outcome"]: int(row["n"]) for row in by_outcome} == {
        "ok": 8_900, "error": 1_000, "unanswered": 100,
    }  # fmt: skip
    assert server.count(f'{rows} dst_name:="cart"') == 10_000
    assert server.count(f"{rows} response.status:>=500") == 1_000


def test_a_weighted_sample_adds_up(server: VictoriaLogs) -> None:
    books, _ = deliver(server.push, "sample", entries(10_000, "sample"), sample=10)
    assert (books["delivered"], books["filtered"]) == (890 + 1_100, 8_010)
    server.until('{run="sample"}', 1_990)
    assert server.count('{run="sample",outcome="ok"}', "sum(weight)") == 8_900


@pytest.mark.parametrize("spool", [True, False])
def test_a_restart_in_the_middle(server: VictoriaLogs, tmp_path: Path, spool: bool) -> None:
    run = f"restart-{spool}"

    def between(number: int) -> None:
        if number == 20:
            server.stop()
        elif number == 60:
            server.start()
            server.wait()

    books, said = deliver(
        server.push, run, entries(20_000, run), between, batch_bytes=50_000,
        memory=20_000 if spool else 10**9, spool=str(tmp_path) if spool else "",
    )  # fmt: skip
    assert (books["delivered"], books["dropped"]) == (20_000, {})
    server.until(f'{{run="{run}"}}', 20_000)
    assert server.count(f'{{run="{run}"}}', "count_uniq(id)") == 20_000
    assert said == [] or said[-1] == "loki: takes entries again"
