"""Hypothesis strategies for dissectors: cuts, mutations, conversations, garbage."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kshark.api import Side
from kshark.testing._case import LawBroken, Talk
from kshark.testing.play import Stuck

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def hypothesis() -> Any:
    """The hypothesis module, or an ImportError that says where it comes from."""
    try:
        import hypothesis as module
    except ImportError:
        raise ImportError(
            "kshark.testing makes its examples with hypothesis: pip install 'kshark[testing]'"
        ) from None
    return module


class _Enough(BaseException):
    """What hypothesis is not to try again: each try would take PATIENCE."""

    def __init__(self, error: AssertionError) -> None:
        super().__init__(str(error))
        self.error = error


def explore(strategy: SearchStrategy[Any], check: Callable[[Any], None], examples: int) -> None:
    """Run `check` on examples, the same each time; what fails is shrunk to the smallest."""
    module = hypothesis()
    settings = module.settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(module.HealthCheck),
        phases=(module.Phase.generate, module.Phase.shrink),
    )

    def example(value: Any) -> None:
        try:
            check(value)
        except Stuck as error:
            raise _Enough(error) from error
        except LawBroken as error:
            if error.stuck:
                raise _Enough(error) from error
            raise

    try:
        settings(module.given(strategy)(example))()
    except _Enough as enough:
        raise enough.error from None
    except LawBroken as error:
        error.__notes__ = []  # the text tells it all, and better than the value's repr
        raise


def cuts(data: bytes) -> SearchStrategy[list[bytes]]:
    """`data` in pieces, none of them empty."""
    st = hypothesis().strategies
    if len(data) < 2:
        return st.just([data] if data else [])  # type: ignore[no-any-return]
    points = st.sets(st.integers(1, len(data) - 1), max_size=12)
    return points.map(lambda at: slices(data, sorted(at)))  # type: ignore[no-any-return]


def slices(data: bytes, points: list[int]) -> list[bytes]:
    """`data` cut at these offsets."""
    edges = [0, *points, len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def cut_talk(talk: Talk) -> SearchStrategy[Talk]:
    """A conversation with its pieces cut further."""
    st = hypothesis().strategies
    parts = st.tuples(*(cuts(data) for _, data in talk))

    def assemble(pieces: tuple[list[bytes], ...]) -> Talk:
        return [(side, p) for (side, _), part in zip(talk, pieces, strict=True) for p in part]

    return parts.map(assemble)  # type: ignore[no-any-return]


def mutations(data: bytes) -> SearchStrategy[bytes]:
    """`data` with bytes changed, dropped, doubled or put in, at a few places."""
    st = hypothesis().strategies
    at = st.integers(0, max(0, len(data) - 1))
    length = st.integers(1, 8)
    step = st.one_of(
        st.tuples(st.just("set"), at, st.binary(min_size=1, max_size=4)),
        st.tuples(st.just("put"), at, st.one_of(st.binary(max_size=8), digits())),
        st.tuples(st.just("drop"), at, length),
        st.tuples(st.just("twice"), at, length),
    )
    return st.lists(step, min_size=1, max_size=5).map(  # type: ignore[no-any-return]
        lambda steps: mutated(data, steps)
    )


def mutated(data: bytes, steps: list[tuple[str, int, Any]]) -> bytes:
    """`data` after these steps, each at an offset of what it is by then."""
    for what, at, value in steps:
        if what == "set":
            data = data[:at] + value + data[at + len(value) :]
        elif what == "put":
            data = data[:at] + value + data[at:]
        elif what == "drop":
            data = data[:at] + data[at + value :]
        else:
            data = data[: at + value] + data[at:]
    return data


def digits() -> SearchStrategy[bytes]:
    """Numbers that lengths go wrong with."""
    st = hypothesis().strategies
    return st.sampled_from(  # type: ignore[no-any-return]
        [b"-1", b"0", b"99999999999999999999", b"4294967296", b"65537", b"+1", b"0x10", b" "]
    )


def garbage() -> SearchStrategy[bytes]:
    """Bytes of no protocol: random ones, long runs, and words and signs that parsers look for."""
    st = hypothesis().strategies
    words = [
        b"\r\n",
        b"\n",
        b" ",
        b":",
        b"\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x01",
        b"GET ",
        b"$",
        b"*",
    ]
    run = st.tuples(st.binary(min_size=1, max_size=2), st.integers(1, 2_000))
    part = st.one_of(
        st.binary(max_size=40),
        st.sampled_from(words),
        digits(),
        run.map(lambda pair: pair[0] * pair[1]),
    )
    return st.lists(part, min_size=1, max_size=10).map(b"".join)  # type: ignore[no-any-return]


def conversations(
    request: SearchStrategy[bytes],
    response: SearchStrategy[bytes] | Callable[[bytes], SearchStrategy[bytes]],
    *,
    pipelined: bool = False,
    max_size: int = 5,
) -> SearchStrategy[Talk]:
    """Exchanges of a request and its response; `response` may depend on the request.

    `pipelined`: several requests may go out before their responses come.
    """
    st = hypothesis().strategies

    def exchange(asked: bytes) -> SearchStrategy[tuple[bytes, bytes]]:
        answers = response(asked) if callable(response) else response
        return st.tuples(st.just(asked), answers)  # type: ignore[no-any-return]

    pairs = st.lists(request.flatmap(exchange), min_size=1, max_size=max_size)
    ahead = st.integers(1, 3 if pipelined else 1)

    def assemble(made: tuple[list[tuple[bytes, bytes]], int]) -> Talk:
        exchanges, count = made
        talk: Talk = []
        for at in range(0, len(exchanges), count):
            batch = exchanges[at : at + count]
            talk += [(Side.CLIENT, asked) for asked, _ in batch]
            talk += [(Side.SERVER, answered) for _, answered in batch]
        return talk

    return st.tuples(pairs, ahead).map(assemble)  # type: ignore[no-any-return]
