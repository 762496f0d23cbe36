# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's console ring: found, and read in order, however much was written to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.xen.console import Console, read_console
from pykdump_ext.xen.symbols import XenSymbols
from pykdump_ext.xen.vmcoreinfo import read_vmcoreinfo

from ..made_up.host import ALLOCATED, XEN_HEAP, Host
from ..made_up.machine import PAGE
from ..made_up.ring import CONRING, COUNTERS, RING_MFN, Ring
from ..made_up.strategies import times
from ..made_up.vmlinux import link

TEXTS = st.from_regex(r"[ -~]{0,70}", fullmatch=True)
LINES = st.lists(
    st.tuples(st.sampled_from(["(XEN) ", "(d1) ", "(d12v3) "]), TEXTS).map("".join),
    min_size=1, max_size=20,
)  # fmt: skip


def host_with_dom0() -> Host:
    host = Host()
    host.add(0)
    return host


def console_of(ring: Ring, symbols: Path | None = None) -> Console:
    xen = ring.host.open()
    found = symbols and XenSymbols(symbols, read_vmcoreinfo(ring.host.notes()))
    return read_console(xen, found or None)


def printed(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def left_of(text: bytes, size: int) -> list[str]:
    """Return the lines that a ring of that size has of a text: its last bytes."""
    return text[-size:].decode().removesuffix("\n").split("\n")


@settings(max_examples=times(1))
@given(
    lines=LINES,
    repeats=st.integers(1, 300),
    size=st.sampled_from([4096, 8192, 16384, 65536]),
    start=st.sampled_from([0, 2**32 - 20000]),
    swapped=st.booleans(),
    size_at=st.sampled_from([-8, -16, 8, 28]),
)
def test_all_lines_that_are_left_are_read_in_order(
    lines: list[str], repeats: int, size: int, start: int, swapped: bool, size_at: int
) -> None:
    text = printed(["(XEN) Xen version 4.17.7", *lines * repeats, "(XEN) the last"])
    counters = ("conringc", "conringp") if swapped else ("conringp", "conringc")
    ring = Ring(host_with_dom0(), size, counters=counters, size_at=size_at)
    ring.produced = ring.consumed = start if len(text) > size else 0
    ring.write(text)
    ring.plant()
    console = console_of(ring)
    assert [*console.lines] == left_of(text, size)
    assert (console.size, console.vaddr, console.wrapped) == (size, ring.vaddr, len(text) > size)
    assert "its end by its counters" in console.found
    assert ("; older lines were overwritten" in console.found) == console.wrapped


@settings(max_examples=times(0.5))
@given(lines=LINES, repeats=st.integers(1, 100))
def test_without_its_counters_a_ring_is_read_by_the_break_in_its_text(
    lines: list[str], repeats: int
) -> None:
    text = printed([*lines * repeats, "(XEN) the last"])
    ring = Ring(host_with_dom0(), 4096)
    ring.write(text)
    ring.plant(["conring", "conring_size"])
    console = console_of(ring)
    if len(text) <= 4096 or "its end by its text" in console.found:
        assert [*console.lines] == left_of(text, 4096)
    else:  # the break is where a line begins, or other lines lack their beginning
        assert "its end nowhere, so its lines are in the order of memory" in console.found
        ordered = ring.memory.decode().removesuffix("\n").split("\n")
        assert [*console.lines] == ordered


@pytest.mark.parametrize("old", [b"\xc2" * 4096, bytes(range(1, 256)) * 17, b"old text, \n" * 400])
def test_what_was_in_its_memory_before_is_not_taken_for_text(old: bytes) -> None:
    ring = Ring(host_with_dom0(), 4096, old[:4096])
    ring.write(b"(XEN) one\n(XEN) two\n")
    ring.plant()
    assert console_of(ring).lines == ("(XEN) one", "(XEN) two")


def test_lines_that_a_reader_has_cleared_are_still_there() -> None:
    ring = Ring(host_with_dom0())
    ring.write(b"(XEN) before\n")
    ring.clear()
    ring.write(b"(XEN) after\n")
    ring.plant()
    assert console_of(ring).lines == ("(XEN) before", "(XEN) after")


def test_a_line_that_is_not_complete_and_what_a_terminal_cannot_show() -> None:
    ring = Ring(host_with_dom0())
    ring.write(b"(XEN) \x1b[2J\tred\r\n(XEN) \xfe and \xc3\xa9\n(XEN) 3... 2...")
    ring.plant()
    assert console_of(ring).lines == (
        "(XEN) \\x1b[2J\tred", "(XEN) \\xfe and é", "(XEN) 3... 2...",
    )  # fmt: skip


def test_a_page_that_is_not_in_the_dump_is_a_gap() -> None:
    ring = Ring(host_with_dom0())
    ring.write(printed([f"(XEN) line {number:04}" for number in range(800)]))
    ring.plant()
    xen = ring.host.open()
    del xen.memory.pages[RING_MFN + 1]  # type: ignore[attr-defined]
    console = read_console(xen)
    assert console.found.endswith("; 1 of its 4 pages are not in the dump")
    (gap,) = [line for line in console.lines if "not in the dump" in line]
    assert gap.endswith("[4,096 bytes are not in the dump]")
    whole = [f"(XEN) line {number:04}" for number in range(800)]
    at = console.lines.index(gap)
    assert [*console.lines[:at]] == whole[:at]
    assert [*console.lines[at + 1 :]] == whole[-len(console.lines[at + 1 :]) :]


def test_a_ring_with_lines_of_guests_alone() -> None:
    ring = Ring(host_with_dom0())
    ring.write(printed(["(d3) BUG: soft lockup", "(d12v3) Call Trace:"] * 1000))
    ring.plant()
    assert console_of(ring).lines[-1] == "(d12v3) Call Trace:"


# What is not Xen's ring


def test_text_in_a_page_of_a_domain_is_not_taken_for_the_ring() -> None:
    ring = Ring(host_with_dom0())
    ring.write(b"(XEN) mine\n")
    for mfn in ring.mfns:
        ring.host.page_info(mfn, ALLOCATED | XEN_HEAP, 0, ring.host.domains[0])
    ring.plant()
    with pytest.raises(P2mError, match=r"none of Xen's variables leads to it; give Xen's xen-syms"):
        console_of(ring)


def test_a_host_without_the_ring() -> None:
    host = host_with_dom0()
    with pytest.raises(P2mError, match=r"^Xen's console ring was not found: none of"):
        read_console(host.open())


def test_xens_image_is_not_in_the_dump() -> None:
    host = host_with_dom0()
    xen = host.open()
    del xen.memory.pages[host.variables]  # type: ignore[attr-defined]
    with pytest.raises(P2mError, match=r"not found: Xen's image is not in the dump"):
        read_console(xen)


@settings(max_examples=times(0.5))
@given(st.binary(max_size=4096), st.binary(max_size=4096), st.integers(0, 2**64 - 1))
def test_any_memory_gives_lines_or_a_sentence(ring: bytes, variables: bytes, conring: int) -> None:
    host = host_with_dom0()
    made = Ring(host, old=b"(XEN) " + ring)
    made.plant()
    page = host.machine.pages[host.variables]
    page[0x800 : 0x800 + len(variables[:2048])] = variables[:2048]
    if conring % 2:
        page[CONRING % PAGE : CONRING % PAGE + 8] = conring.to_bytes(8, "little")
    try:
        assert all(line.isprintable() or "\t" in line for line in console_of(made).lines)
    except P2mError as error:
        assert str(error)


# Xen's symbols


def as_map(ring: Ring, folder: Path) -> Path:
    """Write Xen's symbols as xen/tools/symbols.c does."""
    path = folder / "xen-4.17.map"
    static = ("conring", "conring_size", "conringp", "conringc")
    lines = [
        f"{value:#x} d {'console.c#' if name in static else ''}{name}\n"
        for name, value in ring.symbols.items()
    ]
    path.write_text("".join(["0xffff82d040200000 T start\n", *sorted(lines)]))
    return path


def as_elf(ring: Ring, folder: Path) -> Path:
    """Link a file with Xen's symbols."""
    defined = [f"--defsym={name}={value:#x}" for name, value in ring.symbols.items()]
    return link(folder, "int main(void) { return 0; }", *defined)


@pytest.mark.parametrize("write", [as_map, as_elf])
@pytest.mark.parametrize("length", [100, 900, 2000])
def test_xens_symbols_lead_to_the_ring(
    write: Callable[[Ring, Path], Path], length: int, tmp_path: Path
) -> None:
    text = printed([f"(XEN) line {number}" for number in range(length)])
    ring = Ring(host_with_dom0(), size_at=0x300)  # too far away to be found without
    ring.write(text)
    ring.plant()
    console = console_of(ring, write(ring, tmp_path))
    assert [*console.lines] == left_of(text, ring.size)
    assert "was found by its symbols, its end by conringp" in console.found


def test_symbols_of_another_xen_are_refused(tmp_path: Path) -> None:
    ring = Ring(host_with_dom0())
    ring.plant()
    path = as_map(ring, tmp_path)
    path.write_text(path.read_text().replace(f"{COUNTERS - 0x600:x}", "ffff82d040101000"))
    with pytest.raises(P2mError, match=r"is not the xen-syms or the map of this dump's Xen"):
        console_of(ring, path)
    with pytest.raises(P2mError, match=r"No such file"):
        console_of(ring, tmp_path / "none")


def test_a_ring_whose_memory_is_not_in_the_dump(tmp_path: Path) -> None:
    ring = Ring(host_with_dom0())
    ring.plant()
    xen = ring.host.open()
    for mfn in ring.mfns:
        del xen.memory.pages[mfn]  # type: ignore[attr-defined]
    symbols = XenSymbols(as_map(ring, tmp_path), read_vmcoreinfo(ring.host.notes()))
    with pytest.raises(P2mError, match=rf"ring is at {ring.vaddr:x}, but its memory is not in"):
        read_console(xen, symbols)


def test_a_damaged_size_is_refused(tmp_path: Path) -> None:
    ring = Ring(host_with_dom0())
    ring.plant()
    path = as_map(ring, tmp_path)
    ring.host.machine.put(ring.host.variables, (CONRING - 8) % PAGE // 8, 12345)
    with pytest.raises(P2mError, match=r"its console ring has 12,345 bytes"):
        console_of(ring, path)
