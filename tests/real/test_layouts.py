# SPDX-License-Identifier: GPL-3.0-or-later
"""Older kernels' p2m, planted in copies of a real dump: found, rebuilt, opened in crash."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab.broken import DumpFile, copy_of, diagnosis, with_cr3s
from tests.lab.dump import Dump
from tests.lab.planted import PLANTS, planted

from .conftest import Plain
from .outputs import printed, to_files, without_kernel
from .sessions import BIN, Crash, finds_tasks, misses_tasks

COMMANDS = (
    "sys", "bt -a", "ps", "mod", "kmem -i", "kmem -s", "kmem -v", "vm", "files", "mount",
    "irq", "runq", "timer", "p runqueues:1", "rd -p 1000000 16",
)  # fmt: skip

# What ``help -k`` shows of a session that translates by that layout
PROOFS = {
    "three-level": r"p2m_mid_missing: ffff888[0-9a-f]+$",
    "two-level": r"p2m_top_entries: 4096$\s+p2m_missing: ffffffff",
    "flat": r"phys_to_machine_mapping: ffff888[0-9a-f]+$",
}
layouts = pytest.mark.parametrize("layout", PROOFS)


@pytest.fixture(scope="module")
def commands(addresses: tuple[str, ...]) -> tuple[str, ...]:
    return (*COMMANDS, *addresses)


@pytest.fixture(scope="module")
def wanted(untouched: Dump, commands: tuple[str, ...], plain: Plain) -> list[str]:
    """What plain crash prints on the untouched dump."""
    return [without_kernel(text) for text in plain("layouts", untouched, commands)]


@layouts
def test_the_rebuilt_list_is_that_of_the_whole_dump(untouched: Dump, layout: str) -> None:
    whole, truncated = (diagnosis(dump) for dump in planted(untouched, layout))
    assert truncated.table.layout == layout
    assert truncated.check.passed and not truncated.healthy and whole.healthy
    own = diagnosis(untouched)
    memory = [i for i, mfn in enumerate(own.table.leaves) if not own.table.shared(mfn)]
    assert len(memory) > 300
    leaves = [truncated.rebuilt.leaf(i) for i in memory]
    assert leaves == [whole.published.leaf(i) for i in memory]
    for index, leaf in zip(memory, leaves):
        assert leaf is not None
        moved = truncated.kernel.memory.read(leaf << 12, 4096, "moved leaf")
        assert moved == own.kernel.memory.read(own.table.leaves[index] << 12, 4096, "leaf")


@layouts
def test_leaves_lie_in_memory_that_the_broken_list_does_not_cover(
    untouched: Dump, layout: str
) -> None:
    truncated = diagnosis(planted(untouched, layout)[1])
    ((first, last),) = truncated.coverage.lost
    lost = {truncated.entry(truncated.rebuilt, pfn) for pfn in range(first, last + 1)}
    leaves = {mfn for mfn in truncated.table.leaves if not truncated.table.shared(mfn)}
    assert len(leaves) > 300
    assert leaves <= lost


@layouts
def test_crash_prints_the_same_by_its_own_code_for_the_layout(
    crash: Crash,
    untouched: Dump,
    host: Path,
    commands: tuple[str, ...],
    wanted: list[str],
    layout: str,
) -> None:
    whole, truncated = planted(untouched, layout)
    options = PLANTS[layout].options
    died = crash(truncated, ["sys"], *options)
    assert died.status == 1 and 'type: "tss_struct ist array"' in died.text

    first = finds_tasks(host) if misses_tasks() else []
    asked = [*first, *to_files(commands, crash.folder / "plain"), "help -k"]
    plain = crash(whole, asked, *options)
    repaired = crash.run(
        [BIN / "p2mfix", "--plain", truncated.vmlinux, truncated.vmcore, *options],
        [*to_files(commands, crash.folder / "repaired"), "help -k", "quit"],
    )
    assert plain.status == repaired.status == 0
    assert f", {layout} p2m, page tables at" in repaired.text
    for session in (plain, repaired):
        assert re.search(rf"(?m){PROOFS[layout]}", session.text)
        assert re.search(r"p2m_cache_index: [1-9]", session.text)
        assert ("ARCH_PVOPS_XEN" in session.text) == (layout != "flat")
    for name in ("plain", "repaired"):
        shown = [without_kernel(text) for text in printed(crash.folder / name)]
        assert dict(zip(commands, shown)) == dict(zip(commands, wanted)), name


def test_an_older_kernels_top_page_table_is_a_root(crash: Crash, untouched: Dump) -> None:
    truncated = planted(untouched, "three-level")[1]
    copy = copy_of(truncated, crash.folder)
    DumpFile(copy).edit_notes(with_cr3s(0x1000))
    opened = crash.run([BIN / "p2mfix", truncated.vmlinux, copy], ["bt", "quit"])
    assert opened.status == 0
    assert re.search(r"page tables at [0-9a-f]+ \(init_level4_pgt\)", opened.text)
    assert "sysrq_handle_crash" in opened.text
    copy.unlink()
