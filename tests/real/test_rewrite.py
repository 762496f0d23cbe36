# SPDX-License-Identifier: GPL-3.0-or-later
"""Rewritten dumps: crash, makedumpfile and libkdumpfile read them, without any plugin."""

from __future__ import annotations

import filecmp
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lab.broken import DumpFile, copy_of, diagnosis, truncate_list
from tests.lab.dump import Dump
from tests.lab.huge import grow, mark
from tests.lab.packages import HOST, Missing

from . import broken_lists as lists
from .conftest import Packed, Plain
from .outputs import FEW_COMMANDS, MANY_COMMANDS, digest, printed, to_files
from .packed import filtered
from .sessions import BIN, Crash, Ran

PAGE_OFFSET = 0xFFFF888000000000
REWRITE = (BIN / "p2mfix", "rewrite")
DISTRIBUTIONS_PYTHON = "/usr/bin/python3"  # which python3-libkdumpfile is for


def rewritten(crash: Crash, dump: Dump, out: Path) -> tuple[Dump, Ran]:
    ran = crash.run([*REWRITE, dump.vmcore, out, "--vmlinux", dump.vmlinux])
    return Dump(dump.vmlinux, out), ran


def shown(crash: Crash, dump: Dump, commands: tuple[str, ...]) -> list[str]:
    """What plain crash prints, command by command."""
    ran = crash(dump, to_files(commands, crash.folder / "shown"))
    assert ran.status == 0, ran.text
    return printed(crash.folder / "shown")


@pytest.fixture(scope="module")
def copy(truncated: Dump, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dump]:
    """The dump of the report, rewritten without its kernel at hand."""
    folder = tmp_path_factory.mktemp("rewritten")
    before = digest(truncated.vmcore)
    made = Dump(truncated.vmlinux, folder / "copy")
    ran = Crash(folder, folder).run([*REWRITE, truncated.vmcore, made.vmcore])
    assert ran.status == 0, ran.text
    assert re.fullmatch(
        r"p2mfix: the dump's list covers [\d,]+ of 179,200 pages \(\d\d\.\d%\)\n"
        r"p2mfix: \d+ of \d+ leaves were lost; the whole list is in 5 new pages,"
        r" machine frames [0-9a-f]+-[0-9a-f]+\n"
        r"p2mfix: \S+/copy: 1\.4 GB written, (sharing its blocks with the dump, )?\d+\.\d s\n",
        ran.text,
    ), ran.text
    assert digest(truncated.vmcore) == before, "the dump was written"
    yield made
    made.vmcore.unlink()


def test_plain_crash_prints_what_it_prints_on_the_untouched_dump(
    crash: Crash, untouched: Dump, copy: Dump, addresses: tuple[str, ...], plain: Plain
) -> None:
    commands = (*MANY_COMMANDS, *addresses)
    wanted = dict(zip(commands, plain("main", untouched, commands, alone=True)))
    assert dict(zip(commands, shown(crash, copy, commands))) == wanted


def test_what_was_rewritten_is_whole_also_without_the_kernel(crash: Crash, copy: Dump) -> None:
    ran = crash.run([BIN / "p2mfix", "diagnose", copy.vmcore])
    assert "verdict: the list is whole\n" in ran.text, ran.text


def test_with_the_kernel_at_hand_the_copy_is_the_same(
    crash: Crash, truncated: Dump, copy: Dump, tmp_path: Path
) -> None:
    out, ran = rewritten(crash, truncated, tmp_path / "out")
    assert ran.status == 0, ran.text
    assert digest(out.vmcore) == digest(copy.vmcore)


def test_makedumpfile_filters_it_and_crash_opens_the_result(
    crash: Crash, untouched: Dump, copy: Dump, packed: Packed, plain: Plain, tmp_path: Path
) -> None:
    (again,) = filtered(copy, tmp_path, "-c")
    wanted = plain("zlib", packed(untouched, "-c"), FEW_COMMANDS, alone=True)
    assert shown(crash, Dump(copy.vmlinux, again), FEW_COMMANDS) == wanted


@pytest.mark.parametrize(("option", "name"), [("-E", "elf"), ("-c", "zlib")])
def test_a_filtered_dump_can_be_rewritten(
    crash: Crash, untouched: Dump, truncated: Dump, packed: Packed, plain: Plain, tmp_path: Path,
    option: str, name: str,
) -> None:  # fmt: skip
    """An ELF file has no room for one more program header, a compressed one none for a page."""
    source = packed(truncated, option)
    before = digest(source.vmcore)
    out, ran = rewritten(crash, source, tmp_path / "out")
    assert ran.status == 0, ran.text
    assert digest(source.vmcore) == before, "the dump was written"
    wanted = plain(name, packed(untouched, option), FEW_COMMANDS, alone=True)
    assert shown(crash, out, FEW_COMMANDS) == wanted


LIBKDUMPFILE = """
import sys
from kdumpfile import KDUMP_KPHYSADDR, KDUMP_KVADDR, kdumpfile
dump = kdumpfile(sys.argv[1])
for name, value in (("xen_xlat", 1), ("virt_bits", 48), ("rootpgt.addr", int(sys.argv[2], 16)),
                    ("rootpgt.as", 1)):
    dump.attr["addrxlat.force." + name] = value
dump.attr["addrxlat.ostype"] = "linux"
for spaces, addresses in ((KDUMP_KPHYSADDR, sys.argv[3]), (KDUMP_KVADDR, sys.argv[4])):
    for address in addresses.split(","):
        try:
            print(address, dump.read(spaces, int(address, 16), 64).hex())
        except Exception as error:
            print(address, error)
"""


