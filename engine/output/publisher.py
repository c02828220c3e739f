"""The publisher: localisations, previews, status and figures to whoever listens, and answers to whoever asks.

Its two sockets belong to one thread (engine/output/server.py). Everybody else only hands messages in and never waits: a
listener that is slow, stopped, gone or hostile loses messages of its own and holds nobody up. What it lost it asks for
again, and gets it from the log. docs/wire.md tells what goes over the sockets.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from config.errors import RunError
from config.schema import WireSettings
from engine.localisations import LOCALISATION_SCHEMA
from engine.output import wire
from engine.output.commands import CommandHandler
from engine.output.replay import LogPieces
from engine.output.server import Describe, Outgoing, Server, Stamp
from engine.output.wire import Preview


class Publisher:
    """Publishes a run. A Sink, to stand behind the recorder; use as a context, or call ``stop``.

        with Publisher(folder.log_path, folder.run_id, settings.wire, describe, pipeline) as publisher:
            status = pipeline.run(lambda status: publisher.send_status(status.figures()))
            publisher.send_status(status.figures())

    ``write``, ``close`` and the ``send_`` methods may be called from any thread, never wait, and raise nothing because
    of a listener. ``close`` says that no more batches will come; answers and status go on until ``stop``, so that those
    who are behind can catch up while the run's tables are written.
    """

    def __init__(
        self,
        log_path: Path,
        run_id: str,
        settings: WireSettings,
        describe: Describe,
        handler: CommandHandler | None = None,
    ) -> None:
        """Bind the sockets and begin to answer; the log need not be there yet.

        ``describe`` gives what a client should know: status, source, model, feedback, in JSON's terms. It is called
        for each client on the publishing thread and must be quick.
        Raises SettingsError where the address cannot be had or needs keys, WireError where keys cannot be read.
        """
        self._stamp = Stamp(run_id, secrets.token_hex(8))
        self._log = LogPieces(log_path)
        self._counts: dict[str, int] = dict.fromkeys(wire.PUBLISHED, 0)
        self._lock = threading.Lock()
        self._closed = False
        self._server = Server(settings, self._stamp, self._log, describe, handler)
        self._server.start()

    @property
    def endpoint(self) -> str:
        """Where messages are published, for run.json and viewers; requests are answered one port above."""
        return self._server.endpoint

    @property
    def malformed(self) -> int:
        """Requests that could not be read, so far."""
        return self._server.malformed

    @property
    def left_out(self) -> int:
        """Messages that found too many waiting to be published. Listeners get such localisations from the log."""
        return self._server.outbox.refused

    def write(self, batch: pa.RecordBatch) -> None:
        """Publish a batch that the recorder has written; empty ones are not. See Sink.write.

        Raises RunError once publishing has ended with an error, TableError where the log is not there.
        """
        if self._closed:
            raise RunError("this publisher is closed: it takes no more batches. Make one for each run.")
        if not self._server.is_alive():
            raise RunError("publishing has ended. The recording goes on; viewers can open the run's folder.")
        if not batch.num_rows:
            return
        data = memoryview(batch.serialize())
        self._log.add(data.nbytes)
        payload = wire.stream_of(self._log.header, data)
        number = len(self._log) - 1
        message = self._stamp.message(wire.LOCALISATIONS, number, {"rows": batch.num_rows}, (payload,))
        self._server.outbox.put(Outgoing(message), len(payload))

    def close(self) -> None:
        """No more batches will come. May be called twice."""
        self._closed = True

    def send_status(self, status: Mapping[str, Any]) -> None:
        """Publish the status: a flat dictionary in JSON's terms."""
        self._send(wire.STATUS, {"status": dict(status), "batches": len(self._log)})

    def send_quality(self, figures: Mapping[str, Any]) -> None:
        """Publish one row of figures."""
        self._send(wire.QUALITY, {"quality": dict(figures)})

    def send_preview(
        self, frame: int, pixels: NDArray[np.generic], rows: pa.RecordBatch, origin: tuple[int, int] = (0, 0)
    ) -> None:
        """Publish a camera frame (H, W) [ADU] with the localisations in it. ``origin``: its corner's x, y [pixels]."""
        preview = Preview(frame, pixels, rows, origin)
        self._send(wire.PREVIEW, *wire.preview_parts(preview, self._log.schema or LOCALISATION_SCHEMA))

    def stop(self) -> None:
        """Let the last messages leave and those who catch up finish, for a few seconds at most; then close everything.

        May be called twice.
        """
        self.close()
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def _send(self, kind: str, header: Mapping[str, Any], payload: tuple[wire.Part, ...] = ()) -> None:
        """Under a lock, so that the counts of a kind come in order; the publishing thread never takes it."""
        with self._lock:
            message = self._stamp.message(kind, self._counts[kind], header, payload)
            self._counts[kind] += self._server.outbox.put(Outgoing(message), sum(map(len, payload)))
