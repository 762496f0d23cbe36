# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands that need no crash cost on large hosts whose memory is all there.

``make bench`` runs it after the others; ``python -m tests.bench.outside`` runs it alone.
The dumps are made up (``tests/lab/large.py``): 6 GiB on disk, one at a time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["measure", "outside"]

P2MFIX = Path(sys.executable).with_name("p2mfix")
COMMANDS = (
    "diagnose", "map", "list", "verify", "verify --all", "pfn 40000", "mfn 500000",
    "va ffff888040000000",
)  # fmt: skip


def measure(command: str, vmcore: Path, runs: int) -> list[tuple[float, float]]:
    """Run a command of p2mfix after one warm-up; return each run's CPU seconds and peak MiB."""
    found = []
    for _ in range(runs + 1):
        process = subprocess.Popen([P2MFIX, *command.split(), vmcore], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"p2mfix {command}: exit status {process.returncode}")
        found.append((usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024))
    return found[1:]


def outside(sizes: Sequence[int], runs: int) -> None:
    """Print what each command costs on hosts with so many GiB of memory, median of some runs."""
    print(f"{'p2mfix':<24} {'GiB':>6} {'memory':>10} {'CPU s':>8} {'peak MiB':>9}")
    for gib in sizes:
        for fragmented in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                vmcore = Path(folder) / "vmcore"
                _write(vmcore, gib, 0, fragmented)
                for command in COMMANDS:
                    _show(command, gib, fragmented, measure(command, vmcore, runs))
                _write(vmcore, 2, gib, fragmented)
                _show("domains", gib, fragmented, measure("domains", vmcore, runs))


def _write(vmcore: Path, dom0: int, machine: int, fragmented: bool) -> None:
    """Write a dump, in a process of its own: the peak of a child begins with its parent's size."""
    words = [str(vmcore), str(dom0), str(machine), *(["fragmented"] if fragmented else [])]
    subprocess.run([sys.executable, "-m", "tests.lab.large", *words], check=True)


def _show(command: str, gib: int, fragmented: bool, found: Sequence[tuple[float, float]]) -> None:
    cpu, peak = (statistics.median(column) for column in zip(*found))
    kind = "fragmented" if fragmented else "in order"
    print(f"{command:<24} {gib:>6,} {kind:>10} {cpu:>8.2f} {peak:>9.0f}", flush=True)


def main() -> None:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each (3)")
    parser.add_argument("sizes", type=int, nargs="*", default=[64, 1024], help="GiB (64 1024)")
    args = parser.parse_args()
    outside(args.sizes, args.runs)


if __name__ == "__main__":
    main()
