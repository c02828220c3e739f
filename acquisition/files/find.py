"""Which reader opens a path; and what to tell somebody whose path no reader can open."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from acquisition.files.growing import GrowingStack
from acquisition.files.growing_ndtiff import open_growing_ndtiff
from acquisition.files.growing_tiff import open_growing_tiff
from acquisition.files.ndtiff import dataset_folder, open_ndtiff
from acquisition.files.ome import is_ome_tiff, open_ome_tiff
from acquisition.files.picasso import open_raw
from acquisition.files.stack import Stack
from acquisition.files.tiff import open_tiff
from config.errors import SourceUnreadable

READABLE = "TIFF, BigTIFF, ImageJ TIFF, OME-TIFF, an NDTiff folder, or Picasso's .raw with its .yaml"
CONTINUATION = re.compile(r"_\d+\.ome\.tif$")
"""How names end of files in which Micro-Manager goes on after 4 GB."""
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
OTHER_STARTS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89HDF": "an HDF5 file",
    b"GIF8": "a GIF picture",
    b"ZISR": "a Zeiss CZI file",
    b"\xda\xce\xbe\x0a": "a Nikon ND2 file",
    b"PK\x03\x04": "a zip archive",
    b"SIMP": "a FITS file",
    b"BM": "a BMP picture",
}
"""How files that people take for stacks begin."""


def open_stack(path: Path) -> Stack:
    """Open a recording, whatever its format; what a file holds counts, not its name. Raises SourceUnreadable."""
    if not path.exists():
        raise _nothing_there(path)
    folder = dataset_folder(path)
    if folder is not None:
        return open_ndtiff(folder)
    if path.is_dir():
        raise _no_dataset(path)
    return _open_file(path)


def open_growing(path: Path) -> GrowingStack | None:
    """Open a recording that is being written: an NDTiff dataset, by its folder or a file in it, or a TIFF stack, by its
    file or, where Micro-Manager writes it, its folder. None as long as it has no whole frame. Raises SourceUnreadable.
    """
    folder = dataset_folder(path)
    if folder is not None:
        return open_growing_ndtiff(folder)
    stack = _stack_in(path) if path.is_dir() else path
    # A stack file of an NDTiff dataset is there before its index.
    if stack is None or not stack.is_file() or "NDTiffStack" in stack.name:
        return None
    start = _start(stack)
    if not any(start):
        return None
    if start not in TIFF_STARTS:
        raise SourceUnreadable(
            f"{stack.name} cannot be followed: it is {_kind(start)}. Give an NDTiff folder or a TIFF stack."
        )
    return open_growing_tiff(stack)


def _stack_in(folder: Path) -> Path | None:
    """The stack that Micro-Manager writes into a folder. Raises SourceUnreadable where there are several positions."""
    stacks = sorted(entry for entry in folder.glob("*_MMStack_*.ome.tif") if not CONTINUATION.search(entry.name))
    if len(stacks) > 1:
        names = ", ".join(stack.name for stack in stacks[:5])
        raise SourceUnreadable(f"{folder} holds several positions: {names}. Give the one to follow.")
    return stacks[0] if stacks else None


def _open_file(path: Path) -> Stack:
    start = _start(path)
    if not start:
        raise SourceUnreadable(f"{path.name} is empty (0 bytes). The recording or its copy failed: copy it again.")
    if start in TIFF_STARTS:
        ome = open_ome_tiff(path) if is_ome_tiff(path) else None
        return ome or open_tiff(path)
    if path.suffix.lower() == ".raw":
        return open_raw(path)
    raise _unknown_kind(path, start)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise SourceUnreadable(f"{path} cannot be opened: {error.strerror}. Check its permissions.") from error


def _nothing_there(path: Path) -> SourceUnreadable:
    if not path.parent.is_dir():
        return SourceUnreadable(f"{path} does not exist, nor does its folder. Check the path.")
    names = [entry.name for entry in path.parent.iterdir()]
    close = get_close_matches(path.name, names, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(close)}?" if close else "Check the path."
    return SourceUnreadable(f"{path} does not exist. {hint}")


def _no_dataset(path: Path) -> SourceUnreadable:
    stacks = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in (".tif", ".tiff", ".raw"))
    found = f"holds {', '.join(stacks[:5])}: give one of these" if stacks else "holds no stack either"
    return SourceUnreadable(f"{path} is a folder, but not an NDTiff dataset (no NDTiff.index). It {found}.")


def _unknown_kind(path: Path, start: bytes) -> SourceUnreadable:
    claim = ", whatever its name says" if path.suffix.lower() in (".tif", ".tiff") else ""
    return SourceUnreadable(f"{path.name} is {_kind(start)}, not a stack of camera frames{claim}. Give {READABLE}.")


def _kind(start: bytes) -> str:
    return next((name for magic, name in OTHER_STARTS.items() if start.startswith(magic)), "of an unknown kind")
