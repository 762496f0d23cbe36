# SPDX-License-Identifier: GPL-3.0-or-later
"""The registers that drgn gets of dom0's cpus."""

from __future__ import annotations

from pykdump_ext.drgn.registers import HYPERCALL_STUB


def test_only_xens_stubs_are_taken_for_stubs() -> None:
    assert HYPERCALL_STUB.fullmatch(bytes.fromhex("51 41 53 b8 1d 00 00 00 0f 05"))
    assert HYPERCALL_STUB.fullmatch(bytes.fromhex("51 41 53 b8 0a 00 00 00 0f 05"))  # a newline
    assert not HYPERCALL_STUB.fullmatch(bytes.fromhex("90 90 90 90 90 51 41 53 0f 05"))
