# SPDX-License-Identifier: GPL-3.0-or-later
"""``make bench``: what a repaired start costs, and what the rebuild does.

Times are of whole processes, taken in turn (A B A B ...) after one warm-up, so
that a drift of the machine's speed meets both.  Memory is the peak of the
process.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

from pykdump_ext.linux.namelist import Namelist
from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.opened import OpenedDump
from pykdump_ext.p2m.diagnosis import diagnose

from ..lab.broken import copy_of, truncate_list, truncated
from ..lab.dump import Dump
from ..lab.huge import grow
from ..lab.matrix import MAIN
from ..lab.matrix import untouched as untouched_of

P2MFIX = Path(sys.executable).with_name("p2mfix")

READS = """
import collections, crash, itertools, sys, time, timeit
from crash_host import ffi, lib

CALLS, RUNS = 20_000, int(sys.argv[1])
init, tasks = crash.sym2addr("init_task"), crash.offsetof("task_struct", "tasks")
entries = list(crash.read_list(init + tasks))
addresses = list(itertools.islice(itertools.cycle(entries), CALLS))
words, done = ffi.new("uint64_t[]", addresses), ffi.new("long *")
buffer = ffi.new("char[]", CALLS * 8)

def drain(iterator):
    collections.deque(iterator, maxlen=0)

def in_c():
    assert not lib.host_read_many(words, CALLS, crash.KVADDR, 0, buffer, 8, b"bench", done)

def each(function, *more):
    def call():
        for address in addresses:
            function(address, *more)
    return call

def again(function, *words):
    def call():
        for _ in range(CALLS):
            function(*words)
    return call

