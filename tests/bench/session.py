# SPDX-License-Identifier: GPL-3.0-or-later
"""A session of crash whose CPU time is known at each prompt."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ..lab.cache import root
from ..real.places import Place
from ..real.sessions import environment

PAUSE = 0.01  # seconds between two looks at a session
START_SECONDS = 600.0  # of CPU; no session takes so long to start
CPUCLOCK_SCHED = 2  # include/linux/posix-timers.h: the clock of a process, in nanoseconds


class Ended(Exception):
    """A session ended before it was told to; the text says how."""


class TooLong(Exception):
    """A session took more CPU time than it may."""


@dataclass(frozen=True)
class Answer:
    """What commands cost, seconds of CPU (user and system), and what they printed."""

    seconds: float
    printed: bytes


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, also of those that ended.

    The clock is that of ``clock_getcpuclockid(3)``.

    :raises OSError: there is no such process.
    """
    return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)


class Session:
    """crash, run by ``words`` in ``place``.

    A command's end is seen by a second one, which writes a file.
    """

    def __init__(self, place: Place, words: Sequence[str | Path], folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._text = folder / "text"
        self._asked = 0
        self._lost = False
        command = [str(word) for word in words]
        if place.release:
            command = place.release.command([root(), folder], *command)
        with self._text.open("wb") as text:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE, stdout=text, stderr=subprocess.STDOUT,
                cwd=folder, env=environment(folder),
            )  # fmt: skip
        self._pid = self._process.pid
        self._wait_for([], START_SECONDS)
        self._pid = _crash_below(self._process.pid)
        self.start_seconds = cpu_seconds(self._pid)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        try:
            if kind is None and not self._lost:
                assert self._process.stdin
                self._process.stdin.write(b"quit\n")
                self._process.stdin.flush()
                self._process.wait(60)
        finally:
            self._process.kill()
            self._process.communicate()

    def ask(self, lines: Sequence[str], limit: float, redirected: bool = True) -> Answer:
        """Give crash some lines of commands; return what they cost and printed.

        :param limit: seconds of CPU that they may take.
        :param redirected: print as users do, by ``> FILE``, where crash writes each piece of a
            line by itself, as it does to a terminal and a pager; else into its standard output,
            a file of whole blocks.
        :raises TooLong: they took more; the session is lost.
        :raises Ended: the session ended.
        """
        file = self._folder / f"printed-{self._asked}"
        file.touch()
        if redirected:
            lines = [f"{line} >> {file}" for line in lines]
        before, printed = cpu_seconds(self._pid), self._text.stat().st_size
        self._wait_for(lines, limit)
        seconds = cpu_seconds(self._pid) - before
        with self._text.open("rb") as text:
            text.seek(printed)
            shown = file.read_bytes() + text.read()
        file.unlink()
        return Answer(seconds, shown)

    def _wait_for(self, lines: Sequence[str], limit: float) -> None:
        """Give crash some lines, and wait until they are done."""
        done = self._folder / f"done-{self._asked}"
        self._asked += 1
        assert self._process.stdin
        text = "".join(f"{line}\n" for line in [*lines, f"eval 1 > {done}"])
        start = 0.0
        with suppress(OSError):  # the process has ended: poll() says how
            start = cpu_seconds(self._pid)
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        while not (done.exists() and done.stat().st_size):
            if self._process.poll() is not None:
                tail = self._text.read_bytes()[-2000:].decode(errors="replace")
                raise Ended(f"exit status {self._process.returncode} after {lines}:\n{tail}")
            with suppress(OSError):
                if cpu_seconds(self._pid) - start > limit:
                    self._lost = True
                    raise TooLong(f"more than {limit:.0f} s of CPU")
            time.sleep(PAUSE)


def _crash_below(pid: int) -> int:
    """Return the PID of the crash that a process is, or that one below it is."""
    while (name := Path(f"/proc/{pid}/comm").read_text().strip()) != "crash":
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if len(below) != 1:
            raise Ended(f"no crash is below {name}")
        pid = int(below[0])
    return pid
