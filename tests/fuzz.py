# SPDX-License-Identifier: GPL-3.0-or-later
"""``make fuzz``: coverage-guided fuzzing of what is read from a dump.

Each target is a process of its own, with a corpus of seeds that is made here, a
stated number of cases, and limits of time (a case) and of memory (the process).
A case that ends in anything but an answer or a P2mError, takes too long or too
much memory is a failure; it is kept in ``.fuzz``, and
``python -m tests.fuzz TARGET .fuzz/FILE`` runs it again.

A target for another reader of dumps is one more entry of TARGETS: a function of
some bytes, its seeds, and how many cases.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import gzip
import lzma
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["pykdump_ext"]):
    import drgn

    import pykdump_ext.reports.views  # noqa: F401  (what made_up/damage.py uses of it is covered)
    from pykdump_ext.drgn.prog import become_kernel
    from pykdump_ext.errors import P2mError
    from pykdump_ext.linux.namelist import group_namelists
    from pykdump_ext.linux.vmcoreinfo import native_vmcoreinfo
    from pykdump_ext.machine.compression import LZO, SNAPPY, ZLIB, ZSTD
    from pykdump_ext.machine.dumps import open_dump
    from pykdump_ext.machine.elf import ElfCore
    from pykdump_ext.opened import OpenedDump
    from pykdump_ext.p2m.diagnosis import Diagnosis, diagnose
    from pykdump_ext.rewrite.copies import rewrite_dump
    from pykdump_ext.xen.notes import (
        XEN_ELFNOTE_CRASH_INFO,
        XEN_ELFNOTE_CRASH_REGS,
        read_crash_note,
    )

from .lab.kdump import PAGE, RAW, flattened, kdump
from .unit.linux.test_vmcoreinfo import TEXT, kernel
from .unit.made_up.core import PT_NOTE, Segment, core_bytes, note
from .unit.made_up.damage import (
    FORMATS,
    KINDS_OF_GUESTS,
    PARTS,
    STROKE,
    Target,
    file_of,
    frames_of,
    look_at_everything,
    look_at_file,
    small_guest,
    struck,
)
from .unit.made_up.damage_xen import XEN_PARTS, edited, look_at_host
from .unit.made_up.dump import MadeUpNamelist
from .unit.made_up.machine import LAYOUTS
from .unit.made_up.vmlinux import kernel_files

KEPT = Path(".fuzz")
SECONDS_A_CASE = 10
MEBIBYTES = 1024


@cache
def _file() -> tuple[int, str]:
    handle = os.memfd_create("fuzz")
    return handle, f"/proc/self/fd/{handle}"


def dump_of(content: bytes) -> str:
    """Return the path of a file in memory that has this content now."""
    handle, path = _file()
    os.truncate(handle, 0)
    os.pwrite(handle, content, 0)
    return path


def fuzz_files(data: bytes) -> None:
    """Any bytes at all are a dump file."""
    with contextlib.suppress(P2mError):
        dump = open_dump([dump_of(data)])
        with contextlib.suppress(P2mError):
            read_crash_note(dump.notes)
        for maddr in (0, 8, 0x1000, 0x2000, 0x100000, 1 << 32, 1 << 44):
            with contextlib.suppress(P2mError):
                assert len(dump.read(maddr, 8, "word")) == 8


def fuzz_notes(data: bytes) -> None:
    """Any bytes at all are the notes of a dump."""
    core = core_bytes([Segment(0, data, PT_NOTE), Segment(0x1000, bytes(16))])
    found = open_dump([dump_of(core)]).notes
    assert sum(12 + len(n.data) for n in found) <= len(data)
    with contextlib.suppress(P2mError):
        read_crash_note(found)


@cache
def target(layout: str, part: str, early: int) -> tuple[Target, Diagnosis]:
    """Return a guest to be damaged in one of its parts, and what is right for it."""
    guest, planted = small_guest(layout, early, 700 if early == 0 else 12)
    sound = diagnose(guest.machine.memory(), guest.symbols, guest.banner, guest.hints())
    return Target.of(guest, frames_of(guest, planted, part)), sound


def fuzz_lists(data: bytes) -> None:
    """Whatever has become of the list, the rebuilt one is as if it were whole."""
    layout, early = LAYOUTS[data[0] % 4], data[0] // 4 % 7
    damaged, sound = target(layout, "list", early)
    guest = damaged.guest
    found = diagnose(damaged.damaged(data[1:]), guest.symbols, guest.banner, guest.hints())
    assert found.rebuilt == sound.rebuilt
    assert found.check == sound.check
    assert found.coverage.kinds == sound.coverage.kinds
    assert not found.coverage.kept


def fuzz_tables(data: bytes) -> None:
    """Whatever has become of page tables, leaves, variables: every view, or a sentence."""
    kind, part, early = KINDS_OF_GUESTS[data[0] % 5], PARTS[data[0] // 5 % 6], data[0] // 30 % 7
    damaged, _ = target(kind, part, early)
    look_at_everything(damaged.guest, damaged.damaged(data[1:]))


def fuzz_views(data: bytes) -> None:
    """Whatever has become of the file of a dump: every view of it, or a sentence."""
    kind, form, early = KINDS_OF_GUESTS[data[0] % 5], FORMATS[data[0] // 5 % 3], data[0] // 15 % 7
    guest, content, head = file_of(kind, early, form)
    look_at_file(guest, dump_of(struck(content, data[1:], head)))


@cache
def plains() -> tuple[bytes, bytes]:
    """Return a small dump in each format."""
    return next(seeds_of_files()), next(seeds_of_packed())


def fuzz_records(data: bytes) -> None:
    """Records of any offset and size, many of them again and again, are a flattened dump.

    The first byte chooses the dump whose bytes they have.
    """
    plain = plains()[data[0] % 2]
    step = len(plain) // 3
    parts = [(at, plain[at : at + step]) for at in range(0, len(plain), step)]
    for what, size, place, value in STROKE.iter_unpack(data[1 : 1 + (len(data) - 1) // 8 * 8]):
        at = place % len(plain)
        part = (plain[at:] + plain)[: size * 16] or b"x"
        offset = (at, value, value << 30, (1 << 63) - 1 - len(part), 0)[what % 5]
        parts.insert(len(parts) if what % 2 else value % (len(parts) + 1), (offset, part))
    content = flattened(b"")[:PAGE] + b"".join(
        struct.pack(">qq", offset, len(part)) + part for offset, part in parts
    )
    fuzz_files(content + struct.pack(">qq", -1, -1))


def fuzz_xen(data: bytes) -> None:
    """Whatever has become of Xen's memory and of its vmcoreinfo: all that is told of a host."""
    edits = 1 + data[0] // 6 % 4 * STROKE.size
    look_at_host(XEN_PARTS[data[0] % 6], data[edits:], data[1:edits])


