# SPDX-License-Identifier: GPL-3.0-or-later
"""Namelists and kernels that were made to take for ever, or to fill the disk."""

from __future__ import annotations

import bz2
import lzma
import os
import struct
import time
import zlib
from array import array
from pathlib import Path

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.linux.banners import MOST_PAGES, find_banner
from pykdump_ext.linux.kernel import START_KERNEL_MAP
from pykdump_ext.linux.namelist import Namelist, group_namelists
from pykdump_ext.linux.packed import MOST_TIMES, SPARE
from pykdump_ext.linux.vmlinux import VmlinuxFile
from pykdump_ext.machine.files import OpenFile
from pykdump_ext.machine.memory import PageMemory
from pykdump_ext.machine.paging import PageTables

from ..made_up.machine import PAGE
from ..made_up.vmlinux import elf

TEXT = (".text", 1, 6, b"\x90" * 16)


def link_to(name: bytes, crc: int = 1234) -> tuple[str, int, int, bytes]:
    """Return a .gnu_debuglink."""
    padded = name + b"\0" * (4 - len(name) % 4)
    return (".gnu_debuglink", 1, 0, padded + struct.pack("<I", crc))


def symbols(*values: tuple[int, int, int]) -> bytes:
    """Return a symbol table: each symbol's name, section and value."""
    return b"".join(struct.pack("<IBBHQQ", name, 0, 0, part, at, 0) for name, part, at in values)


# The link to the debug file

WITH_SYMBOLS = elf(TEXT, (".symtab", 2, 0, symbols((1, 1, 7))), (".strtab", 3, 0, b"\0max_pfn\0"))


@pytest.mark.parametrize("name", ["../debug", "{}/debug"])
def test_a_link_that_is_a_path_is_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    debug, kernel = tmp_path / "debug", tmp_path / "folder" / "vmlinux"
    debug.write_bytes(WITH_SYMBOLS)
    crc = zlib.crc32(WITH_SYMBOLS)
    kernel.write_bytes(elf(TEXT, link_to(name.format(tmp_path).encode(), crc)))
    with pytest.raises(P2mError, match="has no symbols"):
        Namelist(kernel)
    (tmp_path / "folder" / "debug").write_bytes(WITH_SYMBOLS)
    kernel.write_bytes(elf(TEXT, link_to(b"debug", crc)))
    assert Namelist(kernel).address("max_pfn") == 7  # a name is


def test_a_link_to_a_pipe_or_a_device_is_not_read(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinux"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "around").symlink_to("around")
    for name in (b"pipe", b"zero", b"around", b"..", b"vmlinux"):
        kernel.write_bytes(elf(TEXT, link_to(name)))
        with pytest.raises(P2mError, match="has no symbols"):
            Namelist(kernel)


def test_a_link_to_a_file_that_no_debug_file_is_as_large_as_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "vmcore").open("wb") as file:
        file.truncate(1 << 40)
    read = []
    plain = OpenFile.read_at
    monkeypatch.setattr(
        OpenFile,
        "read_at",
        lambda self, at, size: read.append(at) or plain(self, at, size),  # type: ignore[func-returns-value]
    )
    (tmp_path / "vmlinux").write_bytes(elf(TEXT, link_to(b"vmcore")))
    with pytest.raises(P2mError, match="has no symbols"):
        Namelist(tmp_path / "vmlinux")
    assert len(read) < 100


# Symbols


def test_a_name_a_million_times_is_looked_up_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    times = 1 << 18
    names = (".strtab", 3, 0, b"linux_banner\0" * times)
    path.write_bytes(elf(TEXT, (".symtab", 2, 0, bytes(24 * times)), names))
    found = VmlinuxFile(path)
    start = time.process_time()
    assert found.address("linux_banner") is None
    assert time.process_time() - start < 5
    last = symbols((13 * (times - 1), 1, 0x111), (13 * (times - 1), 1, 0x222))
    path.write_bytes(elf(TEXT, (".symtab", 2, 0, last), names))
    assert VmlinuxFile(path).address("linux_banner") == 0x111


