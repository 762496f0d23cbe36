# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension that runs programs of PyKdump.

``extend epython.py`` adds the command ``epython``.  If ``pykdump-ext setup --pykdump`` has
registered a checkout of PyKdump, its programs become commands of crash, too.
"""

from __future__ import annotations

import getopt
import importlib
import sys

from pykdump_ext import __version__
from pykdump_ext.host import CommandError, command, crash
from pykdump_ext.host.programs import Programs

programs = Programs()


def loaded() -> None:
    """Register the checkout's programs; ``extend`` runs this once the file is loaded."""
    programs.start()


def unloaded() -> None:
    """Answer no program any more; ``extend -u`` runs this."""
    programs.stop()


@command(
    "epython",
    usage="[-h | -v | -p | --ehelp] [-d number] [-m] program [args]",
    help="run a program of PyKdump",
    minimal=True,
)
def epython(words: list[str]) -> None:
    """Run a program of PyKdump, with its arguments in sys.argv.  It is looked
    for in the current folder, in those of PYKDUMPPATH, and in the checkout
    that pykdump-ext setup --pykdump has registered; .py may be left out.
    A program that is a command is looked for in the current folder last.

      -h, --help     show this help
      -v, --version  show versions
      -p, --path     show the version of Python, and where modules are found
          --ehelp    show the options that all programs have
      -d, --debug N  from now on (0: no more) show the file of each program
      -m             run a module, as python3 -m does"""
    try:
        options, rest = getopt.getopt(
            words, "hvpmd:", ["help", "version", "path", "ehelp", "debug="]
        )
    except getopt.GetoptError as error:
        raise CommandError(f"{error.msg} (see 'help epython')") from None
    given = dict(options)
    if given.keys() & {"-h", "--help"}:
        print(crash.exec_crash_command("help epython"), end="")
    elif given.keys() & {"-v", "--version"}:
        print(f"pykdump_ext {__version__}, crash {crash.Crash_run}")
        print(f"PyKdump: {programs.checkout or 'no checkout is registered'}")
    elif given.keys() & {"-p", "--path"}:
        programs.call(lambda: print(sys.version, sys.path, sep="\n"))
    elif "--ehelp" in given:
        programs.call(common_options)
    else:
        debug = given.get("-d", given.get("--debug"))
        if debug is not None:
            if not debug.isdecimal():
                raise CommandError(f"-d takes a number, not {debug} (see 'help epython')")
            programs.debug = int(debug)
        if rest or debug is None:
            (programs.run_module if "-m" in given else programs.run)(rest)


def common_options() -> None:
    """Have PyKdump print the options that it takes from the words of any program."""
    getattr(importlib.import_module("pykdump.API"), "__epythonOptions")(1)
