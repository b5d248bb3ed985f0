"""Bodies against the protobuf library, and without a schema; bombs, cuts and garbage."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    json_format,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark import limits
from kshark.protocols.grpc.bodies import protobuf, show
from kshark.protocols.grpc.schema import Pool
from kshark.protocols.grpc.wire import Budget, guess, pieces

SCALARS = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "fixed64": 6, "fixed32": 7, "bool": 8,
    "string": 9, "bytes": 12, "uint32": 13, "sfixed32": 15, "sfixed64": 16, "sint32": 17, "sint64": 18,
}  # fmt: skip


def declared() -> descriptor_pb2.FileDescriptorProto:
    """A type with every type of field, alone and repeated, itself, an enum and a map."""
    made = descriptor_pb2.FileDescriptorProto(
        name="oracle.proto", package="oracle", syntax="proto3"
    )
    every = made.message_type.add(name="Every")
    number = 1
    for name, kind in SCALARS.items():
        for label in (1, 3):
            suffix = "s" if label == 3 else ""
            every.field.add(name=f"a_{name}{suffix}", number=number, type=kind, label=label)
            number += 1
    every.field.add(name="inner", number=50, type=11, label=1, type_name=".oracle.Every")
    every.field.add(name="inners", number=51, type=11, label=3, type_name=".oracle.Every")
    every.field.add(name="color", number=52, type=14, label=1, type_name=".oracle.Color")
    entry = every.nested_type.add(name="MapEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=5, label=1)
    every.field.add(name="map", number=53, type=11, label=3, type_name=".oracle.Every.MapEntry")
    color = made.enum_type.add(name="Color")
    for value, name in enumerate(("RED", "GREEN")):
        color.value.add(name=name, number=value)
    return made


OTHERS = (any_pb2, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
_POOL = descriptor_pool.Default()
_POOL.Add(declared())
Every: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("oracle.Every"))


def pool() -> Pool:
    made = Pool()
    files = [
        declared(),
        *(
            descriptor_pb2.FileDescriptorProto.FromString(m.DESCRIPTOR.serialized_pb)
            for m in OTHERS
        ),
    ]
    made.add_set(descriptor_pb2.FileDescriptorSet(file=files).SerializeToString())
    return made


TYPES = pool()
I32, U32 = st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)
I64, U64 = st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "double": st.floats(allow_nan=False), "float": st.floats(width=32, allow_nan=False), "int64": I64, "uint64": U64,
    "int32": I32, "fixed64": U64, "fixed32": U32, "bool": st.booleans(), "string": st.text(max_size=9),
    "bytes": st.binary(max_size=9), "uint32": U32, "sfixed32": I32, "sfixed64": I64, "sint32": I32, "sint64": I64,
}  # fmt: skip


@st.composite
def everything(draw: st.DrawFn, depth: int = 2) -> Any:
    """A message with some of its fields."""
    made = Every()
    for name in draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=5)):
        setattr(made, f"a_{name}", draw(VALUES[name]))
        getattr(made, f"a_{name}s").extend(draw(st.lists(VALUES[name], max_size=3)))
    made.color = draw(st.integers(0, 3))
    for key, value in draw(st.dictionaries(st.text(max_size=5), I32, max_size=2)).items():
        made.map[key] = value
    if depth and draw(st.booleans()):
        made.inner.CopyFrom(draw(everything(depth=depth - 1)))
        made.inners.add().CopyFrom(draw(everything(depth=depth - 1)))
    return made


def plain(value: Any, name: str = "") -> Any:
    """What protobuf's JSON writes as text because of JavaScript, as numbers."""
    if isinstance(value, dict):
        return {k: plain(v, k if name != "map" else "") for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v, name) for v in value]
    return int(value) if isinstance(value, str) and "64" in name else value


@given(everything())
@settings(max_examples=150, deadline=None)
def test_the_library_says_the_same(made: Any) -> None:
    wanted = plain(json_format.MessageToDict(made, preserving_proto_field_name=True))
    found = protobuf(made.SerializeToString(), TYPES, "oracle.Every", False, [])
    assert found.notes == []
    got = json.loads(found.text)
    assert got == rounded(wanted)


