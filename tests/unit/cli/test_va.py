# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix va``: what it takes for an address, and what it says of each page-table entry."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pykdump_ext.cli.p2mfix import main
from pykdump_ext.machine.paging import LEVEL_NAMES
from pykdump_ext.p2m.entries import Kind

from ..made_up.copies import segments_of
from ..made_up.core import core_bytes
from ..made_up.guest import Guest
from ..made_up.machine import DIRECT_MAP, GLOBAL_PAT, NO_EXECUTE, PAGE, PMD, PTE
from ..made_up.p2m import P2m
from ..made_up.talkative import talkative
from ..made_up.vmlinux import vmlinux_of

P2M = P2m(512, {0: [(Kind.MEMORY, 0x5000 + i) for i in range(512)]}, frozenset())
AREAS = [DIRECT_MAP + pfn * PAGE for pfn in (0x10, 0x20)]  # where each cpu has its variables

Asked = Callable[..., str]


@pytest.fixture(params=["before 6.15", "since 6.15"])
def guest(request: pytest.FixtureRequest) -> Guest:
    """A kernel of two cpus with a per-cpu variable, whose symbol is the very first."""
    made = talkative(P2M)
    start = 0 if request.param == "before 6.15" else 0xFFFFFFFF82600000
    made.symbols |= {
        "__per_cpu_start": start,
        "first": start,
        "rq": start + 0x120,
        "__per_cpu_end": start + 0x1000,
    }
    made.variable("nr_cpu_ids", 2 | 0xFF << 32)  # an int, with something else behind it
    made.place("__per_cpu_offset", struct.pack("<2Q", *((at - start) % 2**64 for at in AREAS)))
    return made


@pytest.fixture
def files(guest: Guest, tmp_path: Path) -> list[Path]:
    (tmp_path / "vmcore").write_bytes(core_bytes(segments_of(guest)))
    return [tmp_path / "vmcore", vmlinux_of(guest, tmp_path)]


@pytest.fixture
def asked(files: list[Path], capsys: pytest.CaptureFixture[str]) -> Asked:
    """Return a function that runs ``p2mfix va``, and returns its output or its one error."""

    def run(address: str, *words: str) -> str:
        try:
            main(["va", address, *words, *map(str, files)])
        except SystemExit:
            said = capsys.readouterr().err
            assert said.startswith("p2mfix: ") and said.count("\n") == 1, said
            return said.removeprefix("p2mfix: ").rstrip("\n")
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("first:0", AREAS[0]),
        ("rq:0", AREAS[0] + 0x120),
        ("rq:1", AREAS[1] + 0x120),
        ("rq:1+0x1f", AREAS[1] + 0x13F),
        (f"{DIRECT_MAP:x}+10", DIRECT_MAP + 0x10),
    ],
)
def test_a_symbol_may_have_a_cpu_and_an_offset(asked: Asked, address: str, where: int) -> None:
    assert asked(address) == asked(f"{where:x}")
    assert json.loads(asked(address, "--json"))["address"] == hex(where)
    assert f"(mfn {0x5000 + where // PAGE % 512:x})" in asked(address)


def test_an_offset_is_hexadecimal_and_counts_from_the_symbol(guest: Guest, asked: Asked) -> None:
    where = guest.symbols["max_pfn"]
    assert asked("max_pfn+10") == asked(f"{where + 16:x}")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("rq", "rq: each cpu has its own: add the number of one, as in rq:0"),
        ("rq+10", "rq: each cpu has its own: add the number of one, as in rq:0"),
        ("first", "first: each cpu has its own: add the number of one, as in first:0"),
        ("rq:2", "cpu 2: the kernel's last one is 1"),
        ("max_pfn:0", "max_pfn: not a per-cpu symbol, so no cpu has its own: leave out :0"),
        ("10:0", "10: not a per-cpu symbol, so no cpu has its own: leave out :0"),
        ("rq:1+x", "rq:1+x: neither a hexadecimal address nor a symbol of the kernel"),
        ("nosuch+8", "nosuch: neither a hexadecimal address nor a symbol of the kernel"),
        ("+8", "+8: neither a hexadecimal address nor a symbol of the kernel"),
        (
            "ffffffffffffffff+1",
            "ffffffffffffffff+1: not canonical: in an address of x86-64 bits 47 to 63 are equal",
        ),
    ],
)
def test_what_is_no_address_is_a_sentence(asked: Asked, address: str, said: str) -> None:
    assert asked(address) == said


@pytest.mark.parametrize(
    ("level", "extra", "flags"),
    [
        (PTE, 0, "PRESENT|RW|ACCESSED|DIRTY"),
        (PTE, 0x4 | 1 << 52 | NO_EXECUTE, "PRESENT|RW|USER|ACCESSED|DIRTY|GUEST_KERNEL|NX"),
        (PTE, 0x80 | GLOBAL_PAT | 0x18, "PRESENT|RW|PWT|PCD|ACCESSED|DIRTY|PAT|GLOBAL"),
        (PTE, 7 << 9 | 1 << 53, "PRESENT|RW|ACCESSED|DIRTY|SOFTW1|SOFTW2|SOFTW3|BIT53"),
        (PMD, 1 << 12, "PRESENT|RW|ACCESSED|DIRTY|PSE|PAT"),
    ],
)
def test_the_flags_of_an_entry_have_names(
    guest: Guest, files: list[Path], asked: Asked, level: int, extra: int, flags: str
) -> None:
    vaddr = DIRECT_MAP + (8 << 30)
    guest.space.map(vaddr, 0x8000, level=level, extra=extra)
    files[0].write_bytes(core_bytes(segments_of(guest)))
    (line,) = (n for n in asked(f"{vaddr:x}").splitlines() if n[2:5] == LEVEL_NAMES[level])
    assert line.endswith(f" ({flags})" + (", a page of 2 MiB" if level == PMD else ""))
    step = json.loads(asked(f"{vaddr:x}", "--json"))["steps"][level]
    assert step["flags"] == flags.split("|")
    assert "(" not in asked("ffffffffffe00000").splitlines()[-1]
