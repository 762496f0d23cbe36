# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``p2mfix report`` costs on the lab's dumps: CPU seconds and peak memory, medians.

``make bench`` runs it after the others; ``python -m tests.bench.report`` runs it alone. The dumps
are run in turn. One that the lab cannot make is left out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..lab.broken import truncated
from ..lab.dump import Dump
from ..lab.failures import failure
from ..lab.guest import guest_dump
from ..lab.load import compressed, loaded
from ..lab.matrix import MAIN, untouched
from ..lab.packages import Missing
from ..lab.planted import planted
from ..lab.xen_crash import xen_crash
from .outside import measure

__all__ = ["DUMPS", "report"]

DUMPS: dict[str, Callable[[], Dump]] = {
    "panic, Linux 5.10": lambda: untouched("5.10"),
    "panic, Linux 6.1": lambda: untouched("6.1"),
    "panic, the newest Linux": lambda: untouched("newest"),
    "truncated list": lambda: truncated(untouched(MAIN)),
    "three-level p2m": lambda: planted(untouched(MAIN), "three-level")[1],
    "dom0 of 6 GiB": loaded,
    "dom0 of 6 GiB, compressed": lambda: compressed(loaded()),
    "crash of Xen": xen_crash,
    "hung tasks": lambda: failure("hung"),
    "out of memory": lambda: failure("oom"),
    "a guest": guest_dump,
}


def report(names: list[str], runs: int) -> None:
    """Print a table of what a report of each dump costs."""
    dumps = {}
    for name in names:
        try:
            dumps[name] = DUMPS[name]()
        except (Missing, RuntimeError) as error:
            print(f"{name}: left out: {error}")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in dumps}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            for name, dump in dumps.items():
                words = f"report -o {Path(folder) / 'page.html'} {dump.vmlinux}"
                found[name] += measure(words, dump.vmcore, 1)
    print("| dump | CPU s | peak MiB |\n| --- | --- | --- |")
    for name, measured in found.items():
        cpu, peak = (statistics.median(column) for column in zip(*measured))
        print(f"| {name} | {cpu:.1f} | {peak:.0f} |", flush=True)


def main() -> None:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each (3)")
    parser.add_argument("names", nargs="*", help=f"dumps: {', '.join(DUMPS)}")
    args = parser.parse_args()
    report(args.names or [*DUMPS], args.runs)


if __name__ == "__main__":
    main()
