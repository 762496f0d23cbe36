# SPDX-License-Identifier: GPL-3.0-or-later
"""``make bench-speed``: what commands cost with p2mfix, in plain crash, and on bare metal.

The same load is booted as a dom0 and without Xen (tests/lab/load.py).  A command is given to
stock crash on the second (bare), to plain crash on the untouched dump of the first (plain),
and to the session that p2mfix opened on that dump with its list truncated (p2mfix), in turn.
Its cost is the CPU time of the process, user and system, from prompt to prompt.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..lab.broken import truncated
from ..lab.dump import Dump
from ..lab.fragmented import fragmented
from ..lab.load import bare, compressed, loaded, process
from ..lab.matrix import CELLS, MAIN
from ..lab.planted import planted
from ..real.places import Place
from .commands import START, Command, commands, of_added_memory
from .figures import (
    BARE,
    KINDS,
    P2MFIX,
    PLAIN,
    Figures,
    NothingPrinted,
    Row,
    across,
    digest,
    kept,
    table,
    taken_up,
    written,
)
from .session import Session, TooLong

PAPER = Path(__file__).parents[2] / "docs/performance.md"
CRASH = "trixie"  # the release whose crash finds all tasks of the main kernel

Kinds = Mapping[str, Dump]


def kinds(plain: Dump, broken: Dump, without_xen: Dump | None = None) -> Kinds:
    """Return the dump of each kind of session."""
    return {BARE: without_xen or bare(), PLAIN: plain, P2MFIX: broken}


def linear() -> Kinds:
    """The load's own dumps."""
    return kinds(loaded(), truncated(loaded(), "load-"))


SETS: dict[str, Callable[[], Kinds]] = {
    "linear": linear,
    "three-level": lambda: kinds(*planted(loaded(), "three-level", "load-")),
    "compressed": lambda: kinds(*(compressed(linear()[kind]) for kind in (PLAIN, P2MFIX, BARE))),
    "64 GiB": lambda: kinds(*fragmented(loaded(), 64 << 30)),
    "1 TiB": lambda: kinds(*fragmented(loaded(), 1 << 40)),
}
GROWN = ("64 GiB", "1 TiB")


@dataclass
class Bench:
    """How sessions are opened, and what was asked for.

    ``pids``: that of a process of the load, by kind of session.
    """

    place: Place
    folder: Path
    pids: Mapping[str, int]
    asked: argparse.Namespace
    sessions: int = 0

    def open(self, kind: str, dump: Dump) -> Session:
        """Open a dump in a kind of session."""
        self.sessions += 1
        program: str | Path = self.place.p2mfix if kind == P2MFIX else "crash"
        words = [program, "-s", dump.vmlinux, dump.vmcore]
        session = Session(self.place, words, self.folder / str(self.sessions))
        if kind == P2MFIX and self.asked.first:
            session.ask(self.asked.first, self.asked.limit)
        return session

    def measure(
        self, session: Session, kind: str, command: Command, figures: Figures, run: int
    ) -> None:
        """Add what a command costs in a run, and what it prints, to the figures.

        :raises TooLong: it took more than the limit; the session is lost.
        """
        if command == START:
            figures.seconds[run] = session.start_seconds
            return
        if command.in_process:
            session.ask([f"set {self.pids[kind]}"], self.asked.limit)
        answer = session.ask(command.lines, self.asked.limit, not self.asked.buffered)
        figures.seconds[run] = answer.seconds
        figures.digests.add(digest(command.name, answer.printed))
        figures.lines = answer.printed.count(b"\n")

    def wanted(self, command: Command, kind: str, figures: Figures, run: int) -> bool:
        """Return True if a command is to be given to a kind of session, in this run."""
        if figures.problem or run in figures.seconds or (kind == BARE and command.on_xen):
            return False
        return not figures.seconds or figures.median < self.asked.slow or command == START

    def run(
        self, kind: str, dump: Dump, chosen: Sequence[Command], rows: dict[str, Row], run: int
    ) -> None:
        """Give commands to one session, and to a new one where it is lost."""
        waiting = [c for c in chosen if self.wanted(c, kind, rows[c.name].of(kind), run)]
        while waiting:
            with self.open(kind, dump) as session:
                while waiting:
                    command = waiting.pop(0)
                    figures = rows[command.name].of(kind)
                    try:
                        self.measure(session, kind, command, figures, run)
                    except TooLong:
                        figures.problem = f"> {self.asked.limit:.0f}"
                        say(f"{kind:<8} {figures.problem} s: {command.name}")
                        break
                    except NothingPrinted as error:
                        figures.problem = "no result"
                        say(f"{kind:<8} {error}")
                        continue
                    last = figures.seconds[run]
                    say(f"{kind:<8} {last:8.3f} s {figures.lines:>9,} lines  {command.name}")