def fuzz_rewrite(data: bytes) -> None:
    """Whatever has become of a file's headers: a copy whose list reads back, or a sentence."""
    kind, early = KINDS_OF_GUESTS[data[0] % 5], data[0] // 5 % 7
    guest, content, head = file_of(kind, early, "elf")
    path = dump_of(struck(content, data[1:], head))
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(P2mError, OSError):
        core = ElfCore(path)
        found = OpenedDump(core, [MadeUpNamelist.of(guest)], [path]).diagnosis
        if not found.healthy and found.check.passed:
            rewrite_dump(core, found, Path(folder) / "out")


def fuzz_vmcoreinfo(data: bytes) -> None:
    """Whatever has become of a kernel's vmcoreinfo: a drgn program, or a sentence."""
    text = edited(TEXT.encode(), data[2:])
    size = data[0] * 256 + data[-1] if data[0] % 8 == 7 else len(text)
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    with contextlib.suppress(P2mError):
        become_kernel(prog, native_vmcoreinfo(kernel(text, size), 0x5C0A000, 1))


PACKS = (bytes, gzip.compress, bz2.compress, lzma.compress)


def fuzz_namelists(data: bytes) -> None:
    """Whatever has become of a kernel's files, packed or not: their banner, or a sentence."""
    count, first, pack, packed_too = (
        data[0] // n % m for n, m in ((1, 3), (3, 4), (12, 4), (48, 2))
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"file{number}" for number in range(count + 1)]
        for number, path in enumerate(paths):
            strokes = data[1 + number * 4 * STROKE.size :][: 4 * STROKE.size]
            content = struck(kernel_files()[(first + number) % 4], strokes, 64)
            content = PACKS[pack](content)
            path.write_bytes(struck(content, strokes * packed_too, len(content)))
        with contextlib.suppress(P2mError):
            for found in group_namelists([str(path) for path in paths]):
                assert found.address("no_such_symbol") is None
                assert found.refused != ""
                assert found.files
                assert len(found.banner()) <= 512


def seeds_of_files() -> Iterator[bytes]:
    """Yield a dump in each format."""
    notes = next(seeds_of_notes())
    segments = [Segment(0, notes, PT_NOTE), Segment(0x1000, b"A" * 64), Segment(0x2000, b"B" * 64)]
    yield core_bytes(segments)
    yield flattened(core_bytes(segments))


