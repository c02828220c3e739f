#!/usr/bin/env python3
"""Sets liveloc up on a fresh machine and starts it. Needs nothing but Python 3.11 or newer, on Linux or Windows.

    python bootstrap.py demo [overrides]      set up, then show a simulated live acquisition
    python bootstrap.py test [pytest args]    set up with the developers' tools, then run the tests
    python bootstrap.py check [names]         the same, then lint, types and floors
    python bootstrap.py setup                 only set up; afterwards .venv holds the `liveloc` command

Everything goes into .venv beside this file; a second start finds it done and costs a moment. On Debian and its kin,
as root, missing system libraries are installed; otherwise the command that installs them is printed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "liveloc-setup.json"
WINDOWS = os.name == "nt"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
WHEELS = "https://download.pytorch.org/whl"

LIBRARIES = {
    "libGL.so": "libgl1",
    "libEGL.so": "libegl1",
    "libdbus-1.so": "libdbus-1-3",
    "libfontconfig.so": "libfontconfig1",
    "libglib-2.0.so": "libglib2.0-0",
    "libxcb-icccm.so": "libxcb-icccm4",
    "libxcb-image.so": "libxcb-image0",
    "libxcb-keysyms.so": "libxcb-keysyms1",
    "libxcb-randr.so": "libxcb-randr0",
    "libxcb-render-util.so": "libxcb-render-util0",
    "libxcb-shape.so": "libxcb-shape0",
    "libxcb-xinerama.so": "libxcb-xinerama0",
    "libxkbcommon-x11.so": "libxkbcommon-x11-0",
}
"""What Qt's window plugin loads, and the Debian package that brings it."""

CHECKS = {
    "ruff": ["-m", "ruff", "check", "."],
    "format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy"],
    "pyright": ["-m", "pyright"],
    "floors": ["-c", "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())"],
}
"""What ``check`` runs, each with the Python of .venv."""


def main(arguments: list[str]) -> int:
    """Set up what the command needs, then run it; give its exit status."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    commands = {"demo": _demo, "test": _test, "check": _check, "setup": _setup}
    if command not in commands:
        print(__doc__)
        return 0 if command in ("-h", "--help") else 2
    if sys.version_info < (3, 11):  # noqa: UP036 - this is what tells the user of an older Python
        print(f"liveloc needs Python 3.11 or newer, this is {platform.python_version()}. Start it with a newer one:")
        print("    py -3.11 bootstrap.py" if WINDOWS else "    python3.11 bootstrap.py", *arguments)
        return 2
    return commands[command](rest)


def _demo(rest: list[str]) -> int:
    if os.environ.get("DISPLAY"):
        _system_libraries(with_screen=False)
    _install(developer=False)
    return _run([PYTHON, "-m", "liveloc", "demo", *rest])


def _test(rest: list[str]) -> int:
    _system_libraries(with_screen=True)
    _install(developer=True)
    return _run([PYTHON, "-m", "pytest", *rest])


def _check(rest: list[str]) -> int:
    if unknown := [name for name in rest if name not in CHECKS]:
        print(f"no such check: {', '.join(unknown)}. There are {', '.join(CHECKS)}.")
        return 2
    _install(developer=True)
    chosen = {name: CHECKS[name] for name in rest or CHECKS}
    failed = [name for name, command in chosen.items() if _announced(name, [PYTHON, *command])]
    print(f"failed: {', '.join(failed)}" if failed else f"passed: {', '.join(chosen)}")
    return 1 if failed else 0


def _setup(rest: list[str]) -> int:
    if sys.platform == "linux":
        _system_libraries(with_screen=False)
    _install(developer="dev" in rest)
    print(f"Ready. The command is {PYTHON.with_name('liveloc')}; try `liveloc doctor`.")
    return 0


def _announced(name: str, command: list[str | Path]) -> int:
    print(f"── {name}", flush=True)
    return _run(command)


def _run(command: list[str | Path]) -> int:
    """Run to the end. Ctrl-C reaches the child too, which then closes its run; so this waits for it."""
    process = subprocess.Popen([str(part) for part in command], cwd=ROOT)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


# Python packages


def _install(developer: bool) -> None:
    """Bring .venv up to date with pyproject.toml; return at once where it is."""
    gpu = _gpu()
    wanted = _fingerprint(gpu)
    done = _stamp()
    if done.get("base") == wanted and (not developer or done.get("developer") == wanted):
        return
    if not _make_venv():
        sys.exit(1)
    _install_torch(gpu)
    extras = f"{'gpu' if gpu else 'cpu'},cluster,micromanager,viewer"
    print(f"Installing liveloc[{extras}] into {VENV}; the first time takes minutes …", flush=True)
    _pip("install", "--editable", f".[{extras}]", *(_developer_packages() if developer else []))
    STAMP.write_text(json.dumps({"base": wanted, **({"developer": wanted} if developer else {})}), encoding="utf-8")


def _fingerprint(gpu: bool) -> str:
    """Changes when pyproject.toml, the Python, the place or the presence of a GPU does."""
    parts = [(ROOT / "pyproject.toml").read_bytes(), repr((gpu, sys.version_info[:2], str(ROOT))).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _stamp() -> dict[str, str]:
    """What was installed before, by its fingerprint; nothing where .venv is missing or the stamp cannot be read."""
    try:
        found: object = json.loads(STAMP.read_text(encoding="utf-8")) if PYTHON.exists() else {}
    except (OSError, ValueError):
        return {}
    return cast("dict[str, str]", found) if isinstance(found, dict) else {}


def _make_venv() -> bool:
    if PYTHON.exists():
        return True
    if importlib.util.find_spec("ensurepip") is None and not _apt(["python3-venv"], "Python's venv module is missing"):
        return False
    print(f"Creating {VENV} …", flush=True)
    return subprocess.call([sys.executable, "-m", "venv", "--clear", str(VENV)]) == 0


def _install_torch(gpu: bool) -> None:
    """Take the build of torch that suits the machine. What PyPI has is CUDA's on Linux, gigabytes, and the
    processor's on Windows; so the other one of each comes from PyTorch's own index. A wheel at hand goes first.
    """
    wish = _requirement("torch")
    if _pip_works("install", "--no-index", "--no-deps", wish, silent=True):
        return
    build = _cuda_build() if gpu and WINDOWS else "cpu" if not gpu and sys.platform == "linux" else None
    if build and not _pip_works("install", "--index-url", f"{WHEELS}/{build}", wish):
        print(f"torch could not be had from {WHEELS}/{build}; the usual package index is asked instead.")


def _requirement(name: str) -> str:
    """The line of pyproject.toml's dependencies that begins with ``name``."""
    lines: list[str] = _pyproject()["project"]["dependencies"]
    return next(line for line in lines if re.match(rf"{name}\b", line))


