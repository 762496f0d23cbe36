# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of crash and gdb, run for what they print; and crash's own output."""

from __future__ import annotations

from typing import Any

from . import lookups
from .guarded import (
    LONGEST_COMMAND,
    ReaderGone,
    c_command,
    c_name,
    c_text,
    check,
    error,
    failure,
    ffi,
    lib,
    message,
    written,
)

__all__ = [
    "LONGEST_COMMAND", "ReaderGone", "crash_set_error", "exec_crash_command", "exec_gdb_command",
    "get_GDB_output", "run_command", "set_default_timeout", "setprocname", "write",
]  # fmt: skip


def _captured(function: Any, line: str) -> tuple[int, str]:
    """Run a command, and return the result of the guarded call and what was printed."""
    output, length = ffi.new("char **"), ffi.new("size_t *")
    result = function(c_command(line), output, length)
    lookups.forget()
    text = ""
    if output[0] != ffi.NULL:
        text = bytes(ffi.buffer(output[0], length[0])).decode("utf-8", "replace")
        lib.free(output[0])
    return result, text


def _name(line: str) -> str:
    return line.split(maxsplit=1)[0] if line.strip() else "command"


def _why(line: str, text: str) -> str:
    """Return the message for a command that failed without one."""
    return f"{_name(line)}: {'wrong usage' if 'Usage:' in text else 'failed'}"


def exec_crash_command(command: str, no_stdout: int = 0) -> str:
    """Run a command of crash, and return all that it prints, its error messages among it.

    New programs use :func:`run_command`.  Pipes and redirections do not work here: crash's prompt
    handles them, not its commands.

    :param no_stdout: has no meaning: nothing is ever shown beside what is returned.
    :raises error: the command failed, or printed nothing.  The text is what it printed until then;
        ``message`` is why.  An unknown command prints that it is not found, and does not raise.
    """
    result, text = _captured(lib.host_run, command)
    problem = failure(result, _why(command, text))
    if result == lib.HOST_ERROR:
        raise error(text, text, str(problem))
    if problem is not None:
        raise problem
    if not text:
        raise error("", "", f"{_name(command)}: printed nothing")
    return text


def run_command(command: str) -> str:
    """Run a command of crash, and return what it prints, which may be nothing.

    Pipes and redirections do not work here, as for :func:`exec_crash_command`.

    :raises error: crash has no such command, or the command failed; the text is crash's message,
        and ``output`` what the command printed before, such as its usage.
    """
    result, text = _captured(lib.host_run, command)
    check(result, _why(command, text), text)
    said = message()
    if said.startswith("command not found") or "not available in minimal mode" in said:
        raise error(said.splitlines()[0], text)
    return text


def get_GDB_output(command: str) -> str | None:
    """Run a command of gdb, and return what it prints, or None where it fails."""
    try:
        return exec_gdb_command(command)
    except error:
        return None


def exec_gdb_command(command: str) -> str:
    """Run a command of gdb, and return what it prints.

    :raises error: the command failed; the text is gdb's message.
    """
    result, text = _captured(lib.host_gdb, command)
    check(result, _why(command, text), text)
    return text


def write(text: str) -> None:
    """Write ``text`` to where crash's output goes now: terminal, pager, pipe or file.

    :raises ReaderGone: nobody reads the output any more.
    :raises OSError: the text cannot be written, for example to a full disk.
    """
    data = text.encode("utf-8", "backslashreplace")
    if data:
        written(lib.host_write(data, len(data)))


def crash_set_error(target: str) -> str | None:
    """Have crash write its errors to ``target`` as ``set error`` does, and return where it did.

    :param target: ``default``, ``redirect`` or the path of a file.
    :return: the target until now; None in a crash that has none, before 7.2.7.
    :raises error: the file cannot be opened.
    """
    before = ffi.new("char **")
    result = lib.host_set_error(c_name(target), before)
    found = c_text(before[0])
    lib.free(before[0])
    check(result, f"cannot set this target: crash cannot open {target} for its errors")
    return found


_timeout = [60]


def set_default_timeout(timeout: int) -> int:
    """Keep a number of seconds for the next call, and return that of the call before.

    As in PyKdump it has no effect: no command is stopped by it.
    """
    before, _timeout[0] = _timeout[0], timeout
    return before


def setprocname(name: str) -> None:
    """Set the name of this process that ``ps`` and ``top`` show, 15 bytes of it.

    The command line stays as it is: crash has the names of its files there.
    """
    lib.host_set_process_name(c_name(name))
