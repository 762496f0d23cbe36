"""``p2mfix VMLINUX VMCORE... [crash options]``: a full crash session on any Xen dump.

This process becomes crash: its exit status and Ctrl-C are crash's own. With a
command's name as its first word it runs that command instead.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import argcomplete
from argcomplete.completers import FilesCompleter

from .. import __version__
from ..errors import P2mError
from ..launch.options import WITH_VALUE
from ..launch.start import Request, command_line
from . import Command, diagnose, domains, drgn, fail, rewrite
from .views import VIEW_COMMANDS

__all__ = ["COMMANDS", "command_parser", "main", "parser"]


class Value(argparse.Action):
    """Keeps an option of crash's together with its value."""

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
    "diagnose": diagnose,
    **VIEW_COMMANDS,
    "rewrite": rewrite,
    "drgn": drgn,
    "domains": domains,
}
EPILOG = """\
commands:
{commands}
  p2mfix COMMAND --help describes each. Give a vmlinux that has a command's name as ./NAME.

examples:
  p2mfix vmlinux vmcore                 a full crash session
  p2mfix vmlinux vmcore -s -i commands  options of crash go to crash
  p2mfix vmlinux vmcore.1 vmcore.2      the files of a split dump, in any order
  p2mfix --kaslr=0x1c000000 vmlinux vmcore
  p2mfix diagnose --jobs 4 /var/crash   a line for each dump in a folder

environment:
  CRASH         the crash to run, where it is not the one of the path
  P2MFIX_DEBUG  1: errors inside crash come with a Python traceback

exit status:
  crash's own once crash has been started; 1 after an error, 2 after a wrong command line.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``p2mfix VMLINUX VMCORE``; it knows the crash options it must."""
    commands = "\n".join(f"  {name:<10} {made.SUMMARY}" for name, made in COMMANDS.items())
    made = argparse.ArgumentParser(
        prog="p2mfix",
        usage="p2mfix [-h] [--version] [--domain N] VMLINUX VMCORE... [crash options]\n"
        "       p2mfix COMMAND ...",
        description="Opens the dump of a Xen host in crash, repairing crash's p2m where the\n"
        "dump's list of it is broken. The dump itself is never written. All options of crash\n"
        "may be given.",
        epilog=EPILOG.format(commands=commands),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    files = made.add_argument(
        "files", nargs="*", metavar="FILE", help="dom0's vmlinux, and the dump's file or files"
    )
    files.completer = _first_words  # type: ignore[attr-defined]
    made.add_argument(
        "--domain", type=int, default=0, metavar="N", help="open PV guest N; FILE is its vmlinux"
    )
    made.add_argument("-i", dest="input", metavar="FILE", help="crash commands to run first")
    made.add_argument("--no_crashrc", action="store_true", help="do not run .crashrc files")
    made.add_argument("--minimal", action="store_true", help=argparse.SUPPRESS)
    for option in WITH_VALUE:
        made.add_argument(option, action=Value, dest="values", default=[], help=argparse.SUPPRESS)
    made.add_argument("--version", action="version", version=f"p2mfix {__version__}")
    return made


def command_parser(name: str, with_name: bool = False) -> argparse.ArgumentParser:
    """Return the parser of ``p2mfix NAME``, of what is behind that, or with the name itself."""
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
    """Complete the first word: a command, or a file."""
    commands = [name for name in COMMANDS if name.startswith(prefix)]
    return [*commands, *FilesCompleter()(prefix)]


def complete() -> None:
    """Answer the shell that asks how a command line may go on; it does nothing otherwise."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    words = os.environ.get("COMP_LINE", "").split()
    if len(words) > 1 and words[1] in COMMANDS:
        made = command_parser(words[1], with_name=True)
    else:
        made = parser()
    argcomplete.autocomplete(made)


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``p2mfix``; does not return when crash could be started."""
    complete()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words and words[0] in COMMANDS:
            COMMANDS[words[0]].run(command_parser(words[0]).parse_args(words[1:]))
            sys.stdout.flush()
        else:
            become_crash(words)
    except P2mError as error:
        fail("p2mfix", error)
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        if words[0] == "drgn":  # a script's own
            raise
        sys.stdout = None  # what could not be written is not tried again at the end
        fail("p2mfix", error)


def become_crash(words: list[str]) -> None:
    """Open a dump in crash, which this process becomes.

    :raises P2mError: a file, or crash, is not there or cannot be used.
    """
    options = parser()
    args, unknown = options.parse_known_args(words)
    args.files += [word for word in unknown if not word.startswith("-")]  # behind an option
    if len(args.files) < 2:
        options.error("give a vmlinux and a dump: p2mfix VMLINUX VMCORE")
    request = Request(
        files=args.files,
        values=args.values,
        options=[word for word in unknown if word.startswith("-")],
        input=args.input,
        rcfiles=not args.no_crashrc,
        minimal=args.minimal,
        domain=args.domain,
    )
    try:
        command = command_line(request)
        sys.stdout.flush()
        os.execv(command[0], command)
    except OSError as error:
        raise P2mError(str(error)) from None
