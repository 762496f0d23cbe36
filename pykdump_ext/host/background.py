# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of crash that run in the background, while the program goes on."""

from __future__ import annotations

import gc
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .guarded import c_command, check, ffi, lib

__all__ = ["close_pipes", "exec_crash_command_bg2"]


def exec_crash_command_bg2(command: str) -> tuple[int, int]:
    """Run a command of crash in a child of this process, and return at once.

    The child ends with the command: with exit status 0, or 1 where the command fails.  Where it
    still runs when the command of crash that called this function ends, it is killed.

    :return: the descriptor of a pipe, from which all can be read that the command prints, and
        the number of the child, for ``os.waitpid()``.
    :raises error: there can be no child, or the command is too long.
    """
    fd, pid = ffi.new("int *"), ffi.new("int *")
    check(lib.host_background(c_command(command), fd, pid), "")
    return int(fd[0]), int(pid[0])


@contextmanager
def close_pipes() -> Iterator[None]:
    """Close the pipes that a program leaves open, once it has ended.

    A pipe that a file object has is left to that: it would close the number a second time,
    when another file has it.
    """
    before = lib.host_backgrounds()
    try:
        yield
    finally:
        started = range(before, lib.host_backgrounds())
        left = {int(lib.host_background_pipe(number)) for number in started} - {-1}
        if left:
            for file in gc.get_objects():
                if issubclass(type(file), io.FileIO) and not file.closed:
                    left.discard(file.fileno())
        for fd in left:
            os.close(fd)
