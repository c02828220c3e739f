"""CURVE keys: whoever has one is let in, nobody else hears anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
import zmq.auth

from config.errors import WireError
from config.schema import WireSettings
from engine.output import wire
from engine.output.keys import Gatekeeper, client_keys, make_keys, server_keys
from engine.output.subscriber import Linked
from tests.engine.output.live_wire import LiveRun, assert_complete, live_run, reading, until


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys", ["viewer", "second"])
    return tmp_path / "keys"


@pytest.fixture
def secured(tmp_path: Path, keys: Path) -> Iterator[LiveRun]:
    with live_run(tmp_path / "log.arrows", WireSettings(port=0, keys=str(keys))) as run:
        yield run


def test_a_known_key_gets_everything(secured: LiveRun, keys: Path) -> None:
    secured.write(5)
    with reading(secured.endpoint, keys / "for_clients" / "viewer") as reader:
        secured.write(5)
        reader.until_batches(10)
        assert_complete(reader, secured.log)


def strangers_keys(tmp_path: Path, keys: Path) -> Path:
    """Keys of one's own making, with the right public key of the engine, which is no secret."""
    (handout,) = make_keys(tmp_path / "strange", ["stranger"])
    (handout / "server.key").write_bytes((keys / "server.key").read_bytes())
    return handout


