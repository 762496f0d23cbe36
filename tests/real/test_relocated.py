# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel that ran elsewhere than it was linked: crash's --kaslr and --reloc, and p2mfix.

The vmlinux is linked 16 MiB below where the kernel was; the oracle is plain
crash on the untouched dump with the kernel's real vmlinux.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.broken import DumpFile, copy_of, with_list_mfn
from tests.lab.dump import Dump
from tests.lab.shifted import shifted

from .conftest import Plain
from .outputs import printed, to_files
from .sessions import BIN, Crash, opens_whole

MIB_16 = 16 << 20
COMMANDS = (
    "bt -a", "bt -l", "ps", "mod", "kmem -i", "files", "irq", "p linux_banner",
    "p runqueues:1", "sym linux_banner",
)  # fmt: skip
OPTIONS = (["--kaslr=16m"], ["--reloc", "0xffffffffff000000"])


@pytest.fixture(scope="module")
def wanted(untouched: Dump, plain: Plain) -> list[str]:
    """What plain crash prints on the untouched dump, with the real vmlinux."""
    return plain("relocated", untouched, COMMANDS)


@pytest.fixture(scope="module")
def vmlinux(untouched: Dump) -> Path:
    return shifted(untouched, -MIB_16).vmlinux


def opened(crash: Crash, options: list[str], vmlinux: Path, vmcore: Path) -> list[str]:
    """What ``p2mfix`` prints of a broken dump, which it must have repaired."""
    ran = crash.run(
        [BIN / "p2mfix", *options, vmlinux, vmcore],
        [*to_files(COMMANDS, crash.folder / "out"), "quit"],
    )
    assert ran.status == 0, ran.text
    assert "rebuilt from page tables: 179,200 (100%)" in ran.text
    return printed(crash.folder / "out")


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_p2mfix_opens_the_truncated_dump(
    crash: Crash, truncated: Dump, vmlinux: Path, wanted: list[str], options: list[str]
) -> None:
    assert opened(crash, options, vmlinux, truncated.vmcore) == wanted


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_p2mfix_opens_a_dump_whose_list_is_absent(
    crash: Crash, untouched: Dump, vmlinux: Path, wanted: list[str], options: list[str]
) -> None:
    copy = copy_of(untouched, crash.folder)
    DumpFile(copy).edit_notes(with_list_mfn(0))
    assert opened(crash, options, vmlinux, copy) == wanted
    copy.unlink()


def test_a_healthy_dump_is_opened_as_plain_crash_does_and_with_all_tasks(
    crash: Crash, untouched: Dump, vmlinux: Path, wanted: list[str]
) -> None:
    files: list[str | Path] = ["--kaslr=16m", vmlinux, untouched.vmcore]
    opens_whole(crash, files, [*to_files(COMMANDS, crash.folder / "out"), "quit"])
    assert printed(crash.folder / "out") == wanted


def test_in_a_minimal_session(
    crash: Crash, truncated: Dump, vmlinux: Path, host: Path, wanted: list[str]
) -> None:
    ran = crash(
        Dump(vmlinux, truncated.vmcore),
        [f"extend {host}", "extend p2mfix.py", *to_files(COMMANDS, crash.folder / "out")],
        "--minimal", "--kaslr=16m",
    )  # fmt: skip
    assert ran.status == 0
    assert printed(crash.folder / "out") == wanted
