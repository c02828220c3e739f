"""Stacks on a real cluster of two processes: the same log, whatever befalls the workers."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config.errors import ClusterFailed, SourceUnreadable
from config.schema import ClusterSettings, Settings
from engine.scale.archive import CHUNKS_A_SLOT, Archive
from engine.scale.cluster import PEM, Cluster, connected, make_certificates
from engine.scale.outcome import Outcome, Place
from engine.scale.stack_run import StackRun
from engine.scale.stacks import places
from engine.status import State, Status
from tests.engine.scale.doubles import (
    begun,
    movie,
    movie_with_gaps,
    open_telling,
    replayed,
    settings_for,
    wait_until,
)

distributed = pytest.importorskip("distributed", reason="distributed is not installed (extra cluster)")


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    with connected(Settings(cluster=ClusterSettings(kind="local", workers=2))) as cluster:
        cluster.client.wait_for_workers(2, timeout=60)
        yield cluster


@pytest.fixture
def cluster(two: Cluster) -> Iterator[Cluster]:
    """Of two workers, also where the test before killed some; no thread is left behind."""
    two.client.wait_for_workers(2, timeout=60)
    yield two
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("liveloc-")] == []


def nobody(status: Status, words: str) -> None:
    """Watches nothing."""


class Run:
    """An archive that goes on in a thread, so that a test can interfere."""

    def __init__(self, archive: Archive, watch: Callable[[Status, str], None] = nobody) -> None:
        self.outcomes: list[Outcome] = []
        self.error: BaseException | None = None
        self._archive, self._watch = archive, watch
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.outcomes = self._archive.run(self._watch)
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            self.error = error

    def __enter__(self) -> Run:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(100)
        assert not self._thread.is_alive()


def archive_of(cluster: Cluster, settings: Settings, *stacks: Path) -> Archive:
    return Archive(cluster, settings, places(stacks, settings.run.output), open_telling)


def both_have_begun(archive: Archive) -> bool:
    """Whether the client has heard that each worker has a chunk in work."""
    return {len(run._begun) for run in list(archive._runs.values())} == {2}


def account(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return content


def reference(tmp_path: Path, stack: Path, settings: Settings) -> bytes:
    """The log of a local run of the same name: it is named in the log."""
    assert settings.run.output is not None
    output = tmp_path / "local" / Path(settings.run.output).name
    folder = replayed(stack, replace(settings, run=replace(settings.run, output=str(output))))
    return (folder / "localisations.arrows").read_bytes()


@pytest.mark.parametrize("gaps", [False, True])
def test_the_log_is_that_of_a_local_run_to_the_byte(cluster: Cluster, tmp_path: Path, gaps: bool) -> None:
    present = [*range(30), *range(33, 60), 70, *range(72, 120)]
    stack = movie_with_gaps(tmp_path, "a.ome.tif", present) if gaps else movie(tmp_path, "a.tif", 106)
    settings = settings_for(tmp_path, tmp_path / "run")
    expected = reference(tmp_path, stack, settings)
    seen: list[tuple[Status, str]] = []
    (outcome,) = archive_of(cluster, settings, stack).run(lambda status, words: seen.append((status, words)))
    assert outcome.done
    assert (tmp_path / "run" / "localisations.arrows").read_bytes() == expected
    here, there = account(tmp_path / "run"), account(tmp_path / "local" / "run")
    same = ("frames_seen", "frames_analysed", "missing_ranges", "end_reason", "localisations", "camera", "source")
    assert {name: here[name] for name in same} == {name: there[name] for name in same}
    assert here["model"] == there["model"]
    shares = here["cluster"]["workers"]
    assert sum(share["chunks"] for share in shares) == here["cluster"]["chunks"] == 9
    assert sum(share["frames"] for share in shares) == here["cluster"]["frames_read"] == 106 + 8 * 8
    assert here["cluster"]["chunks_done_again"] == 0
    assert (tmp_path / "run" / "localisations.parquet").exists()
    last, words = seen[-1]
    assert (last.analysed, last.expected, last.lag, words) == (106, 106, 0, "2 workers")


def test_a_killed_worker_costs_its_chunk_only(cluster: Cluster, tmp_path: Path) -> None:
    stack, settings = movie(tmp_path, "a.tif", 400), settings_for(tmp_path, tmp_path / "run")
    expected = reference(tmp_path, stack, settings)
    for old in tmp_path.glob("begun *"):
        old.unlink()
    (tmp_path / "hold").touch()
    archive = archive_of(cluster, settings, stack)
    with Run(archive) as run:
        wait_until(lambda: both_have_begun(archive), "two workers begin")
        killed = begun(tmp_path)[0]
        os.kill(killed, getattr(signal, "SIGKILL", signal.SIGTERM))
        (tmp_path / "hold").unlink()
    assert run.outcomes[0].done, run.outcomes[0].words
    assert (tmp_path / "run" / "localisations.arrows").read_bytes() == expected
    told = account(tmp_path / "run")
    assert told["cluster"]["chunks_done_again"] == 1
    assert sum(share["chunks"] for share in told["cluster"]["workers"]) == told["cluster"]["chunks"]
    assert [words for words in told["warnings"] if "is done again" in words]


def test_a_chunk_that_fails_goes_to_another_worker(cluster: Cluster, tmp_path: Path) -> None:
    stack, settings = movie(tmp_path, "a.tif"), settings_for(tmp_path, tmp_path / "run")
    expected = reference(tmp_path, stack, settings)
    (tmp_path / "fail once").touch()
    (outcome,) = archive_of(cluster, settings, stack).run(nobody)
    assert outcome.done
    assert (tmp_path / "run" / "localisations.arrows").read_bytes() == expected
    told = account(tmp_path / "run")
    assert told["cluster"]["chunks_done_again"] == 1
    assert any("OSError: the network drive went away" in words for words in told["warnings"])


def test_one_stack_that_fails_does_not_stop_the_others(cluster: Cluster, tmp_path: Path) -> None:
    stacks = [movie(tmp_path, f"{name}.tif", 50) for name in "abc"]
    settings = settings_for(tmp_path, tmp_path / "runs")
    stacks[1].write_bytes(b"II*\0")
    stacks.append(tmp_path / "nowhere.tif")
    outcomes = archive_of(cluster, settings, *stacks).run(nobody)
    assert [outcome.done for outcome in outcomes] == [True, False, True, False]
    assert isinstance(outcomes[3].error, SourceUnreadable)
    for name in "ac":
        told = account(tmp_path / "runs" / name)
        assert told["end_reason"] == "finished"
        assert not [words for words in told["warnings"] if "b.tif" in words]


def test_a_stack_that_a_worker_cannot_open_names_the_worker(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = movie(tmp_path, "a.tif", 50)
    settings = settings_for(tmp_path, tmp_path / "run", retries=0)
    archive = archive_of(cluster, settings, stack)
    real = archive._begin

    def begin_then_lose(place: Place) -> StackRun:
        begun = real(place)
        stack.unlink()
        return begun

    monkeypatch.setattr(archive, "_begin", begin_then_lose)
    (outcome,) = archive.run(nobody)
    assert outcome.error is not None
    assert "worker tls://127.0.0.1:" in str(outcome.error)
    assert str(stack) in str(outcome.error)
    assert "same paths" in str(outcome.error)
    assert isinstance(outcome.error, SourceUnreadable)
    assert account(tmp_path / "run")["end_reason"].startswith("failed: worker tls://")


def test_a_model_that_no_worker_can_load_ends_it_before_any_run(cluster: Cluster, tmp_path: Path) -> None:
    stacks = [movie(tmp_path, f"{name}.tif", 50) for name in "ab"]
    settings = replace(settings_for(tmp_path, tmp_path / "runs"), model=str(tmp_path / "nowhere.onnx"))
    with pytest.raises(ClusterFailed, match=r"worker tls://.*FileNotFoundError.*nowhere\.onnx"):
        archive_of(cluster, settings, *stacks).run(nobody)
    assert not (tmp_path / "runs").exists()


def test_a_stack_of_which_no_frame_is_asked_for_is_done(cluster: Cluster, tmp_path: Path) -> None:
    stack = movie_with_gaps(tmp_path, "a.ome.tif", [0, 1, 2, 9])
    settings = settings_for(tmp_path, tmp_path / "run")
    settings = replace(settings, run=replace(settings.run, start=4, stop=6))
    (outcome,) = archive_of(cluster, settings, stack).run(nobody)
    assert outcome.done
    assert account(tmp_path / "run")["frames_seen"] == 0


def test_a_chunk_that_kills_every_worker_ends_its_stack(cluster: Cluster, tmp_path: Path) -> None:
    stack, settings = movie(tmp_path, "a.tif", 8), settings_for(tmp_path, tmp_path / "run")
    (tmp_path / "die once").touch()
    scheduler = cluster.client.cluster.scheduler
    scheduler.allowed_failures, before = 0, scheduler.allowed_failures
    try:
        (outcome,) = archive_of(cluster, settings, stack).run(nobody)
    finally:
        scheduler.allowed_failures = before
    assert isinstance(outcome.error, ClusterFailed)
    assert "more memory than a worker has" in str(outcome.error)


class Deserted(Cluster):
    """A cluster that all workers have left."""

    def slots(self) -> int:
        return 0


def test_without_any_worker_it_ends_and_what_came_is_kept(cluster: Cluster, tmp_path: Path) -> None:
    stack, settings = movie(tmp_path, "a.tif"), settings_for(tmp_path, tmp_path / "run", patience=0.1)
    (tmp_path / "hold").touch()
    deserted = Deserted(cluster.client, cluster.name, cluster.threads)
    with pytest.raises(ClusterFailed, match=r"no worker for 0\.1 s"):
        archive_of(deserted, settings, stack).run(nobody)
    (tmp_path / "hold").unlink()
    assert "no worker for 0.1 s" in account(tmp_path / "run")["end_reason"]


def test_ctrl_c_records_what_is_in_work(cluster: Cluster, tmp_path: Path) -> None:
    stacks = [movie(tmp_path, "a.tif", 400), movie(tmp_path, "b.tif", 50)]
    settings = settings_for(tmp_path, tmp_path / "runs")
    expected = reference(tmp_path, stacks[0], replace(settings, run=replace(settings.run, output="runs/a")))
    for old in tmp_path.glob("begun *"):
        old.unlink()
    (tmp_path / "hold").touch()

    archive = archive_of(cluster, settings, *stacks)

    def interrupt_once(status: Status, words: str) -> None:
        if (tmp_path / "hold").exists() and both_have_begun(archive):
            (tmp_path / "hold").unlink()
            raise KeyboardInterrupt

    outcomes = archive.run(interrupt_once)
    status = outcomes[0].status
    assert status is not None
    assert status.state is State.STOPPED
    assert 2 * 12 - 2 <= status.analysed < 400
    told = account(tmp_path / "runs" / "a")
    assert told["end_reason"].startswith("stopped")
    assert told["frames_analysed"] == status.analysed
    log = (tmp_path / "runs" / "a" / "localisations.arrows").read_bytes()
    assert len(log) > 2000
    assert expected.startswith(log[:-8])
    assert outcomes[1].words == "not begun"


def test_little_is_under_way_at_once(cluster: Cluster, tmp_path: Path) -> None:
    stack, settings = movie(tmp_path, "a.tif", 1000), settings_for(tmp_path, tmp_path / "run", chunk=4)
    archive = archive_of(cluster, settings, stack)
    most = 0

    def watch(status: Status, words: str) -> None:
        nonlocal most
        most = max(most, sum(status.waiting))
        (tmp_path / "hold").unlink(missing_ok=True)

    (tmp_path / "hold").touch()
    (outcome,) = archive.run(watch)
    assert outcome.done
    assert 2 <= most <= CHUNKS_A_SLOT * 2


def test_rows_that_wait_hold_up_new_chunks(cluster: Cluster, tmp_path: Path) -> None:
    stack, settings = movie(tmp_path, "a.tif", 200), settings_for(tmp_path, tmp_path / "run")
    expected = reference(tmp_path, stack, settings)
    archive = Archive(cluster, settings, places([stack], settings.run.output), open_telling, held=1)
    assert archive.run(nobody)[0].done
    assert (tmp_path / "run" / "localisations.arrows").read_bytes() == expected


def test_what_is_done_is_not_done_again(cluster: Cluster, tmp_path: Path) -> None:
    stacks = [movie(tmp_path, f"{name}.tif", 50) for name in "ab"]
    settings = settings_for(tmp_path, tmp_path / "runs")
    first = archive_of(cluster, settings, *stacks).run(nobody)
    (tmp_path / "runs" / "b" / "run.json").write_text('{"end_reason": "running"}')
    again = archive_of(cluster, settings, *stacks).run(nobody)
    assert all(outcome.done for outcome in first)
    assert [outcome.words for outcome in again] == ["done before", "finished"]
    assert again[1].place.folder == tmp_path / "runs" / "b-2"


def test_a_scheduler_elsewhere_is_reached_with_its_certificates_alone(tmp_path: Path) -> None:
    from distributed import LocalCluster
    from distributed.security import Security

    ca, cert, key = map(str, make_certificates(tmp_path / "tls"))
    roles = {f"tls_{role}_{what}": path for role in ("scheduler", "worker", "client") for what, path in
             (("cert", cert), ("key", key))}  # fmt: skip
    security = Security(tls_ca_file=ca, require_encryption=True, **roles)
    shape = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with LocalCluster(host="127.0.0.1", protocol="tls://", security=security, **shape) as there:
        address = there.scheduler_address.removeprefix("tls://")
        chosen = ClusterSettings(kind="address", address=address, tls=str(tmp_path / "tls"), chunk=12)
        settings = replace(settings_for(tmp_path, tmp_path / "run"), cluster=chosen)
        stack = movie(tmp_path, "a.tif", 200)
        expected = reference(tmp_path, stack, settings)
        with connected(settings) as cluster:
            assert archive_of(cluster, settings, stack).run(nobody)[0].done
        assert (tmp_path / "run" / "localisations.arrows").read_bytes() == expected
        make_certificates(tmp_path / "others")
        stranger = replace(settings, cluster=replace(chosen, tls=str(tmp_path / "others")))
        with pytest.raises(ClusterFailed, match="no scheduler answers"), connected(stranger):
            pass
    assert [name for name in PEM if not (tmp_path / "tls" / name).exists()] == []
