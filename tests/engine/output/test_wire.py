"""Messages: what is encoded is decoded, and nothing else than a WireError comes of anything else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.errors import WireError
from engine.localisations import LOCALISATION_SCHEMA, empty_batch
from engine.monitor.figures import QUALITY_SCHEMA
from engine.output import wire
from engine.output.table import describe_field
from engine.output.wire import Message, Preview, Request
from engine.pipeline import Pipeline
from tests.engine.doubles import FakeLocaliser, FakeSink, FakeSource

MakeBatch = Callable[..., pa.RecordBatch]

SCHEMA = LOCALISATION_SCHEMA.with_metadata({"run_id": "r", "pixel_size_nm": "100.0"})
HEADER = {"liveloc": 1, "kind": "status", "run": "r", "session": "s", "sequence": 3, "status": {"lag": 0}}
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def table_message(batch: pa.RecordBatch) -> Message:
    return Message(wire.LOCALISATIONS, "r", 7, {"rows": batch.num_rows}, (wire.table_bytes(SCHEMA, batch),), "s")


def preview_of(pixels: np.ndarray[Any, Any], rows: pa.RecordBatch) -> Message:
    return Message(wire.PREVIEW, "r", 0, *wire.preview_parts(Preview(12, pixels, rows, (4, 5)), SCHEMA), "s")


def status_parts(**changes: Any) -> list[bytes]:
    header = {name: value for name, value in (HEADER | changes).items() if value is not ...}
    return [b"status", json.dumps(header).encode()]


@given(run=TEXT, session=TEXT, sequence=st.integers(0, wire.LARGEST_NUMBER), status=st.dictionaries(TEXT, JSON))
def test_a_status_comes_back(run: str, session: str, sequence: int, status: dict[str, Any]) -> None:
    message = wire.decode(wire.encode(Message(wire.STATUS, run, sequence, {"status": status}, (), session)))
    assert (message.kind, message.run, message.sequence, message.session) == ("status", run, sequence, session)
    assert wire.figures(message) == status


def test_rows_come_back_with_the_metadata_of_the_log(make_batch: MakeBatch) -> None:
    batch = make_batch(40)
    message = wire.decode(wire.encode(table_message(batch)))
    rows = wire.localisations(message)
    assert rows.equals(batch)
    assert rows.schema.metadata == SCHEMA.metadata
    assert message.header == {"rows": 40}


@pytest.mark.parametrize("dtype", ["u1", "<u2"])
def test_a_preview_comes_back(make_batch: MakeBatch, dtype: str) -> None:
    pixels = np.arange(12, dtype=dtype).reshape(3, 4)
    preview = wire.preview(wire.decode(wire.encode(preview_of(pixels, make_batch(5)))))
    assert preview.pixels.dtype == pixels.dtype
    assert np.array_equal(preview.pixels, pixels)
    assert (preview.frame, preview.origin, preview.rows.num_rows) == (12, (4, 5), 5)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[-3.0, 2.6, np.nan, 1e9]]), [[0, 3, 0, 65535]]),
        (np.array([[-1, 7, 70000]], np.int64), [[0, 7, 65535]]),
        (np.array([[1, 2], [3, 4]], ">u2"), [[1, 2], [3, 4]]),
        (np.asfortranarray(np.array([[1, 2], [3, 4]], "<u2")), [[1, 2], [3, 4]]),
    ],
    ids=["float", "int64", "big-endian", "column-major"],
)
def test_other_pixels_are_clipped_to_uint16(pixels: np.ndarray[Any, Any], expected: list[list[int]]) -> None:
    preview = wire.preview(preview_of(pixels, empty_batch()))
    assert preview.pixels.dtype == np.dtype("<u2")
    assert preview.pixels.tolist() == expected


def test_numbers_that_are_not_finite_travel_as_null() -> None:
    values = {
        "a": math.nan,
        "b": [math.inf, np.float32(1.5)],
        "c": np.int64(4),
        "d": {"e": -math.inf},
        "f": np.array([[1.0, np.nan]]),
    }
    message = wire.decode(wire.encode(Message(wire.QUALITY, "r", 0, {"quality": values})))
    assert wire.figures(message) == {"a": None, "b": [None, 1.5], "c": 4, "d": {"e": None}, "f": [[1.0, None]]}


@given(name=st.none() | TEXT | st.integers(), arguments=st.dictionaries(TEXT.map("x".__add__), JSON, max_size=4))
def test_a_request_comes_back(name: str | int | None, arguments: dict[str, Any]) -> None:
    request = Request(wire.REPLAY, name, arguments)
    assert wire.decode_request(wire.encode_request(request)) == request


def test_an_answer_comes_back() -> None:
    answer = wire.decode_answer(wire.encode_answer(Message(wire.END, "r", 0, {"id": "a", "next": 3}, (), "s")))
    assert (answer.kind, answer.header) == ("end", {"id": "a", "next": 3})


def test_what_a_header_does_not_know_is_kept() -> None:
    assert wire.decode(status_parts(added_later=5)).header["added_later"] == 5


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([], "0 parts"),
        ([b"status"], "1 parts"),
        (status_parts(liveloc=2), "version 1, found 2"),
        (status_parts(liveloc=...), "version 1, found None"),
        (status_parts(liveloc=True), "version 1, found True"),
        (status_parts(liveloc=[[]]), "version 1, found list"),
        (status_parts(kind="gossip"), "gossip"),
        (status_parts(kind=["status"]), "list"),
        (status_parts(sequence=-1), "sequence"),
        (status_parts(sequence=1.0), "sequence"),
        (status_parts(sequence=True), "sequence"),
        (status_parts(sequence=1 << 64), "sequence"),
        (status_parts(run=...), "run"),
        (status_parts(run=4), "run"),
        (status_parts(session=None), "session"),
        ([b"quality", status_parts()[1]], "topic"),
        ([*status_parts(), b"more"], "1 parts from the header on"),
        ([b"status", b"not json"], "JSON"),
        ([b"status", b"[1]"], "object"),
        ([b"status", b"\xff\xfe"], "JSON"),
        ([b"status", b'{"liveloc": 1, "sequence": NaN}'], "NaN"),
        ([b"status", b"[" * 100_000], "JSON"),
        ([b"status", b'{"liveloc":' + b"9" * 10_000 + b"}"], "JSON"),
        ([b"status", b" " * (wire.LARGEST_HEADER + 1)], "at most"),
    ],
)
def test_a_malformed_message_says_what_was_expected(parts: list[bytes], words: str) -> None:
    with pytest.raises(WireError, match=words):
        wire.decode(parts)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"{}"],
        [b'{"liveloc":1}'],
        [b'{"liveloc":1,"request":"fly"}'],
        [b'{"liveloc":1,"request":"describe","id":[1]}'],
        [b'{"liveloc":2,"request":"describe"}'],
        [b'{"liveloc":1,"request":"describe"}', b""],
        [b'{"liveloc":1,"request":"' + b"x" * wire.LARGEST_REQUEST + b'"}'],
    ],
)
def test_a_malformed_request_is_a_wire_error(parts: list[bytes]) -> None:
    with pytest.raises(WireError):
        wire.decode_request(parts)


def test_the_id_of_an_unreadable_request_is_found_where_there_is_one() -> None:
    assert wire.id_of([b'{"id": "a", "liveloc": 99}']) == "a"
    assert [wire.id_of(parts) for parts in ([], [b"["], [b"[]"], [b'{"id": []}'], [b"[" * 99_999])] == [None] * 5


def test_a_figure_that_is_no_dictionary_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="status"):
        wire.figures(wire.decode(status_parts(status=[])))


@pytest.mark.parametrize(
    "changes",
    [
        {"frame": -1},
        {"height": 0},
        {"height": 1 << 40},
        {"width": 3.0},
        {"width": 5},
        {"dtype": "float32"},
        {"dtype": []},
        {"origin": 3},
        {"origin": [1]},
        {"origin": [1, -1]},
        {"origin": None},
    ],
)
def test_a_preview_that_contradicts_itself_is_a_wire_error(make_batch: MakeBatch, changes: dict[str, Any]) -> None:
    good = preview_of(np.zeros((3, 4), np.uint8), make_batch(5))
    with pytest.raises(WireError):
        wire.preview(Message(wire.PREVIEW, "r", 0, {**good.header, **changes}, good.payload))


def streams() -> dict[str, bytes]:
    row = pa.RecordBatch.from_pylist([dict.fromkeys(LOCALISATION_SCHEMA.names, 1)], LOCALISATION_SCHEMA)
    nullable = pa.schema([pa.field(column.name, column.type, True) for column in LOCALISATION_SCHEMA])
    nulls = pa.RecordBatch.from_pylist([{}], nullable)
    other = pa.record_batch({"x": [1.0]})
    return {
        "empty": b"",
        "no batch": SCHEMA.serialize().to_pybytes(),
        "no schema": row.serialize().to_pybytes(),
        "other columns": wire.table_bytes(other.schema, other),
        "other types": wire.table_bytes(nullable, nulls),
        "nulls": wire.table_bytes(LOCALISATION_SCHEMA, nulls),
        "truncated": wire.table_bytes(SCHEMA, row)[:-200],
    }


@pytest.mark.parametrize("name", streams())
def test_a_payload_that_is_no_table_of_localisations_is_a_wire_error(name: str) -> None:
    with pytest.raises(WireError):
        wire.localisations(Message(wire.LOCALISATIONS, "r", 0, {}, (streams()[name],)))


def read_everything(parts: list[bytes]) -> None:
    """Whatever a client or an engine does with what it received."""
    for decode in (wire.decode, wire.decode_answer, wire.decode_request):
        try:
            message = decode(parts)
        except WireError:
            continue
        if isinstance(message, Message):
            for look in (wire.figures, wire.preview, wire.localisations):
                try:
                    look(message)
                except WireError:
                    continue


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_random_parts_raise_nothing_else(parts: list[bytes]) -> None:
    read_everything(parts)


@given(JSON.map(lambda value: {"liveloc": 1, "kind": "preview", "run": "r", "frame": value, "width": value}))
def test_random_headers_raise_nothing_else(header: dict[str, Any]) -> None:
    read_everything([json.dumps(header).encode(), b"", b""])
    read_everything([b"preview", json.dumps(header).encode(), b"", b""])


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_messages_raise_nothing_else(data: st.DataObject, make_batch: MakeBatch) -> None:
    pixels = np.zeros((3, 4), np.uint8)
    original = data.draw(st.sampled_from([table_message(make_batch(5)), preview_of(pixels, make_batch(5))]))
    parts = [bytearray(part) for part in wire.encode(original)]
    for _ in range(data.draw(st.integers(1, 6))):
        part = parts[data.draw(st.integers(0, len(parts) - 1))]
        match data.draw(st.sampled_from(["flip", "cut", "insert", "number"])):
            case "flip" if part:
                part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
            case "number" if len(part) > 8:  # lengths and offsets stand at multiples of four
                at = 4 * data.draw(st.integers(0, len(part) // 4 - 1))
                part[at : at + 4] = data.draw(st.integers(-(1 << 31), (1 << 31) - 1)).to_bytes(4, "little", signed=True)
            case "cut":
                del part[data.draw(st.integers(0, len(part))) :]
            case _:
                part[:0] = data.draw(st.binary(max_size=9))
    read_everything([bytes(part) for part in parts])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp://127.0.0.1:5601", ("127.0.0.1", 5601)),
        ("microscope:7000", ("microscope", 7000)),
        ("microscope", ("microscope", wire.DEFAULT_PORT)),
        ("tcp://[::1]:5601", ("::1", 5601)),
    ],
)
def test_endpoints_are_understood(text: str, expected: tuple[str, int]) -> None:
    host, port = wire.split_endpoint(text)
    assert (host, port) == expected
    assert wire.split_endpoint(wire.request_endpoint(text)) == (host, port + 1)


@pytest.mark.parametrize("text", ["", "tcp://", "http://a:1", "a:0", "a:65535", "a:99999", "a b:1", "::1:5"])
def test_what_is_no_endpoint_is_a_wire_error(text: str) -> None:
    with pytest.raises(WireError, match="tcp://"):
        wire.split_endpoint(text)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)]
    + [(address, False) for address in ("0.0.0.0", "*", "::", "192.168.1.2", "microscope", "", "127.0.0.1.example")],
)
def test_loopback_is_this_computer_alone(address: str, loopback: bool) -> None:
    assert wire.is_loopback(address) is loopback


def documented(field: str, page: str) -> bool:
    return f"`{field}`" in page


def test_the_documentation_names_everything_that_travels(pytestconfig: pytest.Config) -> None:
    page = (pytestconfig.rootpath / "docs" / "wire.md").read_text(encoding="utf-8")
    status = Pipeline(FakeSource([]), FakeLocaliser(), FakeSink()).status().figures()
    facts = describe_field("r", 1.0, 1, 1, 1, 1.0)
    preview, _ = wire.preview_parts(Preview(0, np.zeros((1, 1), np.uint8), empty_batch()))
    kinds = {*wire.PUBLISHED, *wire.ANSWERS, *wire.REQUESTS, *wire.COMMANDS}
    names = {*status, *facts, *preview, *kinds, *QUALITY_SCHEMA.names, *LOCALISATION_SCHEMA.names, *HEADER}
    assert [name for name in sorted(names) if not documented(name, page)] == []
