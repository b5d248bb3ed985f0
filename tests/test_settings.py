"""Options: one declaration, three places, units, and errors that say where and what instead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshark import settings, units
from kshark.api import Options, PluginError, option
from kshark.places import places, read_config
from kshark.settings import Given


class Sample(Options):
    """Options of every kind."""

    target: Annotated[str, option("Where to")] = "-"
    rotate_bytes: Annotated[int, option("Size", unit="bytes")] = 0
    every: Annotated[float, option("Time", unit="seconds")] = 0.0
    whole: Annotated[int, option("Whole seconds", unit="seconds")] = 0
    full: Annotated[bool, option("More")] = False
    tags: Annotated[list[str], option("Names")] = []
    ports: Annotated[list[int], option("Numbers")] = []
    level: Annotated[int, msgspec.Meta(ge=1, le=9), option("1 to 9")] = 1
    mode: Annotated[Literal["a", "b"], option("One of two")] = "a"
    user: Annotated[str | None, option("Perhaps")] = None


class Aliased(Options):
    target: Annotated[str, option("Address")] = msgspec.field(default="", name="url")


class Needy(Options):
    url: Annotated[str, option("Where the server is")]


def of(text: str) -> Sample:
    return settings.resolve(Sample, [settings.parse_use(text, "--sink").given], "sink sample")


def wrong(text: str) -> str:
    with pytest.raises(PluginError) as caught:
        of(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- the line


def test_target_and_options() -> None:
    found = of("sample:out.ndjson,rotate_bytes=1GiB,every=1h30m,full,level=3,mode=b")
    assert found == Sample(
        target="out.ndjson", rotate_bytes=2**30, every=5400.0, full=True, level=3, mode="b"
    )


def test_name_alone_and_options_without_target() -> None:
    assert of("sample") == Sample()
    assert of("sample,full=no,user=bob") == Sample(user="bob")
    assert of("sample:") == Sample()


def test_target_may_hold_colons_and_equal_signs() -> None:
    assert of("sample:http://127.0.0.1:3100/?a=b").target == "http://127.0.0.1:3100/?a=b"


def test_comma_is_escaped_by_a_backslash_and_other_backslashes_stay() -> None:
    assert of(r"sample:a\,b\\,user=c\d").target == "a,b\\"
    assert of(r"sample:a\,b\\,user=c\d").user == r"c\d"


def test_lists_by_comma_and_by_repetition() -> None:
    assert of(r"sample,tags=a\,b,tags=c").tags == ["a", "b", "c"]
    assert of("sample,ports=1,ports=2").ports == [1, 2]


def test_dashes_are_underscores() -> None:
    assert of("sample,rotate-bytes=1k").rotate_bytes == 1024


@given(st.lists(st.text(alphabet="ab,\\=", max_size=6), min_size=1, max_size=4))
def test_escaping_brings_every_text_through(parts: list[str]) -> None:
    line = ",".join(p.replace("\\", "\\\\").replace(",", "\\,") for p in parts)
    assert settings.split(line) == parts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sample,rotate_byte=1", "did you mean rotate_bytes?"),
        ("sample,zzz=1", "there is every, full, level"),
        ("sample,rotate_bytes=1XB", "rotate_bytes = 1XB: is not a size such as 512KiB"),
        ("sample,every=soon", "every = soon: is not a time such as 250ms"),
        ("sample,whole=250ms", "whole = 250ms: must be a whole number"),
        ("sample,full=perhaps", "full = perhaps: must be yes or no"),
        ("sample,level=12", "level = 12: must be a whole number <= 9"),
        ("sample,mode=c", "mode = c:"),
        ("sample,user", "needs a value"),
        ("sample,user=a,user=b", "is given twice"),
        ("sample:a,b.ndjson", r"a comma that belongs to a value is written \,"),
        ("sample,ports=x", "ports = x"),
        (":x", "a name is missing"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    message = wrong(text)
    assert message.startswith(f"--sink {text}")
    assert said in message


def test_a_sink_without_target_says_so() -> None:
    class Bare(Options):
        x: int = 0

    with pytest.raises(PluginError, match="takes no target"):
        settings.resolve(Bare, [settings.parse_use("b:x", "--sink").given], "sink b")


def test_target_reaches_the_attribute_whatever_its_key() -> None:
    def resolve(*layers: settings.Layer) -> str:
        return settings.resolve(Aliased, layers, "sink loki").target

    line = settings.parse_use("loki:http://a", "--sink").given
    environ = {"url": Given("http://b", "KSHARK_SINK_LOKI_URL")}
    assert resolve(environ) == "http://b"
    assert resolve(environ, line) == "http://a"
    assert resolve(line, environ) == "http://b"


def test_a_needed_option_that_nobody_gives() -> None:
    with pytest.raises(PluginError, match="sink x needs the option url: Where the server is"):
        settings.resolve(Needy, [], "sink x")


def test_what_the_options_themselves_refuse_is_one_line() -> None:
    class Pair(Options):
        low: int = 0
        high: int = 9

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    with pytest.raises(PluginError, match=r"^sink p: low is above high$"):
        settings.resolve(Pair, [{"low": Given(10, "here")}], "sink p")


# ---------------------------------------------------------------- precedence


def test_later_places_win_option_by_option(tmp_path: Path) -> None:
    table = settings.from_table({"full": True, "level": 2, "rotate_bytes": "1MB"}, "f [sink.s]")
    environ = settings.from_environment(
        {"KSHARK_SINK_S_LEVEL": "3", "KSHARK_SINK_S_USER": "eve", "HOME": "/"},
        ("sink", "s"),
        settings.fields(Sample),
    )
    line = settings.parse_use("s:x,user=bob", "--sink").given
    found = settings.resolve(Sample, [table, environ, line], "sink s")
    assert found == Sample(target="x", full=True, level=3, user="bob", rotate_bytes=10**6)


def test_toml_values_keep_their_types() -> None:
    table = settings.from_table({"ports": [1, 2], "every": 5, "full": False}, "f [s]")
    assert settings.resolve(Sample, [table], "s") == Sample(ports=[1, 2], every=5.0)
    for key, value in (("level", "2x"), ("full", 3), ("ports", ["x"]), ("target", 5)):
        with pytest.raises(PluginError, match=rf"^f \[s\] {key} = "):
            settings.resolve(Sample, [settings.from_table({key: value}, "f [s]")], "s")


def test_unknown_variable_of_a_sink_is_a_mistake_unless_it_is_of_a_longer_name() -> None:
    known = settings.fields(Sample)
    environ = {"KSHARK_SINK_S_LEVLE": "3"}
    with pytest.raises(PluginError, match=r"KSHARK_SINK_S_LEVLE=3: .*mean KSHARK_SINK_S_LEVEL"):
        settings.from_environment(environ, ("sink", "s"), known)
    longer = {"KSHARK_SINK_S_RING_SIZE": "3"}
    assert settings.from_environment(longer, ("sink", "s"), known, ["KSHARK_SINK_S_RING_"]) == {}


def test_origin_of_a_wrong_variable() -> None:
    environ = {"KSHARK_SINK_S_EVERY": "soon"}
    layer = settings.from_environment(environ, ("sink", "s"), settings.fields(Sample))
    with pytest.raises(PluginError, match=r"^KSHARK_SINK_S_EVERY=soon: is not a time"):
        settings.resolve(Sample, [layer], "sink s")


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[snik]\n", r"no table \[snik\].*mean sink"),
        ("run = 1\n", r"\[run\] must be a table"),
        ("[[sink]]\ntarget = 'x'\n", "every .* needs a name"),
        ("[run\n", "--config .*line 1"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "kshark.toml"
    path.write_text(text)
    with pytest.raises(PluginError, match=said):
        read_config(str(path))


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="No such file"):
        read_config(str(tmp_path / "no.toml"))
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PluginError, match=r"b.toml"):
        read_config(str(tmp_path / "b.toml"))


def test_config_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "k.toml"
    path.write_text('[run]\niface = ["lo"]\n')
    where = places({}, environ={"KSHARK_CONFIG": str(path)})
    assert where.tables == {"run": {"iface": ["lo"]}}


def test_plugin_options_from_three_variables(tmp_path: Path) -> None:
    environ = {"KSHARK_PLUGINS": "a.py:b.py", "KSHARK_PLUGINS_DENY": "x,y*"}
    options = places({}, environ=environ).plugin_options()
    assert (options.files, options.deny) == (["a.py", "b.py"], ["x", "y*"])


# ---------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("1k", 1024), ("1.5KiB", 1536), ("1 MB", 10**6), ("2T", 2 * 2**40), ("7b", 7)],
)
def test_sizes(text: str, count: int) -> None:
    assert units.size(text) == count


@pytest.mark.parametrize("text", ["", "x", "-1", "1.k", "1e3", "1 KiB B", "1" * 40, "١"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError):
        units.size(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1.5", 1.5), ("2d", 172800), ("1m 30s", 90), ("10us", 1e-5), ("1h", 3600)],
)
def test_times(text: str, value: float) -> None:
    assert units.seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "x", "-1", "1y", "m", "1h!", "5 5"])
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError):
        units.seconds(text)


@given(st.integers(0, 10**18 - 1))
def test_a_whole_size_is_read_exactly(count: int) -> None:
    assert units.size(str(count)) == count
    assert units.size(f"{count % 2**20}MiB") == (count % 2**20) * 2**20


# ---------------------------------------------------------------- variables that are nearly ours


def test_a_variable_that_is_nearly_ours_is_noted() -> None:
    from kshark.places import strange_variables

    environ = {"KSHARK_SINKS": "x", "KSHARK_PURE": "1", "KSHARK_SINK_MINE_X": "1", "HOME": "/"}
    environ["KSHARK_OF_SOMEBODY_ELSE"] = "1"
    assert strange_variables(environ) == ["KSHARK_SINKS is no setting; did you mean KSHARK_SINK?"]
