# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of PyKdump: how ``epython`` finds them, runs them, and makes them commands of crash.

PyKdump's API.py takes the options that all programs have, by two functions that are called before
and after each program: ``sys.enterepython`` and ``sys.exitepython``.
"""

from __future__ import annotations

import builtins
import importlib
import io
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from ..errors import users_frames
from ..launch.pykdump import INIT, extras, registered
from . import crash
from .commands import Command, CommandError
from .console import user_input
from .epython import answer_by
from .extensions import add_command

__all__ = ["Programs"]

EPYTHON = "epython"
"""The command whose extension the programs' commands belong to."""
ENTER, EXIT = "enterepython", "exitepython"
HERE = Path()


class Programs:
    """The programs of PyKdump in this session.

    ``checkout`` is the registered one, or None; with ``debug`` the file of each program is shown.
    """

    def __init__(self) -> None:
        self.names = [EPYTHON]
        self.checkout: Path | None = None
        self.debug = 0

    # ----------------------------------------------------------------------
    # the extension

    def start(self) -> None:
        """Answer programs from now on, and run the one that makes others commands of crash.

        It is not looked for in the current folder, which may be that of a stranger's dump.
        """
        answer_by(self)
        self.checkout = registered()
        if self.checkout and not (self.checkout / "progs").is_dir():
            print(
                f"epython: {self.checkout}, the registered checkout of PyKdump, is gone:"
                " run pykdump-ext setup --pykdump PATH, or pykdump-ext setup --remove"
            )
            self.checkout = None
        found = _file(INIT, self._folders()[1:])
        if found:
            self._run([INIT], lambda: _execute(found), found.parent, hooks=False)

    def stop(self) -> None:
        """Answer programs no more."""
        answer_by(None)

    # ----------------------------------------------------------------------
    # what programs ask for

    def register(self, name: str, short: str, synopsis: str, text: str) -> bool:
        """Make a program a command of crash; return False where the name is taken.

        The command is for full sessions; one that was minimal has it as soon as it is full.
        """

        def program(words: list[str]) -> None:
            self.run([name, *words])

        program.__doc__ = text
        added = add_command(EPYTHON, Command(name, program, None, synopsis, short, False))
        if added:
            self.names.append(name)
        else:
            print(f'epython: "{name}" is a duplicate of a currently-existing command')
        return added

    def commands(self) -> list[str]:
        """Return the names of the commands that are programs, after that which runs any."""
        return list(self.names)

    def run(self, words: list[str]) -> None:
        """Run a program: its name, and its arguments.

        Its output, an exception that it does not catch, and ``sys.exit()`` are shown; only
        Ctrl-C and the end of the reader go on to the caller.

        :raises CommandError: there is no such program.
        """
        if not words:
            raise CommandError("no program is given (see 'help epython')")
        folders = self._folders()
        if words[0] in self.names:  # not what a stranger's folder has under a command's name
            folders = [*folders[1:], HERE]
        path = _file(words[0], folders)
        if path is None:
            raise CommandError(
                f"{words[0]}: no such program in {', '.join(map(str, folders))}"
                + (
                    ""
                    if self.checkout
                    else "; pykdump-ext setup --pykdump PATH registers PyKdump's"
                )
            )
        if self.debug:
            print(f"epython: {path}")
        self._run([str(path), *words[1:]], lambda: _execute(path), path.parent)

    def run_module(self, words: list[str]) -> None:
        """Run a module as ``python3 -m`` does: its name, and its arguments.

        :raises CommandError: there is no name.
        """
        if not words:
            raise CommandError("no module follows -m (see 'help epython')")
        self._run(
            words, lambda: runpy.run_module(words[0], run_name="__main__", alter_sys=True), HERE
        )

    def call(self, function: Callable[[], object]) -> None:
        """Call a function as if it were a program."""
        self._run([EPYTHON], function, hooks=False)

    # ----------------------------------------------------------------------

    def _folders(self) -> list[Path]:
        """Return the folders that programs are looked for in, the current one first."""
        more = [Path(word) for word in os.environ.get("PYKDUMPPATH", "").split(":") if word]
        return [HERE, *more, *([self.checkout / "progs"] if self.checkout else [])]

    def _module_folders(self, program: Path | None) -> list[str]:
        """Return the folders that a program finds modules in, its own first.

        The current one is none of them, unless the program is there.
        """
        more = [word for word in os.environ.get("PYKDUMPPATH", "").split(":") if word]
        root, others = [], []
        if self.checkout:
            root, others = [str(self.checkout)], extras(self.checkout)
        return [*([str(program)] if program else []), *more, *root, *sys.path, *others]

    def _run(
        self,
        argv: list[str],
        code: Callable[[], object],
        folder: Path | None = None,
        hooks: bool = True,
    ) -> None:
        this = os.getpid()
        folders = self._module_folders(folder)
        with _forgotten_if_minimal(folders), _own_state(argv, folders):
            try:
                if not hooks or _hook(ENTER):
                    _shown(code)
            except crash.ReaderGone:
                sys.stdout = sys.stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
                raise
            finally:
                if hooks and os.getpid() == this:
                    _hook(EXIT)