def test_a_damaged_size_of_the_symbols_is_not_told_as_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(elf(TEXT, (".symtab", 2, 0, bytes(47)), (".strtab", 3, 0, b"\0a\0")))
    with pytest.raises(P2mError, match=r"the size of its \.symtab is damaged: 47 bytes"):
        Namelist(path)


# Several files of one build


def test_two_stripped_copies_of_a_whole_kernel_are_no_traceback(tmp_path: Path) -> None:
    notes = (".notes", 7, 2, struct.pack("<III", 4, 20, 3) + b"GNU\0" + b"\x11" * 20)
    tables = ((".symtab", 2, 0, symbols((1, 1, 7))), (".strtab", 3, 0, b"\0max_pfn\0"))
    content = {
        "vmlinux": elf(TEXT, notes, *tables, (".debug_info", 1, 0, b"x" * 32)),
        "one": elf(TEXT, notes),
        "two": elf(TEXT, notes),
    }
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    groups = group_namelists([str(tmp_path / name) for name in content])
    assert [[Path(path).name for path in one.given] for one in groups] == [
        ["one", "vmlinux"], ["two", "vmlinux"]
    ]  # fmt: skip
    assert [one.address("max_pfn") for one in groups] == [7, 7]


# Packed files


def test_a_small_file_does_not_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux.bz2"
    zeros = bz2.compress(b"\1" * (SPARE + (1 << 20)))
    path.write_bytes(bz2.compress(b"\x7fELF") + zeros)
    assert MOST_TIMES * path.stat().st_size < 1 << 20
    with pytest.raises(P2mError, match="is larger than 8 MiB when it is unpacked"):
        Namelist(path)


@pytest.mark.parametrize("between", [b"", bytes(4), bytes(64 << 10)])
def test_an_xz_of_several_streams_is_unpacked_whole(tmp_path: Path, between: bytes) -> None:
    path = tmp_path / "vmlinux.xz"
    data = elf(TEXT, ("other", 1, 0, os.urandom(100_000)))
    parts = [lzma.compress(part) for part in (b"", data[:50_000], data[50_000:], b"")]
    path.write_bytes(between.join(parts) + between)
    found = VmlinuxFile(path)
    assert found.plain.read_bytes() == data
    path.write_bytes(between.join(parts[:3])[:-100])
    with pytest.raises(P2mError, match="the file is cut off"):
        VmlinuxFile(path)


# The banner in memory


class Counting(PageMemory):
    """Memory where every page of the kernel's image has the same text; it counts what is read."""

    image = 0

    def read(self, maddr: int, size: int, what: str) -> bytes:
        if what != "kernel image":
            return super().read(maddr, size, what)
        self.image += 1
        return (b"Linux version " * 293)[:size]


def kernel_image(*pmd: int) -> Counting:
    """Return a machine whose kernel image has these entries, of 2 MiB, again and again."""
    top, second = array("Q", bytes(PAGE)), array("Q", bytes(PAGE))
    top[START_KERNEL_MAP >> 39 & 511] = 0x2063
    second[510] = second[511] = 0x3063
    third = array("Q", list(pmd) * (512 // len(pmd)))
    tables = (top, second, third)
    return Counting({number: table.tobytes() for number, table in enumerate(tables, 1)})


def test_a_page_that_is_mapped_again_is_searched_once() -> None:
    memory = kernel_image(0x200000 | 0xE3)
    assert find_banner(PageTables(memory, 0x1000), iter(range(MOST_PAGES))) is None
    assert memory.image == 512


def test_text_that_begins_as_a_banner_again_and_again_takes_linear_time() -> None:
    memory = kernel_image(*(number << 21 | 0xE3 for number in range(1, 17)))
    start = time.process_time()
    assert find_banner(PageTables(memory, 0x1000), iter(range(MOST_PAGES))) is None
    assert time.process_time() - start < 8  # by some 10 s more where each start is tried to its end
    assert memory.image == 16 * 512


def test_all_roots_have_one_budget_of_pages() -> None:
    memory = kernel_image(*(number << 21 | 0xE3 for number in range(1, 5)))
    budget = iter(range(1000))
    for _ in range(3):
        assert find_banner(PageTables(memory, 0x1000), budget) is None
    assert memory.image == 1000