def test_an_unknown_key_gets_nothing_and_is_told_so(
    secured: LiveRun, tmp_path: Path, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with reading(secured.endpoint, strangers_keys(tmp_path, keys)) as reader:
        secured.write(5)
        reader.until(lambda: reader.of(Linked))
        assert "does not know this viewer's key" in reader.of(Linked)[-1].words
        reader.for_a_while(1)
        assert {type(event) for event in reader.events} == {Linked}
        assert not any(link.up for link in reader.of(Linked))
        assert "refused" in caplog.text


def test_no_key_gets_nothing_and_is_told_so(secured: LiveRun) -> None:
    with reading(secured.endpoint) as reader:
        secured.write(5)
        reader.until(lambda: reader.of(Linked))
        assert "without a key" in reader.of(Linked)[-1].words
        reader.for_a_while(1)
        assert {type(event) for event in reader.events} == {Linked}


def test_without_keys_the_published_bytes_cannot_be_listened_to(secured: LiveRun) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    listener = context.socket(zmq.SUB)
    listener.subscribe(b"")
    listener.connect(secured.endpoint)
    for _ in range(10):
        secured.write()
        assert not listener.poll(50)
    context.destroy(linger=0)


def test_the_wrong_engine_is_not_believed(tmp_path: Path, secured: LiveRun, keys: Path) -> None:
    handout = keys / "for_clients" / "viewer"
    make_keys(tmp_path / "other", [])
    (handout / "server.key").write_bytes((tmp_path / "other" / "server.key").read_bytes())
    with reading(secured.endpoint, handout) as reader:
        secured.write(5)
        reader.for_a_while(1)
        assert {type(event) for event in reader.events} <= {Linked}
        assert not any(link.up for link in reader.of(Linked))


def test_a_key_that_is_let_in_later_gets_in_by_itself(
    secured: LiveRun, tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.output.subscriber.CONNECT_ANEW", 0.2)
    handout = strangers_keys(tmp_path, keys)
    with reading(secured.endpoint, handout) as reader:
        secured.write(5)
        reader.until(lambda: reader.of(Linked))
        public = (tmp_path / "strange" / "clients" / "stranger.key").read_bytes()
        (keys / "clients" / "stranger.key").write_bytes(public)
        reader.until_batches(5)


def test_a_key_that_is_deleted_shuts_its_owner_out(secured: LiveRun, keys: Path) -> None:
    (keys / "clients" / "viewer.key").unlink()
    with reading(secured.endpoint, keys / "for_clients" / "viewer") as shut_out:
        shut_out.until(lambda: shut_out.of(Linked))
        assert not shut_out.of(Linked)[-1].up
    with reading(secured.endpoint, keys / "for_clients" / "second") as reader:
        reader.until(lambda: reader.of(Linked))
        assert reader.of(Linked)[-1].up


def test_a_stranger_who_tries_again_and_again_is_logged_once(
    tmp_path: Path, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = server_keys(WireSettings(keys=str(keys)))
    assert pair is not None
    gate = Gatekeeper(pair)
    question = [b"1.0", b"7", b"liveloc", b"10.0.0.9", b"", b"CURVE", bytes(32)]
    answers = [gate.answer(question) for _ in range(5)]
    assert answers == [[b"1.0", b"7", b"400", b"unknown key", b"", b""]] * 5
    assert caplog.text.count("10.0.0.9") == 1
    assert gate.refused == 5


@pytest.mark.parametrize(
    "question",
    [
        [],
        [b"1.0"],
        [b"1.0", b"7", b"liveloc", b"h", b"", b"NULL"],
        [b"1.0", b"7", b"liveloc", b"h", b"", b"PLAIN", b"user", b"password"],
        [b"1.0", b"7", b"liveloc", b"\xff", b"", b"CURVE", b"short"],
        [b"2.0", b"7", b"liveloc", b"h", b"", b"CURVE", bytes(32)],
    ],
)
def test_whatever_else_is_asked_of_the_gatekeeper_is_refused(keys: Path, question: list[bytes]) -> None:
    pair = server_keys(WireSettings(keys=str(keys)))
    assert pair is not None
    assert Gatekeeper(pair).answer(question)[2] == b"400"


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps to the rights of the folder")
def test_secret_keys_are_their_owners_alone(keys: Path) -> None:
    secrets = sorted(keys.rglob("*.key_secret"))
    assert len(secrets) == 3
    assert [stat.S_IMODE(path.stat().st_mode) for path in secrets] == [0o600] * 3


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps to the rights of the folder")
def test_a_secret_key_that_others_can_read_is_warned_of(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    (keys / "server.key_secret").chmod(0o644)
    server_keys(WireSettings(keys=str(keys)))
    assert "other users" in caplog.text


def test_no_public_file_holds_a_secret(keys: Path) -> None:
    for path in keys.rglob("*.key"):
        assert zmq.auth.load_certificate(path)[1] is None


def test_the_keys_of_the_engine_stay_when_clients_are_added(keys: Path) -> None:
    before = (keys / "server.key_secret").read_bytes()
    (handout,) = make_keys(keys, ["third"])
    assert (keys / "server.key_secret").read_bytes() == before
    assert client_keys(handout).server == zmq.auth.load_certificate(keys / "server.key")[0]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", ".hidden", "x" * 65, "a b"])
def test_a_name_that_is_no_files_is_refused(keys: Path, name: str) -> None:
    with pytest.raises(WireError, match="letters"):
        make_keys(keys, [name])


def test_keys_are_never_overwritten(keys: Path) -> None:
    before = (keys / "clients" / "viewer.key").read_bytes()
    with pytest.raises(WireError, match="never overwritten"):
        make_keys(keys, ["new", "viewer"])
    assert (keys / "clients" / "viewer.key").read_bytes() == before
    assert not (keys / "clients" / "new.key").exists(), "all or none"


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WireError, match="cannot be written"):
        make_keys(tmp_path / "file", ["viewer"])


def test_the_engines_folder_serves_a_client_where_it_made_one_only(tmp_path: Path, keys: Path) -> None:
    make_keys(tmp_path / "one", ["viewer"])
    assert client_keys(tmp_path / "one") == client_keys(tmp_path / "one" / "for_clients" / "viewer")
    with pytest.raises(WireError, match="second, viewer"):
        client_keys(keys)


@pytest.mark.parametrize("content", ["", "nonsense", 'curve\n    public-key = "short"\n    secret-key = "short"\n'])
def test_a_damaged_key_is_a_clear_error(keys: Path, content: str) -> None:
    (keys / "server.key_secret").write_text(content)
    with pytest.raises(WireError, match="liveloc keys"):
        server_keys(WireSettings(keys=str(keys)))


def test_missing_keys_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="liveloc keys"):
        server_keys(WireSettings(keys=str(tmp_path)))
    with pytest.raises(WireError, match="liveloc keys"):
        client_keys(tmp_path)


def test_secrets_do_not_stand_in_messages(keys: Path) -> None:
    pair = server_keys(WireSettings(keys=str(keys)))
    assert pair is not None
    assert pair.own.secret.decode() not in repr(pair)


def test_with_keys_other_addresses_are_bound(tmp_path: Path, keys: Path) -> None:
    settings = WireSettings(port=0, address="0.0.0.0", keys=str(keys))
    with live_run(tmp_path / "log.arrows", settings) as run:
        run.write(3)
        port = wire.split_endpoint(run.endpoint)[1]
        with reading(f"127.0.0.1:{port}", keys / "for_clients" / "viewer") as reader:
            reader.until_batches(3)
        until(lambda: run.publisher.malformed == 0)
