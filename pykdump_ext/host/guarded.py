# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a guarded call into crash, as a value or as an exception.

Every function of ``host.h`` that calls crash's code does so inside ``guarded()`` (guard.c), which
returns a number where crash would leave by longjmp.
"""

from __future__ import annotations

import errno
import os
from typing import Any

try:
    from crash_host import ffi, lib
except ImportError:
    raise ImportError(
        "the module crash works only inside crash: run this there, with 'extend' or 'py'"
    ) from None

__all__ = [
    "LONGEST_COMMAND",
    "Excluded",
    "NullPointer",
    "ReaderGone",
    "c_command",
    "c_name",
    "c_text",
    "check",
    "error",
    "failure",
    "ffi",
    "lib",
    "message",
    "succeeded",
    "written",
]


class error(Exception):
    """crash could not do what was asked; the text is crash's own message.

    ``output`` is what a command printed before it failed.  ``message`` is the text, too, but for
    :func:`crash.exec_crash_command`, whose exceptions have the output as their text.
    """

    def __init__(self, text: str = "", output: str = "", message: str | None = None) -> None:
        super().__init__(text)
        self.output = output
        self.message = text if message is None else message


class NullPointer(IndexError):
    """The address to read is 0, as at the end of many lists.

    As in PyKdump it is no :class:`error`: programs catch that around reads which may fail, and
    a NULL pointer there is another thing.
    """


class Excluded(error):
    """The page was left out of the dump when the dump was filtered."""


class ReaderGone(BrokenPipeError):
    """The reader of crash's output has closed it, as ``head`` does when it has enough."""


for _kind in (error, NullPointer, Excluded, ReaderGone):
    _kind.__module__ = "crash"  # as a traceback names it, and a program imports it


def written(number: int) -> None:
    """Raise an exception for the errno of a write to crash's output; 0 is none.

    :raises ReaderGone: nobody reads the output any more.
    :raises OSError: it cannot be written, for example to a full disk.
    """
    if number == errno.EPIPE:
        raise ReaderGone(number, os.strerror(number))
    if number:
        raise OSError(number, os.strerror(number))


def c_text(pointer: Any) -> str | None:
    """Return the text at a ``char *`` of C, or None for NULL."""
    return None if pointer == ffi.NULL else ffi.string(pointer).decode("utf-8", "replace")


def c_name(text: str) -> bytes:
    """Return a text of Python as C takes it.

    A surrogate stands for a byte that is no UTF-8, as in ``sys.argv``.  Any other one is kept: no
    name in the dump has it.

    :raises error: C would take less: it has a zero byte.
    """
    if "\0" in text:
        raise error(f"{text!r}: crash takes no zero byte in a name or a command")
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


LONGEST_COMMAND = 1499  # bytes: BUFSIZE of crash's defs.h, less the final zero


def c_command(line: str) -> bytes:
    """Return a command of crash or gdb as C takes it.

    :raises error: it has more bytes than crash takes, or a zero byte.
    """
    words = c_name(line)
    if len(words) > LONGEST_COMMAND:
        raise error(
            f"a command of {len(words)} bytes is too long: crash takes {LONGEST_COMMAND} at most"
        )
    return words


def message() -> str:
    """Return crash's last error message, without the name of the command before it."""
    text = c_text(lib.host_message()) or ""
    head, separator, rest = text.partition(": ")
    return rest if separator and " " not in head and head not in ("WARNING", "NOTE") else text


def failure(result: int, otherwise: str, output: str = "") -> BaseException | None:
    """Return the exception that a guarded call's result stands for, or None where it succeeded.

    :param otherwise: the message, where crash gave none.
    :param output: what crash printed during the call.
    """
    if result == lib.HOST_OK:
        return None
    if result == lib.HOST_INTERRUPTED:
        return KeyboardInterrupt()
    if result == lib.HOST_WRONG_THREAD:
        return error("only crash's own thread can call crash, not a thread that Python started")
    if result == lib.HOST_NULL:
        return NullPointer("read of a NULL pointer")
    if result == lib.HOST_MINIMAL:
        return error(
            "crash knows this in a full session of a kernel only: start crash without --minimal, or"
            " extend p2mfix.py"
        )
    kind = Excluded if result == lib.HOST_EXCLUDED else error
    return kind(message() or otherwise, output)


def check(result: int, otherwise: str, output: str = "") -> None:
    """Raise an exception unless a guarded call succeeded; the parameters are those of failure().

    :raises KeyboardInterrupt: Ctrl-C stopped crash's code.
    :raises NullPointer: the address is the virtual address 0.
    :raises Excluded: the page was left out when the dump was filtered.
    :raises error: the call failed for another reason, or the thread is not crash's own.
    """
    problem = failure(result, otherwise, output)
    if problem is not None:
        raise problem


def succeeded(result: int) -> bool:
    """Return True when a guarded call succeeded, False when crash has no answer.

    :raises KeyboardInterrupt: Ctrl-C stopped crash's code.
    :raises error: the calling thread is not crash's own, or only a full session can answer.
    """
    if result in (lib.HOST_INTERRUPTED, lib.HOST_WRONG_THREAD, lib.HOST_MINIMAL):
        check(result, "")
    return bool(result == lib.HOST_OK)
