"""Writing files so that a crash leaves either the old one or the new one, and never half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes ``path``'s place at the end, or goes if the writing failed."""
    # The suffix stays the last one, as writers choose their format by it; the process keeps two writers apart.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole. Raises OSError."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        file.close()  # Windows does not rename an open file


def sync_folder(folder: Path) -> None:
    """Make a new file's name in ``folder`` survive a power cut. Windows needs and offers no such call."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_all(file: FileIO, data: memoryview) -> None:
    """An unbuffered write may take only part, as it does when a disk runs full. Raises OSError."""
    while data:
        data = data[file.write(data) :]
