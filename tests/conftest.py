"""What all tests share."""

from __future__ import annotations

import os
import signal

import pytest


def pytest_configure() -> None:
    """Tests send signals, to themselves and to processes they start; as a job in the background would ignore some."""
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is measured of this computer during the tests is not mixed with what its user's runs measured."""
    os.environ["LIVELOC_CACHE"] = str(tmp_path_factory.mktemp("cache"))
