# SPDX-License-Identifier: GPL-3.0-or-later
"""Backend devices of a damaged kernel."""

from __future__ import annotations

from itertools import cycle
from types import SimpleNamespace
from typing import Any

import drgn
import pytest

from pykdump_ext.drgn import backends
from pykdump_ext.drgn.module_names import MOST_MODULES
from pykdump_ext.limits import within

PROG = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
WORD = PROG.int_type("unsigned long", 8, False)


def test_disks_and_modules_that_come_back_to_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [drgn.Object(PROG, WORD, address) for address in (0x1000, 0x2000)]
    named: list[int] = []

    def name(part: drgn.Object) -> bytes:
        named.append(part.value_())
        return b"sda"

    fake = SimpleNamespace(
        for_each_partition=lambda prog: cycle(parts), part_devt=lambda part: part, part_name=name
    )
    monkeypatch.setattr(backends, "linux", fake)
    given: list[Any] = []
    prog: Any = SimpleNamespace(
        loaded_modules=lambda: cycle([(SimpleNamespace(name="xen_blkback"), False)]),
        find_standard_debug_info=lambda modules: given.append(len(modules)),
        type=lambda name, filename: WORD,
    )
    notes: list[str] = []
    within(2, lambda: backends._disks(prog, notes))
    assert named == [0x1000, 0x2000] and given == [MOST_MODULES]
    assert notes == ["disks: the list is damaged: it comes back to 1000"]
