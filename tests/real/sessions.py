# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions of crash, and of commands that become crash, each in a home folder of its own."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pexpect

from tests.lab import cache as lab_cache
from tests.lab.dump import Dump

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
SECONDS = 900
"""No session takes so long: what takes longer hangs."""
PROMPT = "crash> "

INDEX_CACHE = {"8.0.2": "set index-cache on", "9.0.2": "set index-cache enabled on"}
"""What switches gdb's index cache on, for each crash that starts faster with it.

crash 8.0.2 then starts in 2.8 instead of 6.4 s; 8.0.6 starts slower, and 7.2.9 has no such cache.
"""


@dataclass(frozen=True)
class Ran:
    """What a run of crash printed, on both streams, and its exit status."""

    text: str
    status: int

    def after(self, line: str) -> str:
        """Return what was printed behind the first occurrence of ``line``."""
        assert line in self.text, f"{line!r} was not printed:\n{self.text[-3000:]}"
        return self.text.partition(line)[2]


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment with a home folder of its own and without our variables."""
    ours = ("P2MFIX", "CRASH_EXT", "XDG_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return {**kept, "HOME": str(home), "TERM": "dumb", **more}


@cache
def crash_version() -> str:
    """Return the version of this machine's crash."""
    shown = subprocess.run(["crash", "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"^crash (\S+)$", shown.stdout, re.MULTILINE)
    assert found, shown.stdout
    return found[1]


def misses_tasks(version: str = "") -> bool:
    """Return True where a crash, this machine's or another, misses tasks of the main kernel.

    Crash commit 88580068b7dd is in 8.0.4.
    """
    return [int(n) for n in (version or crash_version()).split(".")] < [8, 0, 4]


def finds_tasks(host: Path | str) -> list[str]:
    """Return the commands that make such a crash find them on the untouched dump."""
    return [f"extend {host}", "extend p2mfix.py"]


def use_index(
    home: Path, version: str, words: Sequence[str | Path], start: Callable[[Path], object]
) -> None:
    """Let crash's gdb, run by ``words`` in ``home``, take its index of the kernel from the cache.

    Without an index gdb may show a variable that is declared twice by its other declaration.
    So that all sessions on a kernel show the same, none of them writes an index: before the
    first one ``start`` runs ``words`` for that alone, in the home folder that it is given.
    gdb finds an index by build ID, which tests leave as it was when they change a kernel:
    every vmlinux has a folder of its own.
    """
    (home / ".gdbinit").unlink(missing_ok=True)
    named = re.search(rf"{re.escape(str(lab_cache.root()))}/[^\s;]*/vmlinux[^\s;]*", _joined(words))
    if version not in INDEX_CACHE or not named:
        return
    name = f"gdb-index-{version}-{hashlib.sha256(named[0].encode()).hexdigest()[:12]}"
    folder = lab_cache.root() / name
    lines = (f"set index-cache directory {folder}", INDEX_CACHE[version], "")
    if not any(folder.glob("*.gdb-index")):
        with lab_cache.locked(name):
            if not any(folder.glob("*.gdb-index")):
                folder.mkdir(exist_ok=True)
                first = home / "makes-index"
                first.mkdir(exist_ok=True)
                (first / ".gdbinit").write_text("\n".join(lines))
                start(first)
                shutil.rmtree(first)
    if any(folder.glob("*.gdb-index")):
        (home / ".gdbinit").write_text("\n".join(lines))


def _joined(words: Sequence[str | Path]) -> str:
    return " ".join(str(word) for word in words)


class Crash:
    """Runs crash, or a command that becomes crash, with commands on its input.

    :param index: whether gdb takes its index of the kernel from the cache.
    """

    def __init__(self, home: Path, folder: Path, index: bool = True) -> None:
        self.home = home
        self.folder = folder
        self.index = index

    def prepare(self, words: Sequence[str | Path]) -> None:
        """Have the home folder as ``words`` are to find it."""
        if self.index:

            def start(home: Path) -> object:
                return Crash(home, home, index=False).run(words, ["quit"])

            use_index(self.home, crash_version(), words, start)

    def write(self, name: str, text: str) -> None:
        """Write a file into the folder that sessions run in."""
        (self.folder / name).write_text(text)

    def run(
        self,
        words: Sequence[str | Path],
        commands: Iterable[str] = (),
        seconds: float = SECONDS,
        **variables: str,
    ) -> Ran:
        """Run ``words`` with ``commands`` as its input, in a folder of its own."""
        self.prepare(words)
        done = subprocess.run(
            [str(word) for word in words],
            input="".join(f"{line}\n" for line in commands).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=environment(self.home, **variables),
            timeout=seconds,
            check=False,
        )
        return Ran(done.stdout.decode(errors="replace"), done.returncode)

    def __call__(self, dump: Dump, commands: Iterable[str], *options: str, **variables: str) -> Ran:
        """Run crash on ``dump``; it ends when the commands do."""
        return self.run(
            ["crash", *options, dump.vmlinux, dump.vmcore],
            [*commands, "quit"],
            SECONDS,
            **variables,
        )


def minimal(crash: Crash, dump: Dump, host: Path, *commands: str, **variables: str) -> Ran:
    """Run a silent minimal session with Python in it."""
    return crash(dump, [f"extend {host}", *commands], "--minimal", "-s", **variables)


def opens_whole(crash: Crash, words: Sequence[str | Path], commands: Sequence[str]) -> None:
    """Open a dump of the main kernel by p2mfix, where nothing is to be repaired.

    With --plain it does exactly what crash does, unless that misses tasks; then the session has
    them all. What the commands write into files is what they wrote in the session of p2mfix.
    """
    if not misses_tasks():
        plain = crash.run(["crash", *words], commands)
        same = crash.run([BIN / "p2mfix", "--plain", *words], commands)
        assert "PANIC: " in plain.text
        assert (same.text, same.status) == (plain.text, plain.status)
    opened = crash.run([BIN / "p2mfix", *words], commands)
    assert opened.status == 0, opened.text
    assert "(100.0%): nothing to repair\n" in opened.text
    if misses_tasks():
        found = re.search(r"(?m)^p2mfix: .* misses most tasks; now it has all (\d+)$", opened.text)
        assert found and re.search(rf"(?m)^ +TASKS: {found[1]}$", opened.text), opened.text


class Terminal:
    """crash as at a terminal: keys can be sent while it works."""

    def __init__(self, crash: Crash, words: list[str]) -> None:
        crash.prepare(words)
        self.child = pexpect.spawn(
            words[0],
            words[1:],
            cwd=str(crash.folder),
            env={**environment(crash.home), "PAGER": "cat"},
            timeout=SECONDS,
            encoding="utf-8",
            codec_errors="replace",
            dimensions=(40, 200),
        )

    def line(self, text: str, then: str = PROMPT) -> str:
        """Type a line and return what is printed until ``then``."""
        self.child.sendline(text)
        self.child.expect_exact(text + "\r\n")
        return self.until(then)

    def until(self, text: str = PROMPT) -> str:
        """Return what is printed until ``text`` is."""
        self.child.expect_exact(text)
        return str(self.child.before).replace("\r\n", "\n")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.child.sendintr()

    def kill(self) -> None:
        """End crash; pexpect's own way gives up where a busy machine needs over 0.1 s for it."""
        if self.child.isalive():
            self.child.kill(signal.SIGKILL)
            self.child.wait()
        self.child.close()