def lists():
    for _ in range(CALLS // len(entries)):
        drain(crash.read_list(init + tasks))

for name, call in {
    "crash's own part of a read of 8 bytes": in_c,
    "readmem of 8 bytes": each(crash.readmem, 8),
    "readmem of 4,096 bytes": each(crash.readmem, 4096),
    "readPtr": each(crash.readPtr),
    "readmem_many of 8 bytes, each": lambda: drain(crash.readmem_many(addresses, 8)),
    "read_list, each entry": lists,
    "kvtop": each(crash.kvtop),
    "addr2sym": again(crash.addr2sym, init),
    "sym2addr, again": again(crash.sym2addr, "linux_banner"),
    "offsetof, again": again(crash.offsetof, "task_struct", "tasks"),
}.items():
    times = timeit.repeat(call, timer=time.process_time, number=1, repeat=RUNS + 1)
    print(f"{name}:", *(seconds / CALLS * 1e6 for seconds in times[1:]))
"""


def run(words: Sequence[str | Path], home: str) -> tuple[float, float]:
    """Run a command to its end; return its wall time (s) and peak memory (MiB)."""
    with tempfile.TemporaryFile() as commands:
        commands.write(b"quit\n")
        commands.seek(0)
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in words], stdin=commands,
            stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, env={**os.environ, "HOME": home},
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{words[0]}: exit status {process.returncode}")
    return seconds, usage.ru_maxrss / 1024


def show(what: str, values: Sequence[float], unit: str) -> None:
    """Print minimum, median and maximum of a figure."""
    print(
        f"{what:<44} {min(values):9.3f} {statistics.median(values):9.3f} {max(values):9.3f} {unit}"
    )


def starts(whole: Dump, broken: Dump, runs: int) -> None:
    """Time plain crash on a whole dump against p2mfix on the broken one."""
    plain: list[str | Path] = ["crash", whole.vmlinux, whole.vmcore]
    repaired: list[str | Path] = [P2MFIX, broken.vmlinux, broken.vmcore]
    times: dict[str, list[float]] = {"plain": [], "repaired": []}
    peaks: dict[str, list[float]] = {"plain": [], "repaired": []}
    with tempfile.TemporaryDirectory() as home:
        for number in range(runs + 1):
            for name, words in (("plain", plain), ("repaired", repaired)):
                seconds, peak = run(words, home)
                if number:  # the first is the warm-up
                    times[name].append(seconds)
                    peaks[name].append(peak)
    ratios = [b / a for a, b in zip(times["plain"], times["repaired"])]
    show("start, plain crash, whole list", times["plain"], "s")
    show("start, p2mfix, truncated list", times["repaired"], "s")
    show("  the second over the first", ratios, "")
    show("peak memory, plain crash", peaks["plain"], "MiB")
    show("peak memory, p2mfix", peaks["repaired"], "MiB")


def rebuild(broken: Dump, runs: int) -> None:
    """Time the rebuild, from proving the root to the check, outside crash."""
    namelist = Namelist(broken.vmlinux)
    banner = namelist.banner()
    core = ElfCore(broken.vmcore)
    info = OpenedDump(core).hints
    found = [diagnose(core, namelist, banner, info) for _ in range(runs + 1)]
    tracemalloc.start()
    diagnose(core, namelist, banner, info)
    peak = tracemalloc.get_traced_memory()[1] / (1 << 20)
    tracemalloc.stop()
    show("rebuild", [f.seconds * 1000 for f in found[1:]], "ms")
    show("memory of the rebuild", [peak], "MiB")


def commands(broken: Dump, runs: int) -> None:
    """Time each command of ``p2mfix`` that needs no crash."""
    with tempfile.TemporaryDirectory() as home:
        out = Path(home) / "out"
        files: list[str | Path] = [broken.vmcore, broken.vmlinux]
        words: dict[str, list[str | Path]] = {
            "diagnose": ["diagnose", *files],
            "diagnose, no vmlinux": ["diagnose", broken.vmcore],
            "diagnose --html": ["diagnose", *files, "--html", out],
            "map": ["map", *files],
            "map --svg": ["map", *files, "--svg", out],
            "rewrite": ["rewrite", broken.vmcore, out],
            "drgn, panic task's stack": [
                "drgn", broken.vmlinux, broken.vmcore,
                "-e", "print(prog.crashed_thread().stack_trace())",
            ],
            "domains": ["domains", broken.vmcore],
        }  # fmt: skip
        for name, command in words.items():
            ran = []
            for _ in range(runs + 1):
                out.unlink(missing_ok=True)
                ran.append(run([P2MFIX, *command], home))
            show(f"p2mfix {name}", [seconds for seconds, _ in ran[1:]], "s")
            show("  peak memory", [peak for _, peak in ran[1:]], "MiB")


def reads(whole: Dump, runs: int) -> None:
    """Take the CPU time of what an extension asks crash for, without fast reads and with them."""
    shown = subprocess.run(
        [P2MFIX.with_name("pykdump-ext"), "host"], stdout=subprocess.PIPE, text=True, check=True,
        cwd="/",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as home:
        script = Path(home) / "reads.py"
        script.write_text(READS)
        for how, program, first in (
            ("plain crash", "crash", f"extend {shown.stdout.strip()}\n"),
            ("p2mfix", P2MFIX, ""),
        ):
            ran = subprocess.run(
                [program, whole.vmlinux, whole.vmcore, "-s"],
                input=f"{first}py {script} {runs}\nquit\n", text=True, check=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "HOME": home},
            )  # fmt: skip
            print(f"\nPython in {how}")
            for name, times in re.findall(r"(?m)^(.+): ([\d. ]+)$", ran.stdout):
                show(name, [float(word) for word in times.split()], "us")


def grown(untouched: Dump, size: int, runs: int) -> None:
    """The same for a dom0 of ``size`` bytes, most of them missing (see tests/lab/huge.py)."""
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = (Dump(untouched.vmlinux, Path(folder) / n / "vmcore") for n in "wb")
        for dump in (whole, broken):
            dump.vmcore.parent.mkdir()
            copy_of(untouched, dump.vmcore.parent)
        truncate_list(untouched, broken.vmcore)
        for dump in (whole, broken):
            grow(untouched, dump.vmcore, size)
        starts(whole, broken, runs)
        rebuild(broken, runs)


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each (5)")
    runs = parser.parse_args().runs
    untouched = untouched_of(MAIN)
    broken = truncated(untouched)
    print(f"{'dom0 of 700 MiB':<44} {'minimum':>9} {'median':>9} {'maximum':>9}")
    starts(untouched, broken, runs)
    rebuild(broken, runs)
    commands(broken, runs)
    reads(untouched, runs)
    for size in (64 << 30, 1 << 40, 16 << 40):
        print(f"\ndom0 of {size >> 30:,} GiB")
        grown(untouched, size, runs)


if __name__ == "__main__":
    main()
