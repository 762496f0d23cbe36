# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast start of crash: what the lines in ``.gdbinit`` run, and those lines.

``python -m pykdump_ext.launch.fast_start PID`` ends with the number of the folder that the gdb of
that crash may keep its index in, as an exit status: gdb has nothing else of a program that it runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from ..linux.namelist import is_namelist
from .index_cache import KERNELS, index_cache, index_folder

__all__ = ["gdbinit_lines", "hook", "namelist_of"]

FIRST = 101
"""The exit status for folder 1. Less is an error of Python or none, 126 and more one of a shell."""

HOOK = """\
#!/bin/sh
# Made by pykdump-ext setup --fast-start: the lines in .gdbinit run it, in programs with gdb too.
case $(readlink "/proc/$PPID/exe") in */crash*) ;; *) exit 0 ;; esac
[ -x '{python}' ] || exit 0
exec '{python}' -I -m {module} "$PPID" </dev/null >/dev/null 2>&1
"""


def hook() -> str:
    """Return the shell script that the lines run, which does nothing without this package."""
    return HOOK.format(python=sys.executable, module=__spec__.name)


def gdbinit_lines(script: Path) -> list[str]:
    """Return the lines for ``.gdbinit`` that run a script, and use the folder that it names.

    gdb 9 and newer have ``$_gdb_major``; that of crash 9.x is 16.

    :param script: where :func:`hook` is.
    """
    cache = index_cache()
    return [
        "init-if-undefined $_gdb_major = 0",
        "if $_gdb_major >= 16",
        f"  shell exec '{script}'",
        f"  if $_shell_exitcode >= {FIRST} && $_shell_exitcode < {FIRST + KERNELS}",
        f'    eval "set index-cache directory {cache}/%d/gdb", $_shell_exitcode - {FIRST - 1}',
        "    set index-cache enabled on",
        "  end",
        "end",
    ]


def namelist_of(process: int) -> list[str]:
    """Return the files of the namelist that a crash was given on its command line.

    :raises OSError: there is no such process.
    """
    at = Path(f"/proc/{process}")
    words = at.joinpath("cmdline").read_bytes().split(b"\0")[1:-1]
    paths = [at / "cwd" / os.fsdecode(word) for word in words]
    return [str(path) for path in paths if path.is_file() and is_namelist(path)]


def main(process: int) -> int:
    """Return the exit status."""
    program = Path(f"/proc/{process}/exe").readlink()
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"^crash (\S+)$", shown.stdout, re.MULTILINE)
    namelist = namelist_of(process)
    folder = index_folder(version[1], namelist, process) if version and namelist else None
    return FIRST - 1 + int(folder.name) if folder else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
