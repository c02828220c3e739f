"""What travels between the engine and viewers over ZeroMQ: the one place where messages are made and read.

docs/wire.md explains every message to those who write a client in another language. In short: a message is a list of
parts. Published ones are [topic, header, payload…], answers [header, payload…], requests [header]. A header is a JSON
object, tables are Arrow IPC streams, camera frames raw little-endian pixels. Nothing here opens a socket.

Whatever comes from outside is read with the same care: anything that is not as it should be raises WireError.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from config.errors import WireError
from engine.localisations import LOCALISATION_SCHEMA
from engine.output.recorder import END_OF_STREAM

VERSION = 1
"""Of the messages. Raised when an old client could misread a new message; new fields and kinds do not raise it."""
DEFAULT_PORT = 5601
"""Where an engine publishes unless it is told otherwise; it answers one port above."""

LOCALISATIONS, PREVIEW, STATUS, QUALITY = "localisations", "preview", "status", "quality"
PUBLISHED = {LOCALISATIONS: 1, PREVIEW: 2, STATUS: 0, QUALITY: 0}
"""Kinds that are published, each its own topic, and how many parts follow the header."""
DESCRIPTION, END, DONE, REFUSED = "description", "end", "done", "refused"
ANSWERS = {DESCRIPTION: 0, LOCALISATIONS: 1, END: 0, DONE: 0, REFUSED: 0}
"""Kinds that answer a request, and how many parts follow the header."""
DESCRIBE, REPLAY, COMMAND = "describe", "replay", "command"
REQUESTS = (DESCRIBE, REPLAY, COMMAND)
"""What may be asked for."""
COMMANDS = ("start", "pause", "stop", "mark", "target")
"""What ``command`` may name."""

LARGEST_HEADER = 1 << 20
"""Bytes of a header."""
LARGEST_REQUEST = 1 << 16
"""Bytes of a request; the engine's sockets drop whoever sends more."""
LARGEST_PART = 1 << 28
"""Bytes of any part that a client takes."""
LARGEST_NUMBER = (1 << 63) - 1
"""Of sequence and frame numbers."""
DTYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype("u1"), "uint16": np.dtype("<u2")}
"""Pixels of a preview: their names on the wire and what they are."""

Part: TypeAlias = bytes | memoryview


@dataclass(frozen=True, eq=False)
class Message:
    """Something published, or an answer."""

    kind: str
    run: str
    """Which run it is about."""
    sequence: int
    """Of localisations: which batch of the log, counted from 0 without gaps. Of other published kinds: a count of that
    kind. Of other answers: 0."""
    header: Mapping[str, Any] = field(default_factory=dict)
    """What the kind adds to the header."""
    payload: tuple[Part, ...] = ()
    """The parts behind the header."""
    session: str = ""
    """Which engine process it came from. Another one counts from 0 again, even where the run is called the same."""


@dataclass(frozen=True)
class Request:
    """Something that a client asks for."""

    request: str
    """One of REQUESTS."""
    id: str | int | None = None
    """Whatever the client wants to find again in the answers."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """The other fields."""


@dataclass(frozen=True, eq=False)
class Preview:
    """A camera frame and what was found in it."""

    frame: int
    pixels: NDArray[np.generic]
    """(H, W) uint8 or uint16 [ADU]; read only."""
    rows: pa.RecordBatch
    """LOCALISATION_SCHEMA, with the log's metadata: the localisations of this frame."""
    origin: tuple[int, int] = (0, 0)
    """x and y of the frame's corner on the camera [pixels]: the rows count from the camera's corner."""


# Published messages and answers.


def encode(message: Message) -> list[bytes]:
    """The parts of a published message: topic, header, payload. Raises WireError for a header that is too large."""
    return [message.kind.encode(), *encode_answer(message)]


def encode_answer(message: Message) -> list[bytes]:
    """The parts of an answer: header, payload. Raises WireError for a header that is too large."""
    header = {
        "liveloc": VERSION,
        "kind": message.kind,
        "run": message.run,
        "session": message.session,
        "sequence": message.sequence,
    }
    return [_json({**message.header, **header}, LARGEST_HEADER), *map(bytes, message.payload)]


def decode(parts: Sequence[Part]) -> Message:
    """Read a published message. Raises WireError."""
    if len(parts) < 2:
        _bad("topic, header and payload", f"{len(parts)} parts")
    message = _decode(parts[1:], PUBLISHED)
    if bytes(parts[0]) != message.kind.encode():
        _bad(f"the topic {message.kind}", repr(bytes(parts[0][:40])))
    return message


