# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``py``: Python scripts, and a Python prompt, inside crash."""

from __future__ import annotations

import code
import os
import runpy
import sys
from pathlib import Path

from crash_host import ffi, lib

from . import crash
from .commands import CommandError
from .guarded import c_text, check

__all__ = ["py", "read_line"]

HISTORY = "~/.pykdump_ext_history"


def read_line(prompt: str = "") -> str:
    """Read a line from the user with crash's own line editor, and return it.

    :raises EOFError: Ctrl-D, or the end of the input.
    :raises KeyboardInterrupt: Ctrl-C.
    :raises crash.error: crash cannot read from its input.
    """
    line = ffi.new("char **")
    history = os.path.expanduser(HISTORY)  # noqa: PTH111  (for a C string)
    result = lib.host_readline(prompt.encode(), history.encode(), line)
    check(result, "cannot read a line of input")
    text = c_text(line[0])
    if text is None:
        raise EOFError
    lib.free(line[0])
    return text


def py(words: list[str]) -> None:
    """Run the command ``py [FILE [ARGS]]``: a script, or the prompt without a file.

    :raises CommandError: there is no such file.
    """
    if words:
        _script(words)
    else:
        _prompt()


def _script(words: list[str]) -> None:
    path = Path(words[0])
    if not path.is_file():
        raise CommandError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
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


_namespace = {"__name__": "__console__", "__doc__": None, "crash": crash}


def _prompt() -> None:
    lib.host_output_to_terminal()
    version = sys.version.split()[0]
    banner = "" if crash.session().silent else f"Python {version} in crash {crash.Crash_run}"
    _Prompt(_namespace).interact(banner=banner, exitmsg="")
