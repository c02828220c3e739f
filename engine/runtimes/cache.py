"""What is found out once about this computer and a model, and kept in the user's cache folder: one JSON file."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import tempfile
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from engine.runtimes.runtime import usable_cores

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "LIVELOC_CACHE"
"""An environment variable that names another folder."""
LIBRARIES = ("torch", "onnxruntime", "onnxruntime-gpu")
FILE = "measured.json"


def cache_folder() -> Path:
    """The folder; it need not exist."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else user_cache_path("liveloc", appauthor=False)


def recall(key: str) -> Any:
    """What was kept under ``key``, None where nothing was or the file is damaged."""
    return _read().get(key)


def keep(key: str, value: Any) -> None:
    """Keep ``value``, anything that JSON holds. Where the folder cannot be written, that is logged and nothing kept."""
    folder, known = cache_folder(), _read()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({**known, key: value}, file, indent=1)
        Path(name).replace(folder / FILE)
    except OSError as error:
        logger.info("what was measured cannot be kept in %s: %s", folder, error)


def machine() -> str:
    """What a speed depends on: processor, cores, GPU's driver, and the versions of the libraries that compute."""
    return "|".join([processor(), str(usable_cores()), _driver(), *(f"{name} {_version(name)}" for name in LIBRARIES)])


@cache
def processor() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def fingerprint(*files: Path) -> str:
    """SHA-256 of the contents of those files that exist."""
    digest = sha256()
    for file in files:
        if file.exists():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _read() -> dict[str, Any]:
    try:
        content = json.loads((cache_folder() / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@cache
def _driver() -> str:
    """Version of NVIDIA's kernel driver, where there is one: another one may be another card."""
    with contextlib.suppress(OSError):
        return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    return ""


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "none"
