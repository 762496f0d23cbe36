# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps as makedumpfile writes them: filtered, compressed, split, flattened."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from pykdump_ext.linux.namelist import Namelist
from pykdump_ext.machine.compression import SNAPPY, ZSTD
from pykdump_ext.machine.dumps import open_dump
from pykdump_ext.opened import OpenedDump
from pykdump_ext.p2m.diagnosis import Diagnosis, diagnose
from pykdump_ext.p2m.failure import Failure
from tests.lab.broken import diagnosis, with_list_mfn
from tests.lab.dump import Dump
from tests.lab.kdump import edit_notes, flattened, rewritten

from .conftest import Packed, Plain
from .outputs import FEW_COMMANDS, printed, to_files
from .packed import filtered
from .sessions import BIN, Crash, Ran, opens_whole


@pytest.fixture(scope="module")
def zlib(truncated: Dump, packed: Packed) -> Path:
    """The truncated dump, packed with zlib."""
    return packed(truncated, "-c").vmcore


@pytest.fixture(scope="module")
def whole(untouched: Dump, packed: Packed) -> Dump:
    """The untouched dump, packed with zlib."""
    return packed(untouched, "-c")


@pytest.fixture(scope="module")
def wanted(whole: Dump, plain: Plain) -> list[str]:
    """What plain crash prints on the untouched dump, filtered and compressed."""
    return plain("zlib", whole, FEW_COMMANDS)


@pytest.fixture(scope="module")
def wanted_of_elf(untouched: Dump, packed: Packed, plain: Plain) -> list[str]:
    """What plain crash prints on the untouched dump, filtered."""
    return plain("elf", packed(untouched, "-E"), FEW_COMMANDS)


def opens_as(
    crash: Crash, vmlinux: Path, paths: Sequence[Path], host: Path, wanted: list[str]
) -> Ran:
    """Open a truncated dump in both ways; each must print what is wanted."""
    files = [vmlinux, *paths]
    died = crash.run(["crash", *files], ["sys"])
    assert died.status == 1 and 'type: "tss_struct ist array"' in died.text
    packed = open_dump(paths).format.startswith("kdump-compressed")
    assert f"{Failure.TRUNCATED.crash_says(packed).split('...')[0]}ffff" in died.text
    opened = crash.run(
        [BIN / "p2mfix", *reversed(files)],
        [*to_files(FEW_COMMANDS, crash.folder / "opened"), "quit"],
    )
    extended = crash.run(
        ["crash", "--minimal", *files],
        [
            f"extend {host}",
            "extend p2mfix.py",
            *to_files(FEW_COMMANDS, crash.folder / "extended"),
            "quit",
        ],
    )
    assert opened.status == extended.status == 0, opened.text + extended.text
    assert "Traceback" not in opened.text + extended.text
    assert printed(crash.folder / "opened") == wanted
    assert printed(crash.folder / "extended") == wanted
    return opened


def flags_of_pages(path: Path) -> set[int]:
    """The flags of all descriptors: how the pages are packed."""
    data = path.read_bytes()
    sub_blocks, bit_blocks = (int.from_bytes(data[at : at + 4], "little") for at in (432, 436))
    end = 4096 * (1 + sub_blocks + bit_blocks)
    dumped = bin(int.from_bytes(data[end - bit_blocks * 2048 : end], "little")).count("1")
    return {data[end + 24 * i + 12] for i in range(dumped)}


def test_a_filtered_elf_dump_opens(
    crash: Crash, truncated: Dump, packed: Packed, host: Path, wanted_of_elf: list[str]
) -> None:
    broken = packed(truncated, "-E")
    opens_as(crash, broken.vmlinux, [broken.vmcore], host, wanted_of_elf)


def test_a_dump_packed_with_zlib_opens(
    crash: Crash, untouched: Dump, zlib: Path, host: Path, wanted: list[str]
) -> None:
    assert flags_of_pages(zlib) == {0, 1}
    opens_as(crash, untouched.vmlinux, [zlib], host, wanted)


def test_a_dump_packed_with_lzo_opens(
    crash: Crash, truncated: Dump, host: Path, tmp_path: Path, wanted: list[str]
) -> None:
    broken = filtered(truncated, tmp_path, "-l")
    assert flags_of_pages(broken[0]) == {0, 2}
    opens_as(crash, truncated.vmlinux, broken, host, wanted)


@pytest.mark.parametrize("method", [SNAPPY, ZSTD], ids=["snappy", "zstd"])
def test_a_dump_packed_otherwise_opens(
    crash: Crash,
    truncated: Dump,
    zlib: Path,
    host: Path,
    tmp_path: Path,
    wanted: list[str],
    method: int,
) -> None:
    broken = rewritten(zlib, tmp_path / "broken", method)
    assert flags_of_pages(broken) == {0, method}
    opens_as(crash, truncated.vmlinux, [broken], host, wanted)


