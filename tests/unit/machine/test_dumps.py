# SPDX-License-Identifier: GPL-3.0-or-later
"""What is a dump, and which files are one."""

from __future__ import annotations

from pathlib import Path

from pykdump_ext.machine.dumps import is_dump
from tests.lab.kdump import (
    flattened,
)

from ..made_up.core import core_bytes
from ..made_up.kdumps import SAMPLE, written


def test_a_dump_is_known_by_its_beginning(tmp_path: Path) -> None:
    program = core_bytes([], e_type=2)
    for content, wanted in (
        (SAMPLE, True), (flattened(SAMPLE), True), (core_bytes([]), True),
        (program, False), (b"", False), (b"KDUM", False), (bytes(5000), False),
    ):  # fmt: skip
        (path,) = written(tmp_path, content)
        assert is_dump(path) == wanted
    assert not is_dump(tmp_path / "nosuchfile")
    assert not is_dump(tmp_path)
