"""A Dask cluster to work with: workers on this computer, started for one command, or a scheduler that runs somewhere.

Dask's messages are pickles: whoever may speak to a scheduler runs programs on its workers, and whoever plays the
scheduler runs them here. So the local cluster listens on this computer alone and lets in only who holds a certificate
that is made for the one command and never leaves its memory; a scheduler on another computer needs TLS (docs/scale.md).
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.errors import ClusterFailed, SettingsError
from config.schema import ClusterSettings, RunSettings, Settings
from engine.output.keys import write_private
from engine.runtimes.runtime import usable_cores
from engine.scale.gpu import visible_gpus

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

logger = logging.getLogger(__name__)

PEM = ("ca.pem", "cert.pem", "key.pem")
"""Files of a folder of certificates: whom to believe, who one is, and the secret that proves it."""
CONNECT = 15.0
"""Time to reach a scheduler [s]."""


@dataclass(frozen=True, eq=False)
class Cluster:
    """A cluster that is connected."""

    client: Client
    name: str
    """For people."""
    threads: int | None
    """Processor threads of each worker's runtime; None: as many as the runtime takes."""

    def slots(self) -> int:
        """Chunks that all workers of now compute at the same time."""
        return sum(threads_of_workers(self.client).values())

    def decided(self, settings: Settings, decide: Callable[[Settings], Settings]) -> Settings:
        """What one worker decides of what the settings leave open, for all of them: so all rows come about alike.

        Raises what ``decide`` raises there.
        """
        ready = for_workers(settings, self.threads)
        decided: Settings = self.client.submit(decide, ready, pure=False).result()
        return replace(
            settings, run=replace(settings.run, runtime=decided.run.runtime, precision=decided.run.precision)
        )


def threads_of_workers(client: Client) -> dict[str, int]:
    """Threads of every worker of now, by its address."""
    threads: Any = client.nthreads()  # Dask's types think of its asynchronous client alone
    return dict(threads)


@contextmanager
def connected(settings: Settings) -> Iterator[Cluster]:
    """The cluster that the settings name, with a worker at least; it is left, or ended if it is local, at the end.

    Raises SettingsError, ClusterFailed.
    """
    _check_installed()
    chosen = settings.cluster
    with _local(chosen, settings.run) if chosen.kind == "local" else _remote(chosen, settings.run) as cluster:
        _wait_for_a_worker(cluster, chosen.patience)
        yield cluster


