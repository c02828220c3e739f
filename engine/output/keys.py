"""CURVE keys: who may connect when the engine can be reached from other computers.

    FOLDER/server.key_secret              the engine's own; never leaves its computer (wire.keys=FOLDER)
    FOLDER/server.key                     its public half
    FOLDER/clients/NAME.key               public halves of those who are let in; delete one to shut its owner out
    FOLDER/for_clients/NAME/server.key    a folder to carry to NAME's computer and to give to its viewer
    FOLDER/for_clients/NAME/client.key_secret

The files are certificates as CZMQ and pyzmq write and read them. CURVE (CurveZMQ, rfc.zeromq.org/spec/26) encrypts,
proves who is at the other end, and keeps recorded messages from being sent again.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.auth
from zmq.utils import z85

from config.errors import SettingsError, WireError
from config.schema import WireSettings
from engine.output.wire import is_loopback

logger = logging.getLogger(__name__)

SERVER, CLIENT = "server", "client"
"""Names of the key files at either end."""
ALLOWED, HANDOUTS = "clients", "for_clients"
"""Folders of those who are let in, and of what they are given."""


@dataclass(frozen=True)
class KeyPair:
    """A CURVE key pair, Z85 text."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        """Without the secret."""
        return f"KeyPair({self.public!r})"


@dataclass(frozen=True)
class ClientKeys:
    """What a client needs: its own pair, and whom it expects at the other end."""

    own: KeyPair
    server: bytes


@dataclass(frozen=True)
class ServerKeys:
    """What the engine needs: its own pair, and the folder of those it lets in."""

    own: KeyPair
    folder: Path

    def name_of(self, public: bytes) -> str | None:
        """Who owns this public key (Z85), None for a stranger. The folder is read each time, so that taking a key away
        takes effect at once.
        """
        allowed = sorted((self.folder / ALLOWED).glob("*.key"))
        return next((path.stem for path in allowed if _public(path) == public), None)


def make_keys(folder: Path, clients: Sequence[str]) -> list[Path]:
    """Make keys for the engine, unless it has some, and for ``clients``. Gives the folders to carry to them.

    Raises WireError for a name that cannot be a file's or has keys already, and where a file cannot be written.
    """
    for name in clients:
        _check_name(name, folder)
    try:
        if not (folder / f"{SERVER}.key_secret").exists():
            _write_pair(folder, folder, SERVER)
        return [_make_client(folder, name) for name in clients]
    except OSError as error:
        raise WireError(
            f"keys cannot be written to {folder}: {error.strerror or error}. Choose another one."
        ) from error


def _check_name(name: str, folder: Path) -> None:
    if not re.fullmatch(r"\w[\w.-]{0,63}", name):
        raise WireError(f"a client's name becomes a file's: expected letters, digits, - and _; found {name!r:.80}.")
    if (folder / ALLOWED / f"{name}.key").exists() or (folder / HANDOUTS / name).exists():
        raise WireError(
            f"{name} has keys in {folder}, which are never overwritten. Choose another name, or delete "
            f"{ALLOWED}/{name}.key and {HANDOUTS}/{name} there first; that shuts the old key out."
        )


def _make_client(folder: Path, name: str) -> Path:
    handout = folder / HANDOUTS / name
    _write_pair(handout, handout, CLIENT)
    (handout / f"{CLIENT}.key").replace(_made(folder / ALLOWED) / f"{name}.key")
    server = (folder / f"{SERVER}.key").read_bytes()
    (handout / f"{SERVER}.key").write_bytes(server)
    return handout


def _write_pair(secret: Path, public: Path, name: str) -> None:
    """Write ``name.key_secret``, for its owner's eyes only, and ``name.key``."""
    pair = zmq.curve_keypair()
    _write(_made(secret, private=True) / f"{name}.key_secret", _certificate(*pair), 0o600)
    _write(public / f"{name}.key", _certificate(pair[0]), 0o644)


def _made(folder: Path, private: bool = False) -> Path:
    folder.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)
    return folder


def _certificate(public: bytes, secret: bytes | None = None) -> str:
    """A certificate in ZPL, the format of CZMQ's zcert (rfc.zeromq.org/spec/4)."""
    lines = ["#  A CURVE certificate of liveloc.", "metadata", "curve", f'    public-key = "{public.decode()}"']
    if secret is not None:
        lines[0] += " Keep it secret: whoever has it is let in."
        lines.append(f'    secret-key = "{secret.decode()}"')
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str, mode: int) -> None:
    """Write a new file that nobody else could read for a moment. Windows keeps to the rights of the folder."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
        file.write(text)


def write_private(path: Path, text: str) -> Path:
    """Write a new secret for its owner's eyes only, and give its path. Raises FileExistsError."""
    _write(_made(path.parent, private=True) / path.name, text, 0o600)
    return path