def decode_answer(parts: Sequence[Part]) -> Message:
    """Read an answer; the request's id is in its header. Raises WireError."""
    return _decode(parts, ANSWERS)


def _decode(parts: Sequence[Part], kinds: Mapping[str, int]) -> Message:
    header = _object(parts[0] if parts else b"", LARGEST_HEADER)
    kind = header.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        _bad(f"a kind of {', '.join(kinds)}", _shown(kind))
    if len(parts) != 1 + kinds[kind]:
        _bad(f"{1 + kinds[kind]} parts from the header on for {kind}", str(len(parts)))
    run, session = _text(header.pop("run", None), "run"), _text(header.pop("session", ""), "session")
    sequence = _number(header.pop("sequence", 0), "sequence")
    return Message(kind, run, sequence, header, tuple(parts[1:]), session)


# Requests.


def encode_request(request: Request) -> list[bytes]:
    """The one part of a request. Raises WireError where it is too large."""
    header = {"liveloc": VERSION, "request": request.request, "id": request.id}
    return [_json({**request.arguments, **header}, LARGEST_REQUEST)]


def decode_request(parts: Sequence[Part]) -> Request:
    """Read a request. Raises WireError."""
    if len(parts) != 1:
        _bad("one part, the request", f"{len(parts)} parts")
    header = _object(parts[0], LARGEST_REQUEST)
    kind, name = header.pop("request", None), _known_id(header.pop("id", None))
    if not isinstance(kind, str) or kind not in REQUESTS:
        _bad(f"a request of {', '.join(REQUESTS)}", _shown(kind))
    return Request(kind, name, header)


def id_of(parts: Sequence[Part]) -> str | int | None:
    """The id of a request that cannot be read, so that its sender can tell which one was refused; None without."""
    try:
        header: object = json.loads(bytes(parts[0])) if len(parts) == 1 and len(parts[0]) <= LARGEST_REQUEST else None
        return _known_id(header.get("id")) if isinstance(header, dict) else None
    except (ValueError, RecursionError, WireError):
        return None


def _known_id(value: Any) -> str | int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int))):
        _bad("text or a whole number as id", _shown(value))
    return value


# Tables.


def table_bytes(schema: pa.Schema, batch: pa.RecordBatch) -> bytes:
    """One batch as an Arrow IPC stream of its own; ``schema`` brings the log's metadata."""
    return stream_of(memoryview(schema.serialize()), memoryview(batch.serialize()))


def stream_of(schema: Part, batch: Part) -> bytes:
    """An Arrow IPC stream of one batch, from the encapsulated messages of its schema and of the batch."""
    return b"".join((schema, batch, END_OF_STREAM))


def localisations(message: Message) -> pa.RecordBatch:
    """The rows of a localisations message; the log's metadata is in its schema. Raises WireError."""
    if message.kind != LOCALISATIONS or len(message.payload) != 1:
        _bad("a localisations message", f"{message.kind} with {len(message.payload)} parts")
    return _rows(message.payload[0])


def _rows(part: Part) -> pa.RecordBatch:
    """LOCALISATION_SCHEMA out of an Arrow IPC stream from who knows where."""
    try:
        with pa.ipc.open_stream(pa.py_buffer(part)) as stream:
            if not stream.schema.equals(LOCALISATION_SCHEMA):
                _bad(f"the columns {', '.join(LOCALISATION_SCHEMA.names)}", f"{stream.schema.names}, or other types")
            batch = stream.read_next_batch()
            batch.validate(full=True)
    except StopIteration:
        _bad("one record batch", "none")
    except (pa.ArrowException, OSError, EOFError, MemoryError, ValueError, OverflowError) as error:
        raise WireError(f"expected an Arrow IPC stream of localisations, found damage: {error}.") from error
    unknown = [column.name for column in LOCALISATION_SCHEMA if not column.nullable and batch[column.name].null_count]
    if unknown:
        _bad("a value in every row", f"nulls in {', '.join(unknown)}")
    return batch


# Camera frames.


def preview_parts(
    preview: Preview, schema: pa.Schema = LOCALISATION_SCHEMA
) -> tuple[dict[str, Any], tuple[bytes, bytes]]:
    """Header and payload of a preview. Pixels of other types than uint8 and uint16 are clipped to uint16.

    ``schema`` brings the log's metadata.
    """
    pixels = _wire_pixels(preview.pixels)
    header = {
        "frame": preview.frame,
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "dtype": "uint8" if pixels.itemsize == 1 else "uint16",
        "min": int(pixels.min()),
        "max": int(pixels.max()),
        "origin": list(preview.origin),
    }
    return header, (pixels.tobytes(), table_bytes(schema, preview.rows))


