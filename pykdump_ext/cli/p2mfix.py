# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix VMLINUX VMCORE... [crash options]``: a full session of crash on a Xen host's dump.

The process becomes crash, so that its exit status and Ctrl-C are crash's own.  If the first word
is the name of a command, such as ``diagnose``, p2mfix runs that command instead.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches

import argcomplete
from argcomplete.completers import FilesCompleter

from .. import __version__
from ..errors import P2mError
from ..launch.command_line import Request, command_line
from ..launch.options import WITH_VALUE
from ..progress import shown
from . import HELP_WIDTH, Command, diagnose, domains, drgn, fail, report, rewrite
from .views import VIEW_COMMANDS

__all__ = ["COMMANDS", "command_parser", "main", "parse", "parser"]


class Value(argparse.Action):
    """An action of a parser that keeps an option of crash together with its value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Add (option, value) to ``namespace.values``."""
        namespace.values = [*namespace.values, (option_string, values)]


COMMANDS: dict[str, Command] = {
    "report": report,
    "diagnose": diagnose,
    **VIEW_COMMANDS,
    "rewrite": rewrite,
    "drgn": drgn,
    "domains": domains,
}
EPILOG = """\
commands:
{commands}

"p2mfix COMMAND --help" describes a command. A vmlinux with the name of a
command must be given as ./NAME.

examples:
  p2mfix vmlinux vmcore                 a full session of crash
  p2mfix vmlinux vmcore -s -i commands  pass options of crash to crash
  p2mfix vmlinux vmcore.1 vmcore.2      open a split dump; files in any order
  p2mfix diagnose --jobs 4 /var/crash   report on all dumps in a folder
  p2mfix pfn 100000 vmcore vmlinux      show the p2m's entry for pfn 100000

environment:
  CRASH         the crash to run, if not the one in PATH
  P2MFIX_DEBUG  1: errors inside crash also print a Python traceback

exit status:
  crash's own once crash has started; 1 after an error; 2 after a wrong command
  line; 130 after Ctrl-C
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``p2mfix VMLINUX VMCORE``, which knows crash's options with a value."""
    commands = "\n".join(
        textwrap.fill(f"  {name:<10} {made.SUMMARY}", HELP_WIDTH, subsequent_indent=" " * 13)
        for name, made in COMMANDS.items()
    )
    made = argparse.ArgumentParser(
        prog="p2mfix",
        usage="p2mfix [-h] [--version] [--domain N] [--plain] [VMLINUX] VMCORE...\n"
        "              [crash options]\n"
        "       p2mfix COMMAND ...",
        description="Open the dump of a Xen host in crash, even where plain crash fails on it: if\n"
        "the dump's list of dom0's frames is broken, p2mfix rebuilds the list and starts\n"
        "crash with it. The dump is never written. All options of crash may be given.",
        epilog=EPILOG.format(commands=commands),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    files = made.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="dom0's vmlinux, if it is not installed or beside the dump; the files of the dump",
    )
    files.completer = _first_words  # type: ignore[attr-defined]
    made.add_argument(
        "--domain",
        type=int,
        default=0,
        metavar="N",
        help="open the kernel of PV guest N; the vmlinux is the guest's",
    )
    made.add_argument(
        "-i",
        dest="input",
        metavar="FILE",
        help="run the crash commands in FILE when the full session starts",
    )
    made.add_argument("--no_crashrc", action="store_true", help="do not run .crashrc files")
    made.add_argument(
        "--plain",
        action="store_true",
        help="leave crash's reads as they are, which are slower; crash prints the same",
    )
    made.add_argument("--minimal", action="store_true", help=argparse.SUPPRESS)
    for option in WITH_VALUE:
        made.add_argument(option, action=Value, dest="values", default=[], help=argparse.SUPPRESS)
    made.add_argument("--version", action="version", version=f"p2mfix {__version__}")
    return made


def command_parser(name: str, with_name: bool = False) -> argparse.ArgumentParser:
    """Return the parser of the command ``p2mfix NAME``.

    :param with_name: the parser also takes the name, as its first argument.
    """
    module = COMMANDS[name]
    made = argparse.ArgumentParser(
        prog=f"p2mfix {name}",
        description=module.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if with_name:
        made.add_argument("name", choices=[name])
    module.add_arguments(made)
    return made


def _first_words(prefix: str, **_: object) -> list[str]:
    """Return the commands and the files that begin with ``prefix``, for completion."""
    commands = [name for name in COMMANDS if name.startswith(prefix)]
    return [*commands, *FilesCompleter()(prefix)]


def complete() -> None:
    """Answer a shell that completes a command line, and exit; else do nothing."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    words = os.environ.get("COMP_LINE", "").split()
    if len(words) > 1 and words[1] in COMMANDS:
        made = command_parser(words[1], with_name=True)
    else:
        made = parser()
    argcomplete.autocomplete(made)


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``p2mfix``; do not return once crash has started."""
    complete()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with shown(os.isatty(2)):
            if words and words[0] in COMMANDS:
                COMMANDS[words[0]].run(parse(words))
                sys.stdout.flush()
            else:
                become_crash(words)
    except P2mError as error:
        fail("p2mfix", error)
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("p2mfix: stopped by Ctrl-C", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        sys.stdout = None  # do not write again at the end what could not be written
        fail("p2mfix", error)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse the words of a command, the first being its name.

    Options may stand anywhere among the files.  A command that hands words on to another program
    gets them as they are, except a first ``-h``.
    """
    made = command_parser(words[0])
    if not any(action.nargs == argparse.REMAINDER for action in made._actions):
        return made.parse_intermixed_args(words[1:])
    first = [] if words[1:2] in (["-h"], ["--help"]) else ["--"]
    return made.parse_args([*first, *words[1:]])


def become_crash(words: list[str]) -> None:
    """Open a dump in crash, which this process becomes.

    :raises P2mError: a file cannot be opened, or crash cannot be started.
    """
    options = parser()
    args, unknown = options.parse_known_args(words)
    args.files += [
        word for word in unknown if not word.startswith("-")
    ]  # after an option without a value
    if args.files and not os.path.lexists(args.files[0]):
        for name in get_close_matches(args.files[0], COMMANDS, 1):
            options.error(f"{args.files[0]} is neither a file nor a command; did you mean {name}?")
    if not args.files:
        options.error("give a vmlinux and a dump: p2mfix VMLINUX VMCORE")
    request = Request(
        files=args.files,
        values=args.values,
        options=[word for word in unknown if word.startswith("-")],
        input=args.input,
        rcfiles=not args.no_crashrc,
        minimal=args.minimal,
        domain=args.domain,
        plain=args.plain,
    )
    try:
        command = command_line(request)
        sys.stdout.flush()
        os.execv(command[0], command)
    except OSError as error:
        raise P2mError(str(error)) from None