def server_keys(settings: WireSettings) -> ServerKeys | None:
    """The engine's keys, or None where none are asked for and only this computer can reach it.

    Raises SettingsError for an address that others can reach without keys, WireError for keys that cannot be read.
    """
    if settings.keys:
        folder = Path(settings.keys)
        return ServerKeys(_pair(folder / f"{SERVER}.key_secret"), folder)
    if is_loopback(settings.address):
        return None
    raise SettingsError(
        f"wire.address={settings.address} can be reached from other computers, and wire.keys is not set. Make keys "
        "with `liveloc keys FOLDER NAME` and set wire.keys=FOLDER, or use wire.address=127.0.0.1."
    )


def client_keys(folder: Path) -> ClientKeys:
    """A client's keys, from the folder that was made for it, or from the engine's own where that has made only one.

    Raises WireError.
    """
    handouts = sorted(folder.glob(f"{HANDOUTS}/*/{CLIENT}.key_secret"))
    if len(handouts) > 1:
        names = ", ".join(path.parent.name for path in handouts)
        raise WireError(f"{folder} holds keys for {names}. Name one: {folder / HANDOUTS / handouts[0].parent.name}.")
    place = handouts[0].parent if handouts else folder
    server = _public(place / f"{SERVER}.key")
    if server is None:
        raise WireError(f"{place / SERVER}.key cannot be read. `liveloc keys` made it; copy the whole folder.")
    return ClientKeys(_pair(place / f"{CLIENT}.key_secret"), server)


def _pair(path: Path) -> KeyPair:
    """Read a secret file. Raises WireError."""
    try:
        public, secret = zmq.auth.load_certificate(path)
        readable_by_others = os.name == "posix" and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
    except (OSError, ValueError) as error:
        raise WireError(f"{path} cannot be read as a key: {error}. `liveloc keys FOLDER NAME` makes keys.") from error
    if secret is None or not (_is_key(public) and _is_key(secret)):
        raise WireError(f"{path} holds no secret key. `liveloc keys FOLDER NAME` makes keys.")
    if readable_by_others:
        logger.warning("other users of this computer can read the secret key %s: chmod 600 it, or make new keys", path)
    return KeyPair(public, secret)


def _public(path: Path) -> bytes | None:
    """The public key in a file, None where there is none."""
    try:
        public = zmq.auth.load_certificate(path)[0]
    except (OSError, ValueError):
        return None
    return public if _is_key(public) else None


def _is_key(text: bytes) -> bool:
    """Whether this is 32 bytes in Z85 (rfc.zeromq.org/spec/32)."""
    try:
        return len(text) == 40 and len(z85.decode(text)) == 32
    except (KeyError, ValueError):
        return False


class Gatekeeper:
    """Answers libzmq when it asks whether to let somebody in (ZAP, rfc.zeromq.org/spec/27)."""

    ADDRESS = "inproc://zeromq.zap.01"
    """Where libzmq asks; one for each ZeroMQ context."""

    def __init__(self, keys: ServerKeys) -> None:
        self._keys = keys
        self.refused = 0
        """Times that somebody was turned away; a stranger's program may try several times a second."""
        self._named: set[bytes] = set()
        """Strangers and friends that the log knows of already."""

    def answer(self, parts: Sequence[bytes]) -> list[bytes]:
        """The answer to one question: version, request id, domain, address, identity, mechanism, public key."""
        request = parts[1] if len(parts) > 1 else b""
        public = z85.encode(parts[6]) if _asks_for_curve(parts) else b""
        name = self._keys.name_of(public) if public else None
        self._log(public, name, parts[3].decode(errors="replace") if len(parts) > 3 else "an unknown address")
        if name is None:
            self.refused += 1
            return [b"1.0", request, b"400", b"unknown key", b"", b""]
        return [b"1.0", request, b"200", b"OK", name.encode(), b""]

    def _log(self, public: bytes, name: str | None, address: str) -> None:
        """Say once of each key that it came, and of no more than can be read."""
        if public in self._named or len(self._named) >= 100:
            return
        self._named.add(public)
        if name is None:
            logger.warning("a client at %s has no key of %s: refused", address, self._keys.folder / ALLOWED)
        else:
            logger.info("%s at %s is let in", name, address)


def _asks_for_curve(parts: Sequence[bytes]) -> bool:
    return len(parts) == 7 and parts[0] == b"1.0" and parts[5] == b"CURVE" and len(parts[6]) == 32


def secure_server(socket: zmq.Socket[bytes], keys: ServerKeys | None) -> None:
    """Let only owners of known keys through a socket that is to be bound; without keys, everybody."""
    if keys is not None:
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = keys.own.public, keys.own.secret
        socket.zap_domain = b"liveloc"


def secure_client(socket: zmq.Socket[bytes], keys: ClientKeys | None) -> None:
    """Give a socket that is to be connected its keys."""
    if keys is not None:
        socket.curve_publickey, socket.curve_secretkey = keys.own.public, keys.own.secret
        socket.curve_serverkey = keys.server
