"""quality.parquet, and until the run ends quality.arrows: rows that a crash leaves readable."""

from __future__ import annotations

import logging
from io import FileIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from config.errors import TableError
from engine.monitor.figures import QUALITY_SCHEMA, Quality
from engine.output.disk import replacing, write_all

logger = logging.getLogger(__name__)

STREAM, TABLE = "quality.arrows", "quality.parquet"


class QualityLog:
    """Appends rows to quality.arrows in a run folder, and makes quality.parquet of it at the end.

    Figures are no localisations: a disk that refuses them is a warning, and from then on they are not written.
    """

    def __init__(self, folder: Path) -> None:
        """Begin the stream."""
        self._path, self._table = folder / STREAM, folder / TABLE
        self._file: FileIO | None = None
        try:
            self._file = FileIO(self._path, "xb")
        except OSError as error:
            self._give_up(error)
        self._append(QUALITY_SCHEMA.serialize())

    def write(self, quality: Quality) -> None:
        """Append one row; it survives the death of this process."""
        self._append(pa.RecordBatch.from_pylist([quality.figures()], QUALITY_SCHEMA).serialize())

    def close(self) -> None:
        """Make the table and drop the stream. May be called twice."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        try:
            table = read_quality(self._path)
            with replacing(self._table) as temporary:
                pq.write_table(table, temporary)
            self._path.unlink()
        except (OSError, TableError) as error:
            logger.warning("%s could not be made: %s. The rows are in %s.", self._table, error, self._path)

    def _append(self, message: pa.Buffer) -> None:
        if self._file is None:
            return
        try:
            write_all(self._file, memoryview(message))
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        logger.warning("the figures of quality cannot be written to %s: %s", self._path, error.strerror or error)
        if self._file is not None:
            self._file.close()
            self._file = None


def read_quality(path: Path) -> pa.Table:
    """The rows of a stream, whole or torn, or of a table (QUALITY_SCHEMA). Raises TableError."""
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        reader = pa.ipc.open_stream(path.read_bytes())
    except (OSError, pa.ArrowInvalid) as error:
        raise TableError(f"{path} holds no figures of quality: {error}.") from error
    batches = []
    while True:
        try:
            batches.append(reader.read_next_batch())
        except (StopIteration, pa.ArrowInvalid, OSError):
            return pa.Table.from_batches(batches, reader.schema)
