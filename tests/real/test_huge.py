# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with more memory than the kernel's list can tell of: 512^3 pfns, 512 GiB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.broken import copy_of, truncate_list
from tests.lab.dump import Dump
from tests.lab.huge import grow, mark

from .conftest import Plain
from .outputs import by_command, to_files
from .sessions import BIN, Crash

PAGE_OFFSET = 0xFFFF888000000000
TIB = 1 << 40
COMMANDS = ("sys", "bt", "ps", "mod", "kmem -i", "vm", "files", "net", "runq", "p linux_banner")


@pytest.fixture
def copy(untouched: Dump, tmp_path: Path) -> Iterator[Dump]:
    made = Dump(untouched.vmlinux, copy_of(untouched, tmp_path))
    yield made
    made.vmcore.unlink()


@pytest.mark.parametrize(
    ("size", "list_is"),
    [(1 * TIB, "whole"), (1 * TIB, "truncated"), (16 * TIB, "truncated")],
    ids=["1 TiB", "1 TiB, list truncated", "16 TiB, list truncated"],
)
def test_dom0_above_512_gib(
    crash: Crash, untouched: Dump, copy: Dump, plain: Plain, size: int, list_is: str
) -> None:
    if list_is == "truncated":
        truncate_list(untouched, copy.vmcore)
    firsts = grow(untouched, copy.vmcore, size)
    assert sum(pfn >= 512**3 for pfn in firsts) > len(firsts) // 3
    assert max(firsts) == (size >> 12) - 512

    # a direct-map address, a pseudo-physical one, and the words there
    reads = [f"rd {PAGE_OFFSET + (pfn << 12):x} 2" for pfn in firsts]
    reads += [f"rd -p {firsts[0] << 12:x} 2"]
    died = crash(copy, reads, "-s")
    if list_is == "truncated":
        assert died.status == 1
        assert 'type: "tss_struct ist array"' in died.text
    else:
        assert died.status == 0
        assert died.text.count("read error: kernel virtual address: ") == len(firsts)

    words: list[str | Path] = [BIN / "p2mfix", copy.vmlinux, copy.vmcore, "-s"]
    commands = [*to_files(COMMANDS, crash.folder / "repaired"), *reads, "p2m verify", "quit"]
    opened = crash.run(words, commands)
    assert opened.status == 0, opened.text
    for pfn in [*firsts, firsts[0]]:
        low, high = (int.from_bytes(part, "little") for part in (mark(pfn)[:8], mark(pfn)[8:16]))
        assert f":  {low:016x} {high:016x}" in opened.text
    assert "read error" not in opened.text
    assert "direct map: agrees on 211,968, disagrees on 0\n" in opened.text
    wanted = dict(zip(COMMANDS, plain("huge", untouched, COMMANDS)))
    assert by_command(COMMANDS, crash.folder / "repaired") == wanted