def _developer_packages() -> list[str]:
    packages: list[str] = _pyproject()["dependency-groups"]["dev"]
    return packages


def _pyproject() -> dict[str, Any]:
    import tomllib  # new in 3.11, and an older Python must get as far as main's message

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _pip(*arguments: str) -> None:
    if not _pip_works(*arguments):
        sys.exit("The packages could not be installed; pip's message above says why. Run this again afterwards.")


def _pip_works(*arguments: str, silent: bool = False) -> bool:
    """Whether pip succeeded. Its long list goes to a terminal only; ``silent`` hides what it complains of, too."""
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    command = [str(PYTHON), "-m", "pip", *arguments, *quiet, "--disable-pip-version-check", "--no-input"]
    output = subprocess.DEVNULL if silent else None
    return subprocess.call(command, cwd=ROOT, stdout=output, stderr=output) == 0


# The machine


def _gpu() -> bool:
    """Whether an NVIDIA driver answers."""
    return bool(re.search(r"GPU \d", _output(["nvidia-smi", "-L"])))


def _cuda_build() -> str:
    """Name of PyTorch's index for the newest CUDA that the driver knows."""
    found = re.search(r"CUDA Version:\s*(\d+)", _output(["nvidia-smi"]))
    return "cu130" if found and int(found[1]) >= 13 else "cu126"


def _output(command: list[str]) -> str:
    """What a program prints; nothing where it is missing, fails or hangs."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _system_libraries(with_screen: bool) -> None:
    """On Linux, see to what Qt's windows need, and to a virtual screen for the tests."""
    if sys.platform != "linux":
        return
    present = _output([shutil.which("ldconfig") or "/sbin/ldconfig", "-p"])
    missing = [package for library, package in LIBRARIES.items() if library not in present] if present else []
    if with_screen and shutil.which("Xvfb") is None:
        missing.append("xvfb")
    if missing and not _apt(missing, "Windows cannot be opened yet"):
        print("Going on without: the live window is left out, and its tests are skipped.\n", flush=True)


def _apt(packages: list[str], why: str) -> bool:
    """Install Debian packages where that is allowed, else print how. True where they are there afterwards."""
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if shutil.which("apt-get") is None:
        print(f"{why}. Install with your system's package manager what Debian calls: {' '.join(packages)}")
        return False
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        print(f"{why}. Install what is missing with:\n    sudo apt-get install {' '.join(packages)}")
        return False
    print(f"{why}: installing {' '.join(packages)} …", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.call(["apt-get", "update", "-qq"], env=environment)
    if subprocess.call([*command, "-qq"], env=environment, stdout=subprocess.DEVNULL) == 0:
        return True
    print(f"That failed. By hand: {' '.join(command)}")
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
