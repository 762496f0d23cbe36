# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of several rooms are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from .made_up.copies import Broken, broken_dump
from .made_up.opened import OnHost, host_dump


@pytest.fixture
def broken(tmp_path: Path) -> Broken:
    return broken_dump(tmp_path)


@pytest.fixture
def on_host() -> OnHost:
    return host_dump()