def local_shape(chosen: ClusterSettings, run: RunSettings, cores: int, gpus: int) -> tuple[int, int]:
    """Workers of a local cluster, and processor threads of each."""
    workers = chosen.workers or (gpus if gpus and run.device != "cpu" else cores)
    return workers, chosen.threads or run.threads or max(1, cores // workers)


@contextmanager
def _local(chosen: ClusterSettings, run: RunSettings) -> Iterator[Cluster]:
    import dask.config
    from distributed import Client, LocalCluster
    from distributed.security import Security

    gpus = len(visible_gpus()) if run.device != "cpu" else 0
    workers, threads = local_shape(chosen, run, usable_cores(), gpus)
    security = Security.temporary()
    with (
        _silence(),
        dask.config.set({f"distributed.{part}.http.routes": [] for part in ("scheduler", "worker")}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            protocol="tls://",
            security=security,
            dashboard_address="127.0.0.1:0",
            memory_limit=0,  # bounded by what a chunk needs; Dask's own limit kills workers for the file cache
            silence_logs=logging.CRITICAL,
            preload="engine.scale.preload",
        ) as cluster,
        Client(cluster, security=security, set_as_default=False, name="liveloc") as client,
    ):
        yield Cluster(client, f"{workers} workers on this computer", threads)


@contextmanager
def _remote(chosen: ClusterSettings, run: RunSettings) -> Iterator[Cluster]:
    from distributed import Client

    address, security = target(chosen)
    with _silence(), _reached(address, Client, security) as client:
        yield Cluster(client, f"the cluster at {address}", chosen.threads or run.threads)


def target(chosen: ClusterSettings) -> tuple[str, Security | None]:
    """Address of the scheduler with its protocol, and what secures the connection. Raises SettingsError."""
    if not chosen.address:
        raise SettingsError("cluster.address: expected HOST:PORT of a Dask scheduler, found nothing. cluster=HOST:PORT")
    protocol, _, place = chosen.address.rpartition("://")
    if chosen.tls is not None:
        return f"tls://{place}", _security(Path(chosen.tls))
    if protocol == "tls":
        raise SettingsError(f"cluster={chosen.address} needs cluster.tls=FOLDER with {', '.join(PEM)}.")
    if not _is_here(place) and not chosen.trust_network:
        raise SettingsError(
            f"{place} is another computer, and a Dask cluster without TLS runs the programs of whoever reaches it. "
            "Make certificates with `liveloc certificates FOLDER`, start scheduler and workers with them "
            "(docs/scale.md), and set cluster.tls=FOLDER. Where nobody else "
            "can reach that network: cluster.trust_network=true."
        )
    return f"tcp://{place}", None


def _security(folder: Path) -> Security:
    from distributed.security import Security

    missing = [name for name in PEM if not (folder / name).is_file()]
    if missing:
        raise SettingsError(
            f"cluster.tls={folder}: expected {', '.join(PEM)}, there is no {', '.join(missing)}. "
            "`liveloc certificates FOLDER` makes them."
        )
    ca, cert, key = (str(folder / name) for name in PEM)
    return Security(tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key, require_encryption=True)


def _is_here(place: str) -> bool:
    """Whether HOST:PORT is this computer itself, by a name that no network can redirect."""
    host = place.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reached(address: str, make: Any, security: Security | None) -> Client:
    try:
        client: Client = make(address, security=security, timeout=CONNECT, set_as_default=False, name="liveloc")
    except (OSError, TimeoutError) as error:
        why = (str(error) or repr(error)).splitlines()[0]
        raise ClusterFailed(
            f"no scheduler answers at {address} within {CONNECT:g} s: {why}. "
            "Start one with `dask scheduler`, or check host, port and certificates."
        ) from error
    return client


def _wait_for_a_worker(cluster: Cluster, patience: float) -> None:
    try:
        cluster.client.wait_for_workers(1, timeout=patience)
    except TimeoutError as error:
        raise ClusterFailed(
            f"{cluster.name} had no worker for {patience:g} s. Start workers (docs/scale.md), or wait longer for them: "
            "cluster.patience."
        ) from error


def for_workers(settings: Settings, threads: int | None) -> Settings:
    """Settings as workers need them: paths that hold from any folder, the threads that each has."""
    camera = settings.camera
    if camera.maps is not None:
        camera = replace(camera, maps=str(Path(camera.maps).resolve()))
    return replace(settings, camera=camera, run=replace(settings.run, threads=threads))


def make_certificates(folder: Path) -> list[Path]:
    """Write ca.pem, cert.pem and key.pem for a cluster: one identity, valid for a year, that all of its parts share.

    Raises SettingsError where they exist.
    """
    _check_installed()
    from distributed.security import Security

    existing = [name for name in PEM if (folder / name).exists()]
    if existing:
        raise SettingsError(f"{folder / existing[0]} exists and is never overwritten. Choose another folder.")
    made = Security.temporary()
    texts = (made.tls_ca_file, made.tls_client_cert, made.tls_client_key)
    return [write_private(folder / name, text) for name, text in zip(PEM, texts, strict=True)]


def _check_installed() -> None:
    try:
        import cryptography  # noqa: F401
        import distributed  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"cluster= needs packages that are not installed ({error}): pip install 'liveloc[cluster]', here and for "
            "every worker."
        ) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Dask reports each lost connection to the terminal; what matters of it, liveloc says in words."""
    root = logging.getLogger("distributed")
    before = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(before)
