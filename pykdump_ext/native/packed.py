# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump of a PV domain without Xen, packed by makedumpfile."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import P2mError
from ..outputs import mode_of, new_file
from .dump import Saved, Watch, check_dump, fill_dump
from .memory import NativeMemory

__all__ = ["find_makedumpfile", "write_packed"]

# each page packed with zlib, and no pages of zeros, which readers know to be zeros
OPTIONS = ("-c", "-d", "1", "-f", "--message-level", "4")


def find_makedumpfile() -> str:
    """Return the path of makedumpfile.

    :raises P2mError: it is not installed.
    """
    found = shutil.which("makedumpfile")
    if found is None:
        raise P2mError("makedumpfile is not installed: install it, or leave --compress out")
    return found


def write_packed(
    native: NativeMemory,
    saved: Saved,
    target: Path,
    inputs: Sequence[str],
    watch: Watch,
    replace: bool = False,
) -> int:
    """Write the dump of :func:`~.dump.write_dump` in kdump-compressed format.

    The ELF file that makedumpfile packs has no name, is in the same folder, and is gone afterwards.

    :raises P2mError: as :func:`~.dump.write_dump`; or makedumpfile fails.
    :raises OSError: reading or writing fails.
    """
    program = find_makedumpfile()
    with new_file(target, mode_of(inputs), inputs, replace) as (fd, unfinished):
        with tempfile.TemporaryFile(dir=target.resolve().parent) as elf:
            size = fill_dump(native, saved, elf.fileno(), watch)
            names = [_name_for_others(number) for number in (elf.fileno(), fd)]
            done = subprocess.run(
                [program, *OPTIONS, *names], capture_output=True, text=True, check=False
            )
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines() or ["no message"]
            raise P2mError(f"makedumpfile failed: {said[0]}")
        check_dump(native, unfinished)
    return size


def _name_for_others(fd: int) -> str:
    """Return a path by which another process can open a file that this one has open."""
    return f"/proc/{os.getpid()}/fd/{fd}"
