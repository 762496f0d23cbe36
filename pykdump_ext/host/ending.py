# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of the session: a start that Ctrl-C ends, and the end of Python inside crash."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..launch.environment import AFTERWARDS
from .guarded import ffi, lib

__all__ = ["Leave", "end", "starting"]

SECONDS = 5
"""How long the end of the session waits for threads that Python started."""


class Leave(BaseException):
    """The session ends, or becomes another one, when no Python code runs any more."""


def starting() -> bool:
    """Return True while p2mfix starts this session; Ctrl-C then ends it, as a start of crash."""
    if AFTERWARDS not in os.environ or lib.host_nested():
        return False
    session = ffi.new("struct host_session *")
    lib.host_get_session(session)
    if session.input_fd < 0:
        return False
    # the file that command_line.py gives to crash's -i
    return Path(f"/proc/self/fd/{session.input_fd}").readlink().name.startswith("memfd:p2mfix")


def end() -> None:
    """Wait for Python's threads, but not for ever; C ends Python after that.

    Py_FinalizeEx() would wait until the last thread ends that is no daemon.  Ctrl-C stops this
    wait.
    """
    sys.unraisablehook = _say_unraisable
    this = threading.get_ident()
    limit = threading.Timer(SECONDS, signal.pthread_kill, (this, signal.SIGINT))
    limit.daemon = True
    with suppress(KeyboardInterrupt):
        limit.start()
        # What Py_FinalizeEx() calls; it also stops the threads of concurrent.futures
        threading._shutdown()  # type: ignore[attr-defined]
    limit.cancel()
    # Py_FinalizeEx() calls it again, and since Python 3.13 it then waits for all these threads
    threading._shutdown = lambda: None  # type: ignore[attr-defined]
    left = [t.name for t in threading.enumerate() if not t.daemon and t.ident != this]
    if left:
        print(f"py: crash ends and stops threads that still run: {', '.join(left)}")
    # In a thread: one that was stopped may have the lock of a file for ever
    writer = threading.Thread(target=_write_files, daemon=True)
    writer.start()
    writer.join(SECONDS)


def _write_files() -> None:
    """Write what open files have in their buffers.

    Py_FinalizeEx() closes the files of modules, but not those of a function that still runs,
    because it called crash's ``quit``, or because its thread was stopped.
    """
    files = gc.get_objects()
    for kind in io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom:  # a text is in a buffer
        for file in files:
            if issubclass(type(file), kind):
                with suppress(OSError, ValueError):
                    file.flush()


def _say_unraisable(unraisable: Any) -> None:
    """Print an error of an atexit function or of a destructor in one line."""
    error = unraisable.exc_value
    if isinstance(error, KeyboardInterrupt):
        return
    text = " ".join(str(error).split())
    print(f"py: {type(error).__name__}: {text}".removesuffix(": "))
