# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension that has drgn in a session of crash.

``extend drgn.py`` adds the command ``drgn``, drgn's prompt, scripts and code on the session's dump,
and the command ``dbt``, stacks with inlined frames and source lines.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pykdump_ext.drgn.module_names import name_modules
from pykdump_ext.drgn.stacks import (
    crashed_task,
    no_faults,
    running_tasks,
    stack_lines,
    task_named,
)
from pykdump_ext.host import CommandError, command, crash
from pykdump_ext.host.drgn_program import run_drgn, session_program

if TYPE_CHECKING:
    from drgn import Object


@command(
    "drgn", usage="[-e code | file] [args]", help="run drgn on the session's dump", minimal=True
)
def drgn(words: list[str]) -> None:
    """Run a script of drgn, with its arguments in sys.argv; or the code that
    follows -e; or, without either, open drgn's prompt, with Tab for names,
    that Ctrl-D or exit() closes.  All three have the variable prog.

    drgn has the debug information of the session's vmlinux and of modules
    that mod -s has loaded.  prog is made once, and kept for the session.

    Code is best put between quotes, as in a shell: outside of quotes and
    parentheses crash takes | and > for a pipe and a file."""
    run_drgn(words)


parser = argparse.ArgumentParser(
    description="Show stacks of tasks by drgn, with inlined frames and source lines: of the"
    " session's task, of those given, or of what cpus were running, whose registers are Xen's."
    " In a minimal session the session's task is the one that crashed the kernel."
)
parser.add_argument("task", nargs="*", help="a PID in decimal, or the address of a task_struct")
parser.add_argument("-a", action="store_true", dest="all", help="what each cpu was running")
parser.add_argument("-c", metavar="CPU", dest="cpu", type=int, help="what this cpu was running")


@command("dbt", parser=parser, help="show stacks with source lines, by drgn", minimal=True)
def dbt(args: argparse.Namespace) -> None:
    """Run the command ``dbt``."""
    with no_faults():
        for number, task in enumerate(wanted(args)):
            print("\n" * bool(number) + "\n".join(stack_lines(task)))


def wanted(args: argparse.Namespace) -> Iterator[Object]:
    """Yield the tasks that the words of ``dbt`` mean.

    :raises P2mError: there is no such task or cpu.
    """
    prog = session_program()
    name_modules(prog)
    if args.all or args.cpu is not None:
        tasks = [task for cpu, task in running_tasks(prog) if args.cpu in (None, cpu)]
        if not tasks:
            raise CommandError(f"the kernel has no cpu {args.cpu}")
        yield from tasks
    elif args.task:
        yield from (task_named(prog, word) for word in args.task)
    elif crash.session().minimal:
        yield crashed_task(prog)
    else:
        shown = re.search(r"TASK: ([0-9a-f]+)", crash.run_command("set"))
        yield task_named(prog, shown[1]) if shown else crashed_task(prog)
