# SPDX-License-Identifier: GPL-3.0-or-later
"""A namelist: symbols as nm has them, and the banner, of files that the linker makes."""

from __future__ import annotations

import contextlib
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.linux.banners import LONGEST_BANNER
from pykdump_ext.linux.namelist import Namelist, Relocated

from ..made_up.strategies import times
from ..made_up.vmlinux import link

BANNER = "Linux version 5.4.17-test (builder@example) #1 SMP"
SOURCE = f"""
const char linux_banner[] = "{BANNER}\\n";
unsigned long xen_p2m_addr = 0xffffc90000000000;
unsigned long p2m_addr = 2;
unsigned long long_name_max_pfn = 3;
unsigned long max_pfn = 4;
static unsigned long end_pfn __attribute__((used)) = 5;
unsigned long in_bss[64];
extern unsigned long elsewhere __attribute__((weak));
extern unsigned long only_wanted __attribute__((weak));
unsigned long *pointer = &elsewhere;
int main(void) {{ return pointer == &only_wanted; }}
"""


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link(tmp_path_factory.mktemp("kernel"), SOURCE)


def nm(path: Path) -> dict[str, int]:
    """Return the defined symbols of a file, as nm tells them."""
    told = subprocess.run(["nm", "--defined-only", path], stdout=subprocess.PIPE, check=True)
    lines = [line.split() for line in told.stdout.decode().splitlines()]
    return {name: int(value, 16) for value, _, name in lines}


def test_each_symbol_has_the_address_that_nm_tells(vmlinux: Path) -> None:
    namelist = Namelist(vmlinux)
    symbols = nm(vmlinux)
    assert {"linux_banner", "max_pfn", "end_pfn", "in_bss", "main"} <= set(symbols)
    assert {name: namelist.address(name) for name in symbols} == symbols
    assert symbols["main"] >= 0xFFFFFFFF81000000


@pytest.mark.parametrize(
    ("tail", "longer"), [("p2m_addr", "xen_p2m_addr"), ("max_pfn", "long_name_max_pfn")]
)
def test_a_name_that_is_the_tail_of_another_is_found(vmlinux: Path, tail: str, longer: str) -> None:
    content = vmlinux.read_bytes()
    assert content.count(tail.encode() + b"\0") == 1  # the linker did merge them
    symbols = nm(vmlinux)
    assert symbols[tail] != symbols[longer]
    assert Namelist(vmlinux).address(tail) == symbols[tail]
    assert Namelist(vmlinux).address(longer) == symbols[longer]


@pytest.mark.parametrize("name", ["pfn", "addr", "max_pf", "linux_bann", "no_such_symbol", "er"])
def test_a_name_that_no_symbol_has_is_absent(vmlinux: Path, name: str) -> None:
    assert Namelist(vmlinux).address(name) is None


def test_a_symbol_that_is_only_wanted_is_absent(vmlinux: Path) -> None:
    unlinked = vmlinux.parent / "kernel.o"
    assert b"\0elsewhere\0" in unlinked.read_bytes()
    assert Namelist(unlinked).address("elsewhere") is None
    assert Namelist(unlinked).address("only_wanted") is None
    assert Namelist(unlinked).address("max_pfn") == nm(unlinked)["max_pfn"]


@pytest.mark.parametrize("section", [".symtab", ".strtab"])
@pytest.mark.parametrize("offset", [2**63, 2**64 - 1])
def test_symbols_outside_the_file_are_told(vmlinux: Path, section: str, offset: int) -> None:
    content = bytearray(vmlinux.read_bytes())
    struct.pack_into("<Q", content, section_header(content, section) + 24, offset)
    file = vmlinux.parent / "outside"
    file.write_bytes(content)
    with pytest.raises(P2mError):
        Namelist(file).banner()


@pytest.mark.parametrize("section", [".symtab", ".strtab"])
def test_symbols_of_a_size_that_no_file_has_are_told(vmlinux: Path, section: str) -> None:
    content = bytearray(vmlinux.read_bytes())
    struct.pack_into("<Q", content, section_header(content, section) + 32, 24 * 2**57)
    file = vmlinux.parent / "oversized"
    file.write_bytes(content)
    with contextlib.suppress(P2mError):
        Namelist(file).banner()


