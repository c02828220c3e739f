"""The crash-safe log of localisations: an Arrow IPC stream that grows by whole batches, and its readers.

Each batch is one Arrow message, written and synced before ``write`` returns. The end marker of the format comes only
with ``close``; a process that was killed leaves a stream without it, at worst with a torn message behind the last whole
one. The readers here take every whole message and leave the rest.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path

import pyarrow as pa

from config.errors import RecorderFailed, TableError
from engine.localisations import LOCALISATION_SCHEMA
from engine.output.disk import sync_folder, write_all
from engine.output.table import conform

logger = logging.getLogger(__name__)

END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""What ends an Arrow IPC stream: a continuation marker and a message of length nought (Arrow columnar format, IPC)."""


class Recorder:
    """Writes localisations to a log that a crash cannot damage. A Sink.

    ``rows`` counts the localisations that are safely on disk: written and synced, so that neither ``kill -9`` nor a
    power cut takes them. After a failure everything before it stays readable, and the recorder takes no more.
    """

    def __init__(self, path: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Create the log. ``metadata`` (see ``engine.output.table``) goes into its schema.

        Raises RecorderFailed where the file exists already or cannot be made.
        """
        self.path = path
        self.rows = 0
        self._safe = 0
        self._file = _create(path)
        try:
            self._append(LOCALISATION_SCHEMA.with_metadata(dict(metadata or {})).serialize())
            sync_folder(path.parent)
        except RecorderFailed:
            path.unlink(missing_ok=True)
            raise

    def write(self, batch: pa.RecordBatch) -> None:
        """Append one batch (LOCALISATION_SCHEMA); when this returns its rows are on disk. Empty ones write nothing.

        Raises RecorderFailed on a full disk, any other refusal of it, a wrong batch, or after ``close``.
        """
        self.write_together([batch])

    def write_together(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Append several batches as they are, with one sync of the disk. See ``write``."""
        if self._file.closed:
            raise RecorderFailed(f"the log {self.path} is closed. Start a new run to record more.")
        for batch in batches:
            _check_columns(batch)
        full = [batch for batch in batches if batch.num_rows]
        if full:
            messages = [batch.serialize() for batch in full]
            self._append(messages[0] if len(messages) == 1 else pa.py_buffer(b"".join(map(memoryview, messages))))
            self.rows += sum(batch.num_rows for batch in full)

    def close(self) -> None:
        """Write the end marker and close. May be called twice."""
        if self._file.closed:
            return
        try:
            self._append(pa.py_buffer(END_OF_STREAM))
        except RecorderFailed as error:
            logger.warning("the log's end marker could not be written; its rows are safe: %s", error)
        self._file.close()

    def _append(self, message: pa.Buffer) -> None:
        """Write a whole message and sync it, or leave the file as it was before."""
        try:
            write_all(self._file, memoryview(message))
            os.fsync(self._file.fileno())
        except OSError as error:
            self._undo()
            raise RecorderFailed(
                f"localisations cannot be written to {self.path}: {error.strerror or error}. "
                f"The {self.rows} before are safe and readable. Free space on that disk, or choose "
                "another with run.output=FOLDER, and run again."
            ) from error
        self._safe += message.size

    def _undo(self) -> None:
        """Cut off what was written of a failed message. Readers cope with a torn tail, so a refusal is no harm."""
        try:
            self._file.truncate(self._safe)
        except OSError as error:
            logger.warning("the torn end of %s could not be cut off: %s", self.path, error)
        self._file.close()


def _check_columns(batch: pa.RecordBatch) -> None:
    if not batch.schema.equals(LOCALISATION_SCHEMA):
        raise RecorderFailed(
            f"the log takes the columns {LOCALISATION_SCHEMA.names}, this batch has {batch.schema.names} "
            "or other types. Build batches with LOCALISATION_SCHEMA."
        )


def _create(path: Path) -> FileIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileIO(path, "xb")
    except FileExistsError as error:
        raise RecorderFailed(
            f"{path} exists and is never overwritten. Choose another folder with run.output=FOLDER, or move it away."
        ) from error
    except OSError as error:
        raise RecorderFailed(
            f"{path} cannot be created: {error.strerror or error}. Choose a folder that can be written with "
            "run.output=FOLDER."
        ) from error


class LogTail:
    """Reads a log while it is being written: each call gives the batches that have come since the last one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.schema: pa.Schema | None = None
        """The log's schema with its metadata, once the header could be read."""
        self._offset = 0

    def read_new(self) -> list[pa.RecordBatch]:
        """The whole batches since the last call, none if there are none. A half-written one waits for the next call.

        Raises TableError where the file is missing, shrank, or is no log of localisations.
        """
        start, reader = self._offset, pa.BufferReader(self._read_rest())
        batches = []
        while (message := _next_message(reader)) is not None:
            if self.schema is None:
                self.schema = _log_schema(message, self.path)
            else:
                batches.append(_batch(message, self.schema, self.path))
            self._offset = start + reader.tell()
        return batches

    def _read_rest(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._offset:
                    raise TableError(f"{self.path} became shorter while it was read: it was replaced. Open it anew.")
                file.seek(self._offset)
                return file.read()
        except OSError as error:
            raise TableError(f"the log {self.path} cannot be read: {error.strerror or error}.") from error


def _next_message(reader: pa.BufferReader) -> pa.ipc.Message | None:
    """The next whole message, or None at the end marker, at the end of the file and at a torn message."""
    try:
        return pa.ipc.read_message(reader)
    except (EOFError, pa.ArrowInvalid, OSError):
        return None


def _log_schema(message: pa.ipc.Message, path: Path) -> pa.Schema:
    try:
        schema = pa.ipc.read_schema(message)
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{path} is no liveloc log: {error}.") from error
    conform(schema.empty_table(), str(path))
    return schema


def _batch(message: pa.ipc.Message, schema: pa.Schema, path: Path) -> pa.RecordBatch:
    try:
        return pa.ipc.read_record_batch(message, schema)
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{path} is damaged in its middle, not only torn at its end: {error}.") from error


def read_log(path: Path) -> pa.Table:
    """Every whole batch of a log, as a table with its metadata, however the run ended.

    Raises TableError where the file is missing, is no log, or was torn before its header was complete.
    """
    tail = LogTail(path)
    batches = tail.read_new()
    if tail.schema is None:
        raise TableError(
            f"{path} holds no complete log header: it is no liveloc log, or the run died before it began to record."
        )
    return conform(pa.Table.from_batches(batches, tail.schema), str(path))
