# SPDX-License-Identifier: GPL-3.0-or-later
"""What each version of crash recognises by itself."""

from __future__ import annotations

import pytest

from pykdump_ext.launch.crash_versions import misses_pv_kernel

from ..made_up.machine import SymbolTable

V4_13 = SymbolTable(pv_init_ops=1, xen_patch=1, paravirt_patch_default=1, xen_start_info=1)
V4_19 = SymbolTable(pv_init_ops=1, paravirt_patch_default=1, xen_start_info=1)
V4_20 = SymbolTable(pv_ops=1, paravirt_patch_default=1, xen_start_info=1)
XENLINUX = SymbolTable(xen_start_info=1)


@pytest.mark.parametrize(
    ("version", "misses_4_19", "misses_4_20"),
    [("7.2.9", True, True), ("7.2.3-11.el7_9.1", True, True), ("7.3", False, True),
     ("7.3.0", False, True), ("7.3.0-2.el8", False, True), ("7.3.1", False, False),
     ("8.0.2", False, False), ("9.0.2", False, False), ("", False, False)],
)  # fmt: skip
def test_crash_knows_a_pv_kernel_by_what_pv_init_ops_points_to_until_7_3_1(
    version: str, misses_4_19: bool, misses_4_20: bool
) -> None:
    """crash's commits 0715962d32fc (7.3.0) and 4badc6229c69 (7.3.1)."""
    assert misses_pv_kernel(version, V4_19) is misses_4_19
    assert misses_pv_kernel(version, V4_20) is misses_4_20
    assert not misses_pv_kernel(version, V4_13)
    assert not misses_pv_kernel(version, XENLINUX)