def test_a_symbol_that_is_cut_off_is_none(vmlinux: Path) -> None:
    content = bytearray(vmlinux.read_bytes())
    content += bytes(-len(content) % 8) + name_offset(vmlinux, "max_pfn")
    struct.pack_into("<Q", content, section_header(content, ".symtab") + 24, len(content) - 4)
    file = vmlinux.parent / "cut"
    file.write_bytes(content)
    with contextlib.suppress(P2mError):
        assert Namelist(file).address("max_pfn") is None


def with_symbols(vmlinux: Path, names: bytes, *symbols: tuple[int, int, int]) -> Namelist:
    """Return a namelist whose symbols have these (name's offset, section, value)."""
    content = bytearray(vmlinux.read_bytes())
    table = b"".join(struct.pack("<IBBHQQ", *(s[0], 0, 0, s[1], s[2], 0)) for s in symbols)
    for section, data in ((".symtab", table), (".strtab", names)):
        header = section_header(content, section)
        struct.pack_into("<QQ", content, header + 24, len(content), len(data))
        content += data
    file = vmlinux.parent / "by-hand"
    file.write_bytes(content)
    return Namelist(file)


def test_a_name_that_also_ends_another_string_is_found_where_a_symbol_has_it(
    vmlinux: Path,
) -> None:
    names = b"\0long_max_pfn\0max_pfn\0"
    namelist = with_symbols(vmlinux, names, (1, 1, 0x111), (14, 1, 0x222))
    assert namelist.address("max_pfn") == 0x222
    assert namelist.address("long_max_pfn") == 0x111


def test_a_value_that_looks_like_a_name_is_no_symbol(vmlinux: Path) -> None:
    names = b"\0other\0max_pfn\0"
    namelist = with_symbols(vmlinux, names, (1, 1, 7), (1, 1, 7 << 32), (7, 1, 0x222))
    assert namelist.address("max_pfn") == 0x222


def test_two_names_side_by_side_are_not_read_as_a_third(vmlinux: Path) -> None:
    names = b"\0other\0max_pfn\0".ljust(0x800, b"x") + b"\0"
    symbols = [(0x700, 1, 0x111), (0x100, 1, 0x333), (7, 1, 0x222)]  # 00 07 00 00 00 01 00 00
    assert with_symbols(vmlinux, names, *symbols).address("max_pfn") == 0x222


def test_a_symbol_that_is_wanted_in_one_place_and_defined_in_another_is_found(
    vmlinux: Path,
) -> None:
    namelist = with_symbols(vmlinux, b"\0max_pfn\0", (1, 0, 0), (1, 3, 0x222))
    assert namelist.address("max_pfn") == 0x222


def section_header(content: bytearray, name: str) -> int:
    """Return where in the file the header of section ``name`` is."""
    table, count = (
        struct.unpack_from("<Q", content, 40)[0],
        struct.unpack_from("<H", content, 60)[0],
    )
    names = table + 64 * int(struct.unpack_from("<H", content, 62)[0])
    start = struct.unpack_from("<Q", content, names + 24)[0]
    for header in range(table, table + 64 * count, 64):
        at = start + struct.unpack_from("<I", content, header)[0]
        if content[at:].startswith(name.encode() + b"\0"):
            return int(header)
    raise LookupError(name)


def name_offset(path: Path, name: str) -> bytes:
    """Return what a symbol has in its first field when it is called ``name``."""
    content = bytearray(path.read_bytes())
    start = struct.unpack_from("<Q", content, section_header(content, ".strtab") + 24)[0]
    return struct.pack("<I", content.index(name.encode() + b"\0", start) - start)


def test_the_banner_is_read_without_its_final_zero(vmlinux: Path) -> None:
    assert Namelist(vmlinux).banner() == BANNER.encode() + b"\n"


def test_initialised_data_is_read_by_address(vmlinux: Path) -> None:
    namelist = Namelist(vmlinux)
    value = namelist.read(nm(vmlinux)["xen_p2m_addr"], 8)
    assert struct.unpack("<Q", value) == (0xFFFFC90000000000,)
    assert namelist.read(nm(vmlinux)["linux_banner"] + 6, 7) == b"version"