def seeds_of_packed() -> Iterator[bytes]:
    """Yield kdump-compressed dumps, packed in each way, and flattened."""
    notes = next(seeds_of_notes())
    pages = {frame: bytes([frame]) * PAGE for frame in (0, 1, 9)}
    for method in (RAW, ZLIB, LZO, SNAPPY, ZSTD):
        packed = kdump(pages, (2, 8), method, notes=notes)
        yield packed
    yield flattened(packed, 8192)


def seeds_of_notes() -> Iterator[bytes]:
    """Yield the notes of a Xen host, and some that are not."""
    registers = note(b"Xen", XEN_ELFNOTE_CRASH_REGS, bytes(32))
    info = note(b"Xen", XEN_ELFNOTE_CRASH_INFO, bytes(80))
    yield note(b"CORE", 1, bytes(336)) + registers * 2 + info + note(b"VMCOREINFO", 0, b"A=1\n")
    yield info
    yield note(b"Xen", XEN_ELFNOTE_CRASH_INFO, bytes(16))


def seeds_of_damage() -> Iterator[bytes]:
    """Yield a few strokes of each kind for each guest."""
    random = Random(1)
    for number in range(210):
        yield bytes([number]) + random.randbytes(STROKE.size * (number % 5))


@dataclass(frozen=True)
class Fuzz:
    """A target: what is done with a case, the cases to begin with, and how many."""

    case: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    runs: int
    longest: int = 8192  # bytes of a case


TARGETS = {
    "files": Fuzz(fuzz_files, seeds_of_files, 100_000),
    "packed": Fuzz(fuzz_files, seeds_of_packed, 50_000, 65536),
    "notes": Fuzz(fuzz_notes, seeds_of_notes, 200_000),
    "records": Fuzz(fuzz_records, seeds_of_damage, 50_000, 512),
    "xen": Fuzz(fuzz_xen, seeds_of_damage, 5_000, 512),
    "rewrite": Fuzz(fuzz_rewrite, seeds_of_damage, 10_000, 256),
    "vmcoreinfo": Fuzz(fuzz_vmcoreinfo, seeds_of_damage, 50_000, 512),
    "namelists": Fuzz(fuzz_namelists, seeds_of_damage, 20_000, 128),
    "lists": Fuzz(fuzz_lists, seeds_of_damage, 20_000),
    "tables": Fuzz(fuzz_tables, seeds_of_damage, 20_000),
    "views": Fuzz(fuzz_views, seeds_of_damage, 10_000),
}


def become(name: str, arguments: list[str]) -> None:
    """Let this process be libFuzzer on one target; it does not return."""
    case = TARGETS[name].case
    atheris.Setup([name, *arguments], lambda data: case(data or b"\0"))
    atheris.Fuzz()


def run(name: str, seed: int, times: float) -> tuple[int, str]:
    """Run one target in a process of its own; return its exit status and a line about it."""
    runs = int(TARGETS[name].runs * times)
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(TARGETS[name].seeds()):
            (Path(corpus) / f"seed-{number:03}").write_bytes(data)
        done = subprocess.run(
            [
                sys.executable, "-m", "tests.fuzz", name, corpus,
                f"-runs={runs}", f"-seed={seed}", f"-timeout={SECONDS_A_CASE}",
                f"-rss_limit_mb={MEBIBYTES}", "-print_final_stats=1",
                f"-max_len={TARGETS[name].longest}",
                f"-artifact_prefix={KEPT}/{name}-",
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    text = done.stdout.decode(errors="replace")
    stats = {k: int(v) for k, v in re.findall(r"stat::(\w+): +(\d+)", text)}
    covered = re.findall(r" cov: (\d+)", text) or ["0"]
    cases = stats.get("number_of_executed_units", 0)
    status = done.returncode or int(cases < runs)
    if status:
        print(text[-6000:])
    return status, (
        f"{name:<10} {cases:>9,} cases, seed {seed}, {covered[-1]} points of the code reached,"
        f" {stats.get('peak_rss_mb', 0)} MiB, slowest {stats.get('slowest_unit_time_sec', 0)} s:"
        f" {'FAILED, exit status ' + str(status) if status else 'passed'}"
    )


def main() -> None:
    """Run all targets, or those that are named."""
    if len(sys.argv) > 2 and sys.argv[1] in TARGETS and Path(sys.argv[2]).exists():
        become(sys.argv[1], sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seed", type=int, default=1, help="where chance begins (1)")
    parser.add_argument("--times", type=float, default=1, help="so many times the cases (1)")
    args = parser.parse_args()
    KEPT.mkdir(exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        names = args.targets or list(TARGETS)
        results = list(pool.map(lambda name: run(name, args.seed, args.times), names))
    print("\n".join(line for _, line in results))
    sys.exit(any(status for status, _ in results))


if __name__ == "__main__":
    main()
