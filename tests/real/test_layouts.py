"""Older kernels' p2m, planted in copies of a real dump: found, rebuilt, opened."""

from __future__ import annotations

from pathlib import Path

from pykdump_ext.kernel import Symbols, xen_info
from pykdump_ext.memory import ElfCore
from pykdump_ext.namelist import Namelist
from pykdump_ext.p2m import Diagnosis, diagnose
from tests.lab.broken import DumpFile, copy_of, diagnosis
from tests.lab.dump import Dump
from tests.lab.planted import flat, plant_two_levels, three_levels

from .conftest import BIN, Crash
from .test_repair import to_files, without_dumpfile

COMMANDS = (
    "sys", "bt -a", "ps", "mod", "kmem -i", "kmem -s", "vm", "files", "mount", "irq", "runq",
    "timer", "p runqueues:1", "vtop modules", "rd modules 4",
)  # fmt: skip


def by_symbols(dump: Dump, vmcore: Path, symbols: Symbols) -> Diagnosis:
    core = ElfCore(vmcore)
    info = xen_info(core.notes)
    assert info is not None
    return diagnose(core, symbols, Namelist(dump.vmlinux).banner(), info)


def assert_same_memory(found: Diagnosis, own: Diagnosis, layout: str) -> None:
    """The rebuilt list is the kernel's own for every leaf that holds memory."""
    assert found.table.layout == layout
    assert found.check.passed
    memory = [i for i, mfn in enumerate(own.table.leaves) if not own.table.shared(mfn)]
    assert [found.rebuilt.leaf(i) for i in memory] == [own.published.leaf(i) for i in memory]


def test_a_dump_with_three_levels_opens_in_crash(crash: Crash, untouched: Dump) -> None:
    whole, truncated = three_levels(untouched)
    own = diagnosis(untouched)
    assert_same_memory(diagnosis(truncated), own, "three-level")
    assert not diagnosis(truncated).healthy and diagnosis(whole).healthy

    died = crash(truncated, ["sys"])
    assert died.status == 1 and 'type: "tss_struct ist array"' in died.text
    plain = crash(whole, to_files(COMMANDS, crash.folder / "plain"))
    repaired = crash.run(
        [BIN / "p2mfix", truncated.vmlinux, truncated.vmcore],
        [*to_files(COMMANDS, crash.folder / "repaired"), "quit"],
    )
    assert plain.status == repaired.status == 0
    assert ", three-level p2m, page tables at" in repaired.text
    for number, command in enumerate(COMMANDS):
        shown, wanted = (
            without_dumpfile((crash.folder / name / str(number)).read_text())
            for name in ("repaired", "plain")
        )
        assert wanted, command
        assert shown == wanted, command


def test_a_flat_p2m_is_rebuilt(untouched: Dump, truncated: Dump) -> None:
    found = by_symbols(truncated, truncated.vmcore, flat(truncated))
    assert_same_memory(found, diagnosis(untouched), "flat")
    assert not found.healthy


def test_a_p2m_of_two_levels_is_rebuilt(untouched: Dump, truncated: Dump, tmp_path: Path) -> None:
    copy = copy_of(truncated, tmp_path)
    symbols = plant_two_levels(truncated, DumpFile(copy))
    found = by_symbols(truncated, copy, symbols)
    assert_same_memory(found, diagnosis(untouched), "two-level")
    assert not found.healthy
    copy.unlink()
