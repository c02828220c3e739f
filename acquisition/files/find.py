"""Which reader opens a path; and what to tell somebody whose path no reader can open."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from acquisition.files.ndtiff import dataset_folder, open_ndtiff
from acquisition.files.ome import is_ome_tiff, open_ome_tiff
from acquisition.files.picasso import open_raw
from acquisition.files.stack import Stack
from acquisition.files.tiff import open_tiff
from config.errors import SourceUnreadable

READABLE = "TIFF, BigTIFF, ImageJ TIFF, OME-TIFF, an NDTiff folder, or Picasso's .raw with its .yaml"
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
    kind = next((name for magic, name in OTHER_STARTS.items() if start.startswith(magic)), "of an unknown kind")
    claim = ", whatever its name says" if path.suffix.lower() in (".tif", ".tiff") else ""
    return SourceUnreadable(f"{path.name} is {kind}, not a stack of camera frames{claim}. Give {READABLE}.")