def test_libkdumpfile_reads_it(crash: Crash, untouched: Dump, truncated: Dump, copy: Dump) -> None:
    """Told of Xen and of four levels, which a dump of Xen's does not tell of itself."""
    try:
        HOST.version("python3-libkdumpfile")
    except Missing as error:
        pytest.skip(str(error))
    found = diagnosis(untouched)
    root = f"{found.kernel.root.maddr:x}"
    pfns = sorted(
        pfn for first, last in diagnosis(truncated).coverage.lost for pfn in (first, last)
    )
    physical = ",".join(f"{pfn << 12:x}" for pfn in (0x1000, *pfns))
    virtual = ",".join(
        f"{va:x}"
        for va in (found.kernel.address("linux_banner"), *(PAGE_OFFSET + (p << 12) for p in pfns))
    )

    def read(dump: Dump) -> str:
        words: list[str | Path] = [
            DISTRIBUTIONS_PYTHON,
            "-c",
            LIBKDUMPFILE,
            dump.vmcore,
            root,
            physical,
            virtual,
        ]
        ran = crash.run(words)
        assert ran.status == 0, ran.text
        return ran.text

    wanted = read(untouched)
    assert "Page not found" not in wanted
    assert b"Linux version 6".hex() in wanted
    assert "Page not found" in read(truncated)
    assert read(copy) == wanted


@pytest.mark.parametrize(
    "damage",
    [lists.absent, lists.invalid, lists.page_overwritten, lists.zero_entries_in_the_middle],
    ids=lambda damage: damage.__name__,
)
def test_plain_crash_opens_a_rewritten_dump_whose_list_was(
    crash: Crash, untouched: Dump, plain: Plain, tmp_path: Path, damage: lists.Damage
) -> None:
    broken = Dump(untouched.vmlinux, copy_of(untouched, tmp_path))
    damage(DumpFile(broken.vmcore), diagnosis(untouched))
    out = Dump(broken.vmlinux, tmp_path / "out")
    ran = crash.run([*REWRITE, broken.vmcore, out.vmcore])  # Xen's memory tells which is dom0
    assert ran.status == 0, ran.text
    wanted = plain("lists", untouched, lists.COMMANDS, alone=True)
    assert shown(crash, out, lists.COMMANDS) == wanted


def test_above_512_gib_what_the_list_can_hold_is_written(
    crash: Crash, untouched: Dump, tmp_path: Path
) -> None:
    broken = Dump(untouched.vmlinux, copy_of(untouched, tmp_path))
    truncate_list(untouched, broken.vmcore)
    firsts = grow(untouched, broken.vmcore, 1 << 40)
    out, ran = rewritten(crash, broken, tmp_path / "out")
    assert ran.status == 0, ran.text
    above = [pfn for pfn in firsts if pfn >= 512**3]
    assert f"{len(above)} leaves above 512 GiB have no place in any list" in ran.text
    opened = crash(out, [f"rd {PAGE_OFFSET + (pfn << 12):x} 2" for pfn in firsts], "-s")
    assert opened.status == 0
    for pfn in firsts:
        low, high = (int.from_bytes(part, "little") for part in (mark(pfn)[:8], mark(pfn)[8:16]))
        assert (f":  {low:016x} {high:016x}" in opened.text) == (pfn < 512**3)
    again, ran = rewritten(crash, out, tmp_path / "again")
    assert ran.status == 1
    assert "the list is whole up to 512 GiB, and no list can name more" in ran.text
    assert not again.vmcore.exists()


def test_a_healthy_dump_is_copied_and_crash_opens_it(
    crash: Crash, untouched: Dump, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = crash.run(["sh", "-c", f"{BIN}/p2mfix rewrite {untouched.vmcore} {out} &&"
                     f" echo quit | crash -s {untouched.vmlinux} {out}"])  # fmt: skip
    assert ran.status == 0, ran.text
    assert "nothing to repair: the copy has the same bytes" in ran.text
    assert filecmp.cmp(untouched.vmcore, out, shallow=False)
    out.unlink()


def test_kill_9_leaves_nothing(truncated: Dump, tmp_path: Path) -> None:
    process = subprocess.Popen([*REWRITE, truncated.vmcore, tmp_path / "out"])

    def begun() -> bool:
        for fd in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):  # it is closed by now
                if fd.readlink().parent == tmp_path:
                    return True
        return False

    while process.poll() is None and not begun():
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_errors_are_sentences(
    crash: Crash, truncated: Dump, not_xen: Dump, packed: Packed, tmp_path: Path
) -> None:
    def says(vmcore: Path, out: Path, *options: str | Path) -> str:
        ran = crash.run([*REWRITE, vmcore, out, *options])
        assert ran.status == 1
        assert ran.text.startswith("p2mfix: ") and ran.text.count("\n") == 1, ran.text
        return ran.text

    vmlinux = ("--vmlinux", truncated.vmlinux)
    out = tmp_path / "out"
    for target in (truncated.vmcore, truncated.vmlinux):
        said = says(truncated.vmcore, target, *vmlinux, "--force")
        assert "which is never " in said
    assert "not a dump of a Xen host" in says(not_xen.vmcore, out, *vmlinux)
    assert "No such file" in says(tmp_path / "none", out, *vmlinux)
    assert "No such file" in says(truncated.vmcore, out, "--vmlinux", tmp_path / "none")
    flattened = packed(truncated, "-F")
    assert "open it with p2mfix VMLINUX VMCORE" in says(flattened.vmcore, out, *vmlinux)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "work"]
