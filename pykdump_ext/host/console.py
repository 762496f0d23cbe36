# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``py``: Python scripts, and a Python prompt, inside crash."""

from __future__ import annotations

import code
import os
import runpy
import shlex
import sys
from pathlib import Path
from rlcompleter import Completer
from typing import Any

from crash_host import ffi, lib

from . import crash
from .commands import CommandError
from .guarded import c_name, c_text, check
from .line_editor import completing

__all__ = ["py", "read_line", "typed_code", "user_input"]

HISTORY = "~/.pykdump_ext_history"


def read_line(prompt: str = "") -> str:
    """Read a line from the user with crash's own line editor, and return it.

    :raises EOFError: Ctrl-D, or the end of the input.
    :raises KeyboardInterrupt: Ctrl-C.
    :raises crash.error: crash cannot read from its input.
    """
    line = ffi.new("char **")
    history = os.path.expanduser(HISTORY)  # noqa: PTH111  (for a C string)
    result = lib.host_readline(c_name(prompt), history.encode(), line)
    check(result, "cannot read a line of input")
    text = c_text(line[0])
    if text is None:
        raise EOFError
    lib.free(line[0])
    return text


def user_input(prompt: object = "") -> str:
    """Read a line as Python's ``input()`` does; the rest of the command's output skips the pager.

    :raises EOFError: Ctrl-D, or the end of the input.
    """
    lib.host_output_to_terminal()
    return read_line(str(prompt))


def py(words: list[str]) -> None:
    """Run the command ``py``: code after ``-c``, or a script, or the prompt without either.

    :raises CommandError: there is no such file, or no code.
    """
    if not words:
        _prompt()
    elif words[0] == "-c":
        _code(words)
    else:
        _script(words)


def typed_code(command: str, words: list[str]) -> tuple[str, list[str]]:
    """Return the code of ``py -c CODE [ARGS]``, and ARGS, which can follow only code in quotes.

    crash splits a line at blanks and drops double quotes, so the line is taken as it was typed.

    :param command: its name, which is the first word of the line.
    :param words: those after it; the first is the option.
    :raises CommandError: there is no code, or a quote is not closed.
    """
    typed = c_text(lib.host_typed(2))
    text = " ".join(words[1:]) if typed is None else typed
    quoted = text[:1] in ("'", '"')
    try:
        code, *arguments = shlex.split(text) if quoted else [text]
    except ValueError:
        raise CommandError(f"a quote is not closed: {text}") from None
    if not code.strip():
        raise CommandError(f"no code follows {words[0]} (see 'help {command}')")
    return code, arguments


def _code(words: list[str]) -> None:
    code, arguments = typed_code("py", words)
    argv = sys.argv
    sys.argv = ["-c", *arguments]
    try:
        exec(compile(code, "<py -c>", "exec"), {"__name__": "__main__", "crash": crash})
    finally:
        sys.argv = argv


def _script(words: list[str]) -> None:
    path = Path(words[0])
    if not path.is_file():
        what = "not a file" if path.exists() else "no such file"
        raise CommandError(f"{path}: {what}; py -c CODE runs code")
    argv, sys_path = sys.argv, list(sys.path)
    sys.argv = list(words)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv, sys.path[:] = argv, sys_path


class _Prompt(code.InteractiveConsole):
    def raw_input(self, prompt: str = "") -> str:
        return read_line(prompt)


_namespace: dict[str, Any] = {"__name__": "__console__", "__doc__": None, "crash": crash}


def _prompt() -> None:
    lib.host_output_to_terminal()
    version = sys.version.split()[0]
    banner = "" if crash.session().silent else f"Python {version} in crash {crash.Crash_run}"
    with completing(Completer(_namespace).complete):
        _Prompt(_namespace).interact(banner=banner, exitmsg="")