def rounded(value: Any) -> Any:
    """Floats of 32 bits are written with fewer digits by the library."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return pytest.approx(value, rel=1e-5) if isinstance(value, float) else value


def test_well_known_types() -> None:
    whole = struct_pb2.Struct()
    whole.update({"a": [1, None, "x", {"b": True}]})
    packed = any_pb2.Any()
    packed.Pack(wrappers_pb2.StringValue(value="in"))
    for made in (
        timestamp_pb2.Timestamp(seconds=1_700_000_000, nanos=5_000_000),
        duration_pb2.Duration(seconds=-3, nanos=-500_000_000),
        whole,
        packed,
        wrappers_pb2.BoolValue(value=True),
    ):
        found = protobuf(made.SerializeToString(), TYPES, made.DESCRIPTOR.full_name, False, [])
        assert json.loads(found.text) == json.loads(json_format.MessageToJson(made))


@given(everything(), st.data())
@settings(max_examples=80, deadline=None)
def test_cut_bodies_show_what_came(made: Any, more: st.DataObject) -> None:
    raw = made.SerializeToString()
    cut = raw[: more.draw(st.integers(0, len(raw)))]
    found = protobuf(cut, TYPES, "oracle.Every", True, [])
    assert "bad-protobuf" not in found.notes
    if found.reading == "oracle.Every":
        assert json.loads(found.text).keys() <= set(Every.DESCRIPTOR.fields_by_name)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_garbage_is_shown(raw: bytes) -> None:
    for kind in (
        "",
        "oracle.Every",
        "google.protobuf.Any",
        "google.protobuf.Struct",
        "google.protobuf.Timestamp",
    ):
        assert json.loads(json.dumps(protobuf(raw, TYPES, kind, False, []).text)) is not None
    show(raw, True, "", "proto", TYPES, "", False)


def test_readings_without_a_schema() -> None:
    made = Every(a_string="ann", a_bytes=b"\xff\xfe", a_int64=7, a_doubles=[1.0, 2.0])
    made.inner.a_string = "within"
    found = json.loads(protobuf(made.SerializeToString(), Pool(), "", False, []).text)
    names = Every.DESCRIPTOR.fields_by_name
    assert found[f"{names['a_string'].number}:string"] == "ann"
    assert found[f"{names['a_bytes'].number}:bytes"] == "//4="
    assert found[f"{names['inner'].number}:message"] == {
        f"{names['a_string'].number}:string": "within"
    }


def test_nesting_ends() -> None:
    """PROTO_DEPTH: what lies deeper is bytes."""
    raw = b"\x08\x01"
    for _ in range(limits.PROTO_DEPTH * 2):
        size = len(raw)
        raw = (
            b"\x0a" + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + raw
        )
    text = protobuf(raw, Pool(), "", False, []).text
    assert text.count("1:message") == limits.PROTO_DEPTH - 1
    assert '"1:bytes"' in text
    made = Every()
    at = made
    for _ in range(limits.PROTO_DEPTH * 2):
        at = at.inner
    at.a_string = "deep"
    assert "deep" not in protobuf(made.SerializeToString(), TYPES, "oracle.Every", False, []).text


def test_values_end() -> None:
    """PROTO_VALUES."""
    raw = b"\x08\x01" * (limits.PROTO_VALUES + 1)
    found = protobuf(raw, Pool(), "", False, [])
    assert found.notes == ["proto-limit"]
    assert len(json.loads(found.text)["1:varint"]) == limits.PROTO_VALUES


def test_a_bomb_ends() -> None:
    packed = gzip.compress(b"\0" * 50_000_000)
    found = show(packed, True, "gzip", "proto", Pool(), "", False)
    assert "unpack-limit" in found.notes
    assert len(found.text) <= 2 * limits.UNPACKED


def test_groups() -> None:
    assert guess(b"\x0b\x10\x07\x0c", Budget()) == {"1:group": {"2:varint": 7}}
    assert [*pieces(b"\x0b\x10\x07\x0c")] == [(1, 3, b"\x10\x07")]
