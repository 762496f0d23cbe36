# SPDX-License-Identifier: GPL-3.0-or-later
"""The entry of crash into Python: ``python_command()``, and Python's output and signals.

``crash_host.so`` imports this module once, when crash first calls Python (``embedding_init_code``
of build_host.py).
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from crash_host import ffi, lib

from ..errors import P2mError, printable
from . import background, crash, ending, line_editor, lookups, memory
from .stdout import CrashOutput

__all__ = ["debugging", "python_command", "run"]

sys.modules["crash"] = crash


sys.stdout = sys.stderr = CrashOutput()
sys.argv = [""]
line_editor.take_over_readline()


@contextmanager
def _own_state() -> Iterator[None]:
    """Give a command output, readmem and Ctrl-C of its own; take back what it makes of them."""
    outputs, reads = (sys.stdout, sys.stderr), memory.readmem_task()
    sigint = signal.getsignal(signal.SIGINT)
    sys.stdout = sys.stderr = CrashOutput()
    try:
        _handle_sigint(signal.default_int_handler)
        lookups.forget()  # by crash, since Python's last one
        yield
        for output in (sys.stdout, sys.stderr):
            if hasattr(output, "flush") and not getattr(output, "closed", False):
                output.flush()
    finally:
        sys.stdout, sys.stderr = outputs
        memory.set_readmem_task(reads)
        _handle_sigint(sigint)


def _handle_sigint(handler: Any) -> None:
    """Make ``handler`` that of SIGINT, unless it is: C puts its own function before Python's."""
    if signal.getsignal(signal.SIGINT) != handler:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def _children_end() -> Iterator[None]:
    """End a child that os.fork() made in a command; it would go on as a second crash.

    Its exit status is that of Python: of ``sys.exit()``, or 1 after an exception.
    """
    this, status = os.getpid(), 1
    try:
        yield
        status = 0
    except SystemExit as stop:
        if os.getpid() == this:
            raise
        status = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except BaseException as error:
        if os.getpid() == this:
            raise
        print(_one_line(error))
    finally:
        if os.getpid() != this:
            os._exit(status & 0xFF)


def debugging() -> bool:
    """Return True when the user wants tracebacks: ``P2MFIX_DEBUG=1``."""
    return os.environ.get("P2MFIX_DEBUG", "") not in ("", "0")


def _one_line(error: BaseException) -> str:
    """Return the one line that crash shows for an exception."""
    try:
        said = error.message if isinstance(error, crash.error) else str(error)
    except Exception:  # of the program's own __str__()
        said = "an exception without a text"
    text = printable(" ".join(said.split("\n")).strip())
    if isinstance(error, (P2mError, crash.error, crash.NullPointer)):
        return text or type(error).__name__
    where = ""
    frame: TracebackType | None = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    if isinstance(error, SyntaxError):
        text, where = str(error.msg), f" ({error.filename}, line {error.lineno})"
    elif frame:
        where = f" ({frame.tb_frame.f_code.co_filename}, line {frame.tb_lineno})"
    return f"{type(error).__name__}: {text}{where}".replace(": (", " (")


def run(name: str, words: list[str]) -> None:
    """Run a command: one of the host, or of an extension.

    :param words: the words after the command's name.
    :raises crash.error: the extension that had the command is unloaded.
    """
    from . import console, extend, extensions  # noqa: PLC0415  (the first imports crash)

    if name == "extend":
        extend.extend(words)
    elif name == "py":
        console.py(words)
    elif name == "pykdump_ext":
        extend.extend_shipped(words)
    else:
        found = extensions.find_command(name)
        if found is None:
            raise crash.error("the extension of this command is no longer loaded: extend it again")
        found.run(words)


@ffi.def_extern(error=lib.HOST_ERROR)  # type: ignore[untyped-decorator]
def python_ready() -> int:
    """Give SIGINT to Python; crash calls this once, which also loads this module."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        lib.host_keep_sigint()
    except KeyboardInterrupt:
        lib.host_keep_sigint()
        return int(lib.HOST_INTERRUPTED)
    return int(lib.HOST_OK)


@ffi.def_extern(error=lib.HOST_ERROR)  # type: ignore[untyped-decorator]
def python_command(name: Any, argc: int, argv: Any) -> int:
    """Run a command for crash; return a ``HOST_`` number of host.h, and raise nothing.

    The message of an exception goes to C, and crash shows it.  A reader that closed the output
    (``p2m status | head -1``) is no error.
    """
    interrupted = lib.HOST_INTERRUPTED
    try:
        if ending.starting():
            interrupted = lib.HOST_LEAVE
        words = [
            ffi.string(argv[i]).decode("utf-8", "surrogateescape")
            for i in range(1, argc)
            if argv[i] != ffi.NULL
        ]
        with _children_end(), background.close_pipes(), _own_state():
            run(ffi.string(name).decode(), words)
    except KeyboardInterrupt:
        return int(interrupted)
    except ending.Leave:
        return int(lib.HOST_LEAVE)
    except crash.ReaderGone:
        return int(lib.HOST_OK)
    except SystemExit as stop:
        if not stop.code:
            return int(lib.HOST_OK)
        text = f"exit status {stop.code}" if isinstance(stop.code, int) else str(stop.code)
        lib.host_set_message(text.encode("utf-8", "replace"))
        return int(lib.HOST_ERROR)
    except BaseException as error:
        try:
            if debugging():
                traceback.print_exc()
            lib.host_set_message(_one_line(error).encode("utf-8", "replace"))
        except KeyboardInterrupt:
            return int(interrupted)
        return int(lib.HOST_ERROR)
    return int(lib.HOST_OK)


_completion: Any = ffi.NULL  # C copies it after python_complete() has returned


@ffi.def_extern(error=ffi.NULL)  # type: ignore[untyped-decorator]
def python_complete(text: Any, state: int) -> Any:
    """Return the completion number ``state`` of ``text`` at a prompt of Python, or NULL."""
    global _completion  # noqa: PLW0603
    try:
        found = line_editor.complete(ffi.string(text).decode("utf-8", "surrogateescape"), state)
        _completion = ffi.NULL if found is None else ffi.new("char[]", found.encode())
    except BaseException:  # of a property or a __dir__() that was asked, and Ctrl-C while it worked
        return ffi.NULL
    return _completion
