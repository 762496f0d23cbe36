# SPDX-License-Identifier: GPL-3.0-or-later
"""A new start of crash in the same process, with the rebuilt list.

crash keeps what it reads at its start (per-cpu data, tasks, modules, slabs and more), and cannot
read all of it again.  Where those reads failed, only a new start gives what a whole list gives.
The process stays the same, so that its terminal, its input and its parent go on as before.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from crash_host import ffi, lib

from ..errors import P2mError
from ..launch.environment import HISTORY
from ..launch.preload import preload
from ..p2m.framelist import FrameList
from .ending import Leave
from .extensions import filenames, loaded_by
from .full_session import rcfiles
from .guarded import c_text

__all__ = ["restart"]


def restart(frames: FrameList) -> NoReturn:
    """Replace this crash by a new one, with the same command line and a list from its start on.

    The new crash has this one's extensions, history and unread input.  It starts when Python has
    ended, and so has written its files.

    :param frames: the rebuilt list.
    :raises P2mError: the call comes from a program that runs in crash, which could not go on;
        or the program of crash is not there any more.
    :raises Leave: the new crash is ready to start.
    """
    if lib.host_nested():
        raise P2mError("a program that runs in crash cannot start crash anew")
    with Path("/proc/self/cmdline").open("rb") as file:
        words = file.read().split(b"\0")[:-1]
    program = Path("/proc/self/exe").readlink()
    if not os.access(program, os.X_OK):
        raise P2mError(f"{program}: cannot start crash anew, because this program cannot be run")
    before = ffi.new("struct host_session *")
    lib.host_get_session(before)
    first = os.memfd_create("restart", 0)
    os.write(first, b"".join(_lines(before)))
    if before.terminal:
        handle, history = tempfile.mkstemp(prefix="crash-history")
        os.close(handle)
        os.environ[HISTORY] = history
        lib.write_history(history.encode())
    else:
        _give_back_input()
    kept = {0, 1, 2, first, *preload(frames)}
    for fd in {int(path.name) for path in Path("/proc/self/fd").iterdir()} - kept:
        with suppress(OSError):  # the descriptor that iterdir() had open
            os.set_inheritable(fd, False)
    for fd in kept:
        os.set_inheritable(fd, True)
    words += [b"-i", b"/proc/self/fd/%d" % first]  # crash takes the last -i
    words_of_c = [ffi.new("char[]", word) for word in words]
    lib.host_become(os.fsencode(program), len(words), ffi.new("char *[]", words_of_c))
    raise Leave


def _lines(before: Any) -> Iterator[bytes]:
    """Yield the first commands of the new crash: its extensions, then the unread input files."""
    files = [] if before.stopped_rcfiles else [path for path in rcfiles(before) if path]
    again = {
        filename
        for path in files
        for words in map(str.split, os.fsdecode(path.read_bytes()).splitlines())
        if len(words) == 2 and words[0] == "extend"
        for filename in loaded_by(words[1])
    }
    for name in reversed(list(filenames())):
        if name not in again:
            yield b"extend " + os.fsencode(name) + b"\n"
    if before.input_fd >= 0:
        size = os.fstat(before.input_fd).st_size - before.rcfile_offset
        yield os.pread(before.input_fd, max(0, size), before.rcfile_offset) + b"\n"
    waiting = c_text(before.input_waiting)
    if waiting:
        yield Path(waiting).read_bytes()


def _give_back_input() -> None:
    """Put input that the C library has read, and crash has not, back before the rest."""
    data = ffi.new("char **")
    unread = bytes(ffi.buffer(data[0], size)) if (size := lib.host_unread_input(data)) else b""
    if not unread:
        return
    try:
        os.lseek(0, -len(unread), os.SEEK_CUR)
    except OSError:  # a pipe: make another, with the rest behind the unread part
        reading, writing = os.pipe()
        os.write(writing, unread)
        # In the background, so that crash has no child process that it does not know of
        forward = ["sh", "-c", "exec 3<&0; cat <&3 3<&- &"]
        subprocess.run(forward, stdout=writing, start_new_session=True, check=True)
        os.close(writing)
        os.dup2(reading, 0)
