"""What all tests share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is measured of this computer during the tests is not mixed with what its user's runs measured."""
    os.environ["LIVELOC_CACHE"] = str(tmp_path_factory.mktemp("cache"))