def _file(name: str, folders: list[Path]) -> Path | None:
    """Return the file of a program, whose name may lack its ``.py``; None where there is none."""
    for folder in folders:
        for path in (folder / name, folder / f"{name}.py"):
            if os.path.isfile(path):  # noqa: PTH113  (False for a folder that cannot be read)
                return path
    return None


def _execute(path: Path) -> object:
    return runpy.run_path(str(path), run_name="__main__")


@contextmanager
def _own_state(argv: list[str], folders: list[str]) -> Iterator[None]:
    """Give a program a state of its own, and take back what it makes of it.

    A program's ``__main__`` is new for each run, by runpy.  Modules stay, as programs share them.
    """
    own, reload = list(sys.path), importlib.reload
    before = sys.argv, own, sys.stdout, sys.stderr, builtins.input
    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    sys.argv, sys.path[:], builtins.input = argv, folders, user_input

    def reload_theirs(module: ModuleType) -> ModuleType:
        """Reload a module of the program: --reload does so with all, and Python cannot bear it."""
        return reload(module) if _is_theirs(module, folders, own) else module

    importlib.reload = reload_theirs
    try:
        yield
        if sys.stdout is not before[2] and not getattr(sys.stdout, "closed", True):
            sys.stdout.flush()  # the file of --ofile
    finally:
        sys.argv, sys.path[:], sys.stdout, sys.stderr, builtins.input = before
        importlib.reload = reload
        signal.setitimer(signal.ITIMER_REAL, *timer)
        if signal.getsignal(signal.SIGALRM) != handler:
            signal.signal(signal.SIGALRM, handler)


@contextmanager
def _forgotten_if_minimal(folders: list[str]) -> Iterator[None]:
    """Forget the modules that a program imports in a minimal session: they note what it lacks.

    :param folders: those that the program finds modules in, besides Python's own.
    """
    if not crash.session().minimal:
        yield
        return
    kept, hooks = {*sys.modules}, {name: getattr(sys, name, None) for name in (ENTER, EXIT)}
    try:
        yield
    finally:
        for name in {*sys.modules} - kept:
            if _is_theirs(sys.modules[name], folders, sys.path):
                del sys.modules[name]
        vars(sys).update(hooks)


def _is_theirs(module: ModuleType, folders: list[str], own: list[str]) -> bool:
    """Return True if a module is from the folders of a program, and not from Python's own."""
    file = getattr(module, "__file__", None)
    return file is not None and _is_in(file, folders) and not _is_in(file, own)


def _is_in(file: str, folders: list[str]) -> bool:
    path = Path(file).resolve()
    return any(path.is_relative_to(Path(folder).resolve()) for folder in folders)


def _hook(name: str) -> bool:
    """Call a function that the API has left in ``sys``; return False where it says to stop."""
    hook = getattr(sys, name, None)
    return hook is None or _shown(hook, f"Error in sys.{name}:\n")


def _shown(code: Callable[[], object], heading: str = "") -> bool:
    """Run code of the user, and print how it ends; return False where it calls ``sys.exit()``.

    In a child that the code has forked nothing is printed: the child ends with the command.
    """
    this = os.getpid()
    try:
        code()
    except crash.ReaderGone:
        raise
    except SystemExit as stop:
        if os.getpid() != this:
            raise
        if isinstance(stop.code, str):
            print(stop.code)
        elif stop.code:
            print(f" -- sys.exit({stop.code}) --")
        return False
    except Exception as error:
        if os.getpid() != this:
            raise
        print(heading, end="", file=sys.stderr)
        shown = users_frames(error.__traceback__, __file__)
        traceback.print_exception(type(error), error, shown)
    return True
