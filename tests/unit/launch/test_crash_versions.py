# SPDX-License-Identifier: GPL-3.0-or-later
"""What each version of crash recognises by itself."""

from __future__ import annotations

import pytest

from pykdump_ext.launch.crash_versions import misses_pv_kernel

from ..made_up.machine import SymbolTable

NEW = SymbolTable(pv_ops=1)
OLD = SymbolTable(pv_init_ops=1)


@pytest.mark.parametrize(
    ("version", "misses"),
    [("7.2.9", True), ("7.3.0", True), ("7.3.0-2.el8", True), ("7.3.1", False), ("8.0.2", False),
     ("9.0.2", False), ("", False)],
)  # fmt: skip
def test_crash_recognises_pv_kernels_without_pv_init_ops_since_7_3_1(
    version: str, misses: bool
) -> None:
    """crash's commit 4badc6229c69, which came after 7.3.0."""
    assert misses_pv_kernel(version, NEW) is misses
    assert not misses_pv_kernel(version, OLD)