@pytest.mark.parametrize("vaddr", [0, 0xFFFFFFFF80000000, 2**64 - 8])
def test_an_address_without_data_is_told(vmlinux: Path, vaddr: int) -> None:
    with pytest.raises(P2mError, match=f"vmlinux: has no data for address {vaddr:x}"):
        Namelist(vmlinux).read(vaddr, 8)


def test_data_that_is_zero_at_the_start_is_not_in_the_file(vmlinux: Path) -> None:
    vaddr = nm(vmlinux)["in_bss"] + 256
    with pytest.raises(P2mError, match=f"has no data for address {vaddr:x}"):
        Namelist(vmlinux).read(vaddr, 8)


def test_a_long_banner_is_read_up_to_its_limit(tmp_path: Path) -> None:
    source = SOURCE.replace("#1 SMP", "x" * 1000)
    banner = Namelist(link(tmp_path, source)).banner()
    assert banner == (BANNER.replace("#1 SMP", "") + "x" * 1000).encode()[:LONGEST_BANNER]


def test_a_banner_of_something_else_is_no_kernels(tmp_path: Path) -> None:
    program = link(tmp_path, SOURCE.replace("Linux version", "Other version"))
    with pytest.raises(P2mError, match=f"{program}: not a Linux kernel"):
        Namelist(program).banner()


def test_a_program_without_a_banner_is_no_kernel(tmp_path: Path) -> None:
    program = link(tmp_path, SOURCE.replace("linux_banner", "solaris_banner"))
    with pytest.raises(P2mError, match=f"{program}: not a Linux kernel"):
        Namelist(program).banner()


def test_a_stripped_kernel_is_told(tmp_path: Path) -> None:
    program = link(tmp_path, SOURCE, "--strip-all")
    with pytest.raises(P2mError, match=f"{program}: has no symbols"):
        Namelist(program)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b"#!/bin/sh\n", "not a readable ELF file"), (b"\x7fELF\2\1\1", "readable")],
)
def test_what_is_no_namelist_is_told_by_name(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "vmlinux"
    file.write_bytes(content)
    with pytest.raises(P2mError) as caught:
        Namelist(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert says in str(caught.value)


def test_a_namelist_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(P2mError, match="vmlinux: No such file or directory"):
        Namelist(tmp_path / "vmlinux")


@settings(max_examples=times(6))
@given(st.data())
def test_a_damaged_namelist_is_read_or_refused_with_a_sentence(
    vmlinux: Path, data: st.DataObject
) -> None:
    content = bytearray(vmlinux.read_bytes())
    sections = struct.unpack_from("<Q", content, 40)[0]
    places = st.one_of(
        st.integers(0, 63),  # the file's header
        st.integers(64, 64 + 4 * 56 - 1),  # program headers
        st.integers(sections, len(content) - 1),  # section headers
        st.integers(0, len(content) - 1),
    )
    for at, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        content[at] = value
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    file = vmlinux.parent / "damaged"
    file.write_bytes(content[:cut])
    with contextlib.suppress(P2mError):
        namelist = Namelist(file)
        for name in ("max_pfn", "elsewhere", "no_such_symbol"):
            address = namelist.address(name)
            assert address is None or 0 <= address < 2**64
        namelist.banner()


@pytest.mark.parametrize("by", [16 << 20, -(16 << 20), (16 << 20) - (1 << 64)])
def test_relocation_moves_the_kernels_addresses_and_not_those_that_are_offsets(by: int) -> None:
    class Made:
        path = Path("vmlinux")

        def banner(self) -> bytes:
            return b"Linux version 6.1.0"

        def address(self, name: str) -> int | None:
            return {"max_pfn": 0xFFFFFFFF82000000, "current_task": 0x1FB80}.get(name)

    symbols = Relocated(Made(), by)
    assert symbols.address("max_pfn") == (0xFFFFFFFF82000000 + by) % (1 << 64)
    assert symbols.address("current_task") == 0x1FB80
    assert symbols.address("nosuch") is None