def _wire_pixels(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    if pixels.dtype in DTYPES.values():
        return pixels
    values = np.clip(np.nan_to_num(pixels.astype(np.float64)), 0, 65535)
    return np.rint(values).astype(np.dtype("<u2"))


def preview(message: Message) -> Preview:
    """The frame and the rows of a preview message. Raises WireError."""
    if message.kind != PREVIEW or len(message.payload) != 2:
        _bad("a preview message", f"{message.kind} with {len(message.payload)} parts")
    frame, height, width = (_number(message.header.get(name), name) for name in ("frame", "height", "width"))
    dtype, raw = _dtype(message.header.get("dtype")), message.payload[0]
    if not height or not width or len(raw) != height * width * dtype.itemsize:
        _bad(f"{height}×{width} pixels of {dtype}", f"{len(raw)} bytes")
    pixels = np.frombuffer(raw, dtype).reshape(height, width)
    return Preview(frame, pixels, _rows(message.payload[1]), _origin(message.header.get("origin", [0, 0])))


def _dtype(name: Any) -> np.dtype[Any]:
    if not isinstance(name, str) or name not in DTYPES:
        _bad(f"pixels of {' or '.join(DTYPES)}", _shown(name))
    return DTYPES[name]


def _origin(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        _bad("an origin [x, y]", _shown(value))
    x, y = value
    return _number(x, "origin"), _number(y, "origin")


def figures(message: Message) -> dict[str, Any]:
    """The dictionary that a status or quality message carries. Raises WireError."""
    value = message.header.get(message.kind)
    if not isinstance(value, dict):
        _bad(f"an object under {message.kind!r}", _shown(value))
    return cast("dict[str, Any]", value)


# Addresses.


def endpoint(host: str, port: int) -> str:
    """``tcp://host:port``, with brackets around an IPv6 address."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def split_endpoint(text: str) -> tuple[str, int]:
    """Host and port of ``tcp://host:port``, ``host:port`` or ``host`` alone. Raises WireError."""
    match = re.fullmatch(r"(?:tcp://)?(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:/\s\[\]]+))(?::(\d{1,5}))?", text.strip())
    port = int(match[3]) if match and match[3] else DEFAULT_PORT
    if not match or not 1 <= port <= 65534:
        raise WireError(
            f"expected an engine's address such as tcp://127.0.0.1:{DEFAULT_PORT}, found {text!r:.80}. "
            "run.json in a run folder tells it."
        )
    return match[1] or match[2], port


def request_endpoint(publisher: str) -> str:
    """Where the engine that publishes at ``publisher`` answers requests: one port above. Raises WireError."""
    host, port = split_endpoint(publisher)
    return endpoint(host, port + 1)


def is_loopback(address: str) -> bool:
    """Whether only this computer itself can reach the address."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


# JSON.


def _json(header: Mapping[str, Any], limit: int) -> bytes:
    encoded = json.dumps(plain(header), allow_nan=False, separators=(",", ":")).encode()
    if len(encoded) > limit:
        _bad(f"a header of at most {limit} bytes", str(len(encoded)))
    return encoded


def plain(value: Any) -> Any:
    """``value`` in JSON's own terms: numbers that are not finite become null, numpy's become Python's, others text."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value if value is None or isinstance(value, (str, int)) else str(value)


def _object(part: Part, limit: int) -> dict[str, Any]:
    """A JSON object of our version."""
    if len(part) > limit:
        _bad(f"a header of at most {limit} bytes", str(len(part)))
    try:
        header: object = json.loads(bytes(part), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise WireError(f"expected a JSON object as header, found {bytes(part[:40])!r}: {error}.") from error
    if not isinstance(header, dict):
        _bad("a JSON object as header", type(header).__name__)
    values = cast("dict[str, Any]", header)
    version = values.pop("liveloc", None)
    if version != VERSION or isinstance(version, (bool, float)):
        raise WireError(
            f"expected messages of version {VERSION}, found {_shown(version)}. "
            "Use the same version of liveloc at both ends."
        )
    return values


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _number(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_NUMBER:
        _bad(f"a whole number of 0 or more as {name}", _shown(value))
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        _bad(f"text as {name}", _shown(value))
    return value


def _shown(value: Any) -> str:
    """A piece of a message, short: what stands in a message may be large, and nested deeper than repr can go."""
    return f"{value!r:.60}" if value is None or isinstance(value, (str, int, float)) else type(value).__name__


def _bad(expected: str, found: str) -> NoReturn:
    raise WireError(f"a message from the wire is malformed: expected {expected}, found {found}.")
