# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of several rooms are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykdump_ext import outputs

from .made_up.copies import Broken, broken_dump
from .made_up.opened import OnHost, host_dump


@pytest.fixture
def broken(tmp_path: Path) -> Broken:
    return broken_dump(tmp_path)


@pytest.fixture
def on_host() -> OnHost:
    return host_dump()


@pytest.fixture(params=[True, False], ids=["unnamed", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The two ways to write: the file system has files without a name, or it has none."""
    unnamed: bool = request.param
    if not unnamed:
        monkeypatch.setattr(outputs, "_unnamed", lambda folder: None)
    return unnamed