def say(text: str) -> None:
    """Print a progress line, at once, on standard error."""
    print(text, file=sys.stderr, flush=True)


def measure(bench: Bench, name: str, rows: dict[str, Row]) -> Iterator[None]:
    """Add to the rows of one set of dumps what was asked for; yield after each session."""
    say(f"\n{name}")
    asked, dumps = bench.asked, SETS[name]()
    chosen = [START, *commands(), *([of_added_memory()] if name in GROWN else [])]
    if asked.commands:
        chosen = [c for c in chosen if any(part in c.name for part in asked.commands)]
    for command in chosen:
        rows.setdefault(command.name, Row(command.name))
    for group in [chosen] if asked.quick else [[command] for command in chosen]:
        for run in range(asked.runs):
            for kind in asked.kinds:
                bench.run(kind, dumps[kind], group, rows, run)
                yield


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench-speed", description=__doc__)
    parser.add_argument("--dumps", nargs="+", choices=SETS, default=["linear"])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument(
        "--commands", nargs="+", metavar="PART", help="only those whose name has such a part"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each, in turn (3)")
    parser.add_argument(
        "--quick", action="store_true",
        help="all commands in one session, not each in one of its own",
    )  # fmt: skip
    parser.add_argument(
        "--buffered", action="store_true",
        help="print to standard output, a file, not by > FILE, where crash writes piece by piece",
    )  # fmt: skip
    parser.add_argument("--limit", type=float, default=600, help="CPU seconds of a command (600)")
    parser.add_argument(
        "--slow", type=float, default=20,
        help="a command that takes so many CPU seconds is run once (20)",
    )  # fmt: skip
    parser.add_argument("--first", nargs="+", default=[], help="commands of p2mfix's sessions")
    parser.add_argument(
        "--crash", default=CRASH, choices=sorted({cell.release for cell in CELLS}),
        help=f"the release whose crash is run ({CRASH})",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=Path, metavar="FILE",
        help="keep figures in a file; what it has already is not measured again",
    )  # fmt: skip
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"put the first table into {PAPER.name}, and one of p2mfix on all dumps",
    )
    return parser.parse_args()


def main() -> None:
    """Measure, print the tables, and write them where they belong."""
    asked = arguments()
    cell = next(c for c in CELLS if (c.release, c.kernel) == (asked.crash, MAIN))
    pids = {BARE: process(bare()), PLAIN: process(loaded()), P2MFIX: process(loaded())}
    figures = taken_up(asked.keep.read_text()) if asked.keep and asked.keep.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        place = Place(cell, Path(folder))
        bench = Bench(place, Path(folder), pids, asked)
        for name in asked.dumps:
            rows = {row.name: row for row in figures.get(name, [])}
            for _ in measure(bench, name, rows):
                figures[name] = list(rows.values())
                if asked.keep:
                    asked.keep.write_text(kept(figures))
            print(f"\n{name}, crash {cell.crash}\n\n{table(figures[name])}", flush=True)
    if asked.write:
        tables = {asked.dumps[0]: table(figures[asked.dumps[0]]), "all": across(figures)}
        PAPER.write_text(written(PAPER.read_text(), tables))


if __name__ == "__main__":
    main()