def test_a_split_dump_opens_and_no_part_of_it_becomes_a_picture(
    crash: Crash, truncated: Dump, host: Path, tmp_path: Path, wanted: list[str]
) -> None:
    broken = filtered(truncated, tmp_path, "-c", files=3)
    opens_as(crash, truncated.vmlinux, [broken[1], broken[2], broken[0]], host, wanted)

    before = [path.read_bytes() for path in broken]
    link, unlike = tmp_path / "link", tmp_path / "unlike"
    os.link(broken[2], link)
    commands = [f"p2m map --{kind} {path}" for kind in ("svg", "png") for path in (*broken, link)]
    # crash has it open, and nothing else tells what it is
    commands += [f"!printf unlike | dd of={broken[1]} conv=notrunc status=none",
                 f"!mv {broken[1]} {unlike}", f"p2m map --svg {unlike}"]  # fmt: skip
    words: list[str | Path] = ["crash", "--minimal", truncated.vmlinux, *broken]
    ran = crash.run(words, [f"extend {host}", "extend p2mfix.py", *commands, "quit"])
    for path in (*broken, link):
        kept = rf"^p2m: {path}: is .*, which is never (?:replaced|written)"
        assert len(re.findall(kept, ran.text, re.M)) == 2, ran.text
    assert f"p2m: {unlike}: is {unlike}, which is open here and never written" in ran.text
    broken[1] = unlike
    after = [path.read_bytes() for path in broken]
    assert after[1].startswith(b"unlike") and after[1][6:] == before[1][6:]
    assert (after[0], after[2]) == (before[0], before[2])


def test_a_flattened_compressed_dump_opens(
    crash: Crash, truncated: Dump, host: Path, tmp_path: Path, wanted: list[str]
) -> None:
    broken = filtered(truncated, tmp_path, "-F", "-c")
    opened = opens_as(crash, truncated.vmlinux, broken, host, wanted)
    assert "makedumpfile -R" not in opened.text


def test_a_flattened_elf_dump_opens(
    crash: Crash,
    truncated: Dump,
    packed: Packed,
    host: Path,
    tmp_path: Path,
    wanted_of_elf: list[str],
) -> None:
    flat = tmp_path / "flat"
    flat.write_bytes(flattened(packed(truncated, "-E").vmcore.read_bytes()))
    opened = opens_as(crash, truncated.vmlinux, [flat], host, wanted_of_elf)
    assert "makedumpfile -R" not in opened.text


def found_in(paths: list[Path], dump: Dump) -> Diagnosis:
    core = open_dump(paths)
    namelist = Namelist(dump.vmlinux)
    info = OpenedDump(core).hints
    return diagnose(core, namelist, namelist.banner(), info)


def test_a_flattened_elf_dump_that_crash_may_misread_is_told_what_to_do_with(
    crash: Crash, truncated: Dump, tmp_path: Path
) -> None:
    """makedumpfile 1.7.2 writes program headers of zeros, and the real ones over them."""
    (flat,) = filtered(truncated, tmp_path, "-F", "-E")
    data = flat.read_bytes()  # newer ones may write them once: so the first record comes twice
    first = data[4096:4112]
    zeros = bytes(struct.unpack(">qq", first)[1])
    flat.write_bytes(data[:4096] + first + zeros + data[4096:])
    assert found_in([flat], truncated).rebuilt == diagnosis(truncated).rebuilt
    ran = crash.run([BIN / "p2mfix", truncated.vmlinux, flat], ["quit"])
    assert f"p2mfix: {flat}: flattened, " in ran.text
    assert f"makedumpfile -R DUMP < {flat} makes a plain dump" in ran.text


def test_a_healthy_compressed_dump_is_opened_as_plain_crash_does_and_with_all_tasks(
    crash: Crash, untouched: Dump, whole: Dump, tmp_path: Path, wanted: list[str]
) -> None:
    split = filtered(untouched, tmp_path, "-c", files=2)
    for name, files in {"one": [whole.vmcore], "split": split}.items():
        commands = [*to_files(FEW_COMMANDS, crash.folder / name), "quit"]
        opens_whole(crash, [untouched.vmlinux, *files], commands)
        assert printed(crash.folder / name) == wanted


def test_a_compressed_dump_on_which_crash_cannot_start_opens(
    crash: Crash, whole: Dump, tmp_path: Path, wanted: list[str]
) -> None:
    broken = rewritten(whole.vmcore, tmp_path / "broken")
    edit_notes(broken, with_list_mfn(0))
    for options in ([], ["--minimal"]):
        died = crash.run(["crash", *options, whole.vmlinux, broken], ["quit"])
        assert died.status == 1
        assert 'page excluded: physical address: 0  type: "xen kdump p2m mfn page"' in died.text
    opened = crash.run(
        [BIN / "p2mfix", whole.vmlinux, broken],
        [*to_files(FEW_COMMANDS, crash.folder / "opened"), "quit"],
    )
    assert opened.status == 0, opened.text
    assert printed(crash.folder / "opened") == wanted


def test_what_was_excluded_is_said_to_be_excluded(
    crash: Crash, untouched: Dump, zlib: Path, host: Path, tmp_path: Path
) -> None:
    found = diagnosis(untouched)
    leaf = found.table.leaves[0x8000 // 512]
    base = found.kernel.page_offset()
    table = list(found.kernel.tables.walk(base + 0x9000 * 4096))[-1].entry_maddr >> 12
    broken = rewritten(zlib, tmp_path / "broken", excluded={leaf, table})
    ran = crash.run(
        ["crash", "--minimal", untouched.vmlinux, broken],
        [
            f"extend {host}",
            "extend p2mfix.py",
            "p2m pfn 8123",
            f"p2m va {base + 0x9000 * 4096:x}",
            "quit",
        ],
    )
    excluded = r'read error: machine address: %x000  type: "%s": page excluded'
    assert (
        f"leaves that are not in the dump: 1, the first: {excluded % (leaf, 'p2m leaf')}"
        in ran.text
    )
    shown = ran.after("pfn 8123: ")
    assert f"dump's list: leaf mfn {leaf:x}, which cannot be read: page excluded" in shown
    assert f"p2m: {excluded % (table, 'PTE page')}" in shown
