"""crash started anew in its own process, as it is and with a rebuilt p2m list.

What crash reads at its start it keeps: per-cpu data, tasks, modules, slabs and
much more, and it has no way to read all of it again.  Where reads failed then,
only another start can show what a whole list shows.  The process stays the
same, so its terminal, its input and whoever waits for it do not notice.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from crash_host import ffi, lib

from ..errors import P2mError
from ..launch.environment import HISTORY
from ..launch.preload import preload
from ..p2m.framelist import FrameList
from . import crash
from .extensions import filenames
from .full import rcfiles

__all__ = ["restart"]


def restart(frames: FrameList) -> None:
    """Become a new crash with the same command line, which reads by ``frames`` from its start on.

    It has the extensions of this one, its history, and the input that has not
    been read yet.  Does not return.

    :raises P2mError: a program runs this, which could not go on after it; or
        the new crash cannot be started.
    """
    if lib.host_nested():
        raise P2mError("crash cannot be started anew by a program that runs in it")
    with Path("/proc/self/cmdline").open("rb") as file:
        words = file.read().split(b"\0")[:-1]
    program = Path("/proc/self/exe").readlink()
    if not os.access(program, os.X_OK):
        raise P2mError(f"{program} cannot be started anew")
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
    leaves = preload(frames)
    crash._check(lib.host_leave(), "crash cannot leave this session")
    kept = {0, 1, 2, first, leaves}
    for fd in {int(path.name) for path in Path("/proc/self/fd").iterdir()} - kept:
        with suppress(OSError):  # the one that the folder was read by
            os.set_inheritable(fd, False)
    for fd in kept:
        os.set_inheritable(fd, True)
    # The last -i is the one that counts
    os.execv(program, [*words, b"-i", b"/proc/self/fd/%d" % first])


def _lines(before: Any) -> Iterator[bytes]:
    """Yield what the new crash is to run first: extensions, then what runs now or waits."""
    files = [] if before.stopped_rcfiles else [path for path in rcfiles(before) if path]
    again = {
        Path(os.fsdecode(words[1])).name
        for path in files
        for words in map(bytes.split, path.read_bytes().splitlines())
        if len(words) == 2 and words[0] == b"extend"
    }
    for name in reversed(list(filenames())):
        if Path(os.fsdecode(name)).name not in again:
            yield b"extend " + name + b"\n"
    if before.input_fd >= 0:
        size = os.fstat(before.input_fd).st_size - before.rcfile_offset
        yield os.pread(before.input_fd, max(0, size), before.rcfile_offset) + b"\n"
    waiting = crash._text(before.input_waiting)
    if waiting:
        yield Path(waiting).read_bytes()


def _give_back_input() -> None:
    """Put what the C library has read of the input, and crash has not, before the rest of it."""
    data = ffi.new("char **")
    unread = bytes(ffi.buffer(data[0], size)) if (size := lib.host_unread_input(data)) else b""
    if not unread:
        return
    try:
        os.lseek(0, -len(unread), os.SEEK_CUR)
    except OSError:  # a pipe: another one, with the rest behind it
        reading, writing = os.pipe()
        os.write(writing, unread)
        # In the background, so that crash has no child that it does not know
        forward = ["sh", "-c", "exec 3<&0; cat <&3 3<&- &"]
        subprocess.run(forward, stdout=writing, start_new_session=True, check=True)
        os.close(writing)
        os.dup2(reading, 0)
