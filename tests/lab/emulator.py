# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulator, run until its machine stops, with keys typed on the machine's serial console."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BOOT_SECONDS", "Monitored", "Typed", "run"]

BOOT_SECONDS = 1800  # it takes one minute; on a machine that does much else, ten


@dataclass(frozen=True)
class Typed:
    """Keys for the serial console: once it shows a text, each when it was quiet for a second."""

    after: str
    keys: tuple[str, ...]

    def type(self, emulator: subprocess.Popen[bytes], console: Path) -> None:
        """Type the keys, or as many as the machine lives for."""
        left, size = [*self.keys], -1
        end = time.monotonic() + BOOT_SECONDS
        while left and emulator.poll() is None and time.monotonic() < end:
            time.sleep(1)
            shown = console.read_bytes() if console.exists() else b""
            if self.after.encode() in shown and size == len(shown) and emulator.stdin:
                emulator.stdin.write(left.pop(0).encode())
                emulator.stdin.flush()
            size = len(shown)


@dataclass(frozen=True)
class Monitored(Typed):
    """Keys for a console that the emulator's monitor has as well: Ctrl-A and c switch to it."""


def run(command: list[str], console: Path, typed: Typed | None) -> None:
    """Run the emulator, whose console goes to a file, until the machine stops.

    :raises subprocess.TimeoutExpired: it does not.
    """
    shared, monitor = "", []
    if isinstance(typed, Monitored):
        shared, monitor = ",mux=on", ["-mon", "chardev=com1"]
    chardev = f"stdio,id=com1,signal=off,logfile={console}{shared}"
    serial = ["-chardev", chardev, "-serial", "chardev:com1", *monitor]
    if typed is None:
        serial = ["-serial", f"file:{console}"]
    stdin = subprocess.PIPE if typed else subprocess.DEVNULL
    console.unlink(missing_ok=True)  # what an attempt before has shown is not waited for
    with subprocess.Popen([*command, *serial], stdin=stdin, stdout=subprocess.DEVNULL) as emulator:
        try:
            if typed:
                typed.type(emulator, console)
            status = emulator.wait(BOOT_SECONDS)
        finally:
            emulator.kill()
    if status:
        raise subprocess.CalledProcessError(status, command)
