# SPDX-License-Identifier: GPL-3.0-or-later
"""Names in a kernel's BTF, which has each different type of its debug information once."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

from pykdump_ext.linux.vmlinux import VmlinuxFile

__all__ = ["names_of_several_types"]

HEADER = struct.Struct("<HBBIIIII")  # struct btf_header, Documentation/bpf/btf.rst
TYPE = struct.Struct("<III")  # struct btf_type
WORDS = {4: "struct ", 5: "union ", 6: "enum ", 8: "", 19: "enum "}
BEHIND = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0),
          15: (0, 12), 17: (4, 0), 19: (0, 12)}  # fmt: skip
"""Bytes behind a type of each kind, and behind them for each of its members."""


def names_of_several_types(vmlinux: Path) -> set[str]:
    """Return the names that units of a kernel have different types of."""
    section = VmlinuxFile(vmlinux).section(".BTF")
    assert section
    with vmlinux.open("rb") as file:
        file.seek(section.offset)
        data = file.read(section.size)
    _, _, _, length, types, types_size, strings, _ = HEADER.unpack_from(data)
    at, end = length + types, length + types + types_size
    found: Counter[str] = Counter()
    while at < end:
        name, info, _ = TYPE.unpack_from(data, at)
        kind, members = info >> 24 & 31, info & 0xFFFF
        if name and kind in WORDS:
            text = length + strings + name
            found[WORDS[kind] + data[text : data.index(b"\0", text)].decode()] += 1
        once, each = BEHIND.get(kind, (0, 0))
        at += TYPE.size + once + each * members
    assert found["struct task_struct"] == 1
    return {name for name, types in found.items() if types > 1}
