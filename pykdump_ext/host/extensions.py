# SPDX-License-Identifier: GPL-3.0-or-later
"""Extensions written in Python: how crash finds, loads and unloads them, and their commands."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from crash_host import ffi, lib

from ..launch.libraries import P2MFIX
from . import crash
from .commands import Command, CommandError
from .ending import starting

__all__ = [
    "Extension",
    "add_command",
    "command",
    "filenames",
    "find_command",
    "find_file",
    "load",
    "loaded_by",
    "named",
    "unload",
    "unload_all",
]

SHIPPED = P2MFIX.parent
# The folders where crash looks for extensions: in_extensions_library() of its extensions.c
CRASH_FOLDERS = ("/usr/lib64/crash/extensions", "/usr/lib/crash/extensions", "./extensions")


@dataclass
class Extension:
    """A loaded extension: its file, its commands, and its entry in crash's table."""

    path: Path
    filename: str
    source: bytes
    commands: dict[str, Command] = field(default_factory=dict)
    module: ModuleType | None = None
    entry: Any = None
    ready: bool = False  # its loaded() has returned


_loaded: list[Extension] = []
_loading: list[Extension] = []
_numbers = itertools.count()
# The C strings in crash's tables.  They are never freed: a command may unload its own
# extension, and crash reads the command's name once more after that.
_alive: list[Any] = []


def command(
    name: str,
    *,
    parser: argparse.ArgumentParser | None = None,
    usage: str = "",
    help: str = "",
    minimal: bool = False,
) -> Callable[[Callable[[Any], object]], Callable[[Any], object]]:
    """Return a decorator that makes a function the crash command ``name``.

    :param parser: parses the command's words; the function gets the namespace.  Without a
        parser the function gets the words, a list of strings.
    :param usage: the synopsis for ``help``, where there is no parser.
    :param help: one line that says what the command does.
    :param minimal: the command also works in a minimal session.
    :raises CommandError: ``name`` is not one word, or ``extend`` is not loading a file.
    """

    def register(function: Callable[[Any], object]) -> Callable[[Any], object]:
        if not _loading:
            raise CommandError(
                f"{name}: a command can be registered only while 'extend' loads its file"
            )
        _ensure_name(name)
        if parser:
            parser.prog = name
        line = help or (parser.description if parser and parser.description else "")
        _loading[-1].commands[name] = Command(name, function, parser, usage, line, minimal)
        return function

    return register


def _ensure_name(name: str) -> None:
    if not name.isprintable() or name.split() != [name]:
        raise CommandError(f"{name!r}: not a name for a command, which is one word")


# --------------------------------------------------------------------------
# files


def _in_folders(name: str) -> tuple[Path, str] | None:
    is_path = name.startswith((".", "/"))
    if Path(name).is_file():
        return Path(name), name if is_path else f"./{name}"
    if not is_path:
        folders = [*os.environ.get("CRASH_EXTENSIONS", "").split(":"), *CRASH_FOLDERS]
        for folder in [*filter(None, folders), str(SHIPPED)]:
            path = Path(folder) / name
            if path.is_file():
                return path, str(path)
    return None


def find_file(name: str) -> tuple[Path, str] | None:
    """Find the file that ``extend name`` means; return its path, and the name to show for it.

    The order is crash's for shared objects: the path itself, the folders of
    ``CRASH_EXTENSIONS``, crash's own folders.  The folder of this package is the last.  Where
    none has such a file, it is ``name.py`` in the same order.
    """
    return _in_folders(name) or (None if name.endswith(".py") else _in_folders(f"{name}.py"))


def named(name: str) -> list[str]:
    """Return the file names, in crash's table, of the loaded extensions that ``name`` means.

    That is the one whose file ``extend name`` would load; otherwise ``name`` is the base name
    of an extension from wherever it was loaded, with ``.py`` or ``.so`` or without.
    """
    found = find_file(name)
    bases = {name, f"{name}.py", f"{name}.so"}
    return (_with_file(found[0]) if found else []) or _with_base(bases)


def loaded_by(name: str) -> list[str]:
    """Return the file names, in crash's table, of what a line ``extend name`` has loaded."""
    found = find_file(name)
    if found and found[0].suffix == ".py":
        return _with_file(found[0])
    return _with_base({Path(name).name})


def _with_file(path: Path) -> list[str]:
    real = path.resolve()
    ours = {extension.filename: extension.path for extension in _loaded}
    return [name for name in filenames() if (ours.get(name) or Path(name).resolve()) == real]


def _with_base(bases: set[str]) -> list[str]:
    return [name for name in filenames() if Path(name).name in bases]


def filenames() -> Iterator[str]:
    """Yield the file names of all extensions, of shared objects too, the last loaded first."""
    number = 0
    while (name := lib.host_extension(number)) != ffi.NULL:
        yield os.fsdecode(ffi.string(name))
        number += 1


# --------------------------------------------------------------------------
# loading


class _Loader(SourceFileLoader):
    """Runs the source that was read, never bytecode of a file that has changed since."""

    def __init__(self, name: str, extension: Extension) -> None:
        super().__init__(name, str(extension.path))
        self.source = extension.source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)


def load(path: Path, shown: str) -> None:
    """Load the extension in the file ``path``, and run its ``loaded()``.

    A file that has changed since it was loaded is loaded anew; if it cannot be run, the
    extension stays as it was.

    :param shown: the name of the file for crash's table, and for messages.
    :raises CommandError: crash already has a command of that name.
    :raises OSError: the file cannot be read.
    """
    real = path.resolve()
    old = next((loaded for loaded in _loaded if loaded.path == real), None)
    extension = Extension(real, shown, real.read_bytes())
    if old is None or old.source != extension.source:
        _execute(extension, set(old.commands) if old else set())
        if old:
            print(f"{shown}: has changed since it was loaded: loading it anew")
        try:
            if old:
                _unload(old)
        finally:  # the old one is gone in any case
            _register(extension)
        if not (crash.session().silent and starting()):
            print(f"{shown}: loaded")
    elif old.ready:
        print(f"{shown}: already loaded")
        return
    else:  # its loaded() failed before: run it again
        extension = old
    hook = getattr(extension.module, "loaded", None)
    if hook is not None:
        hook()
    extension.ready = True


def _execute(extension: Extension, own: set[str]) -> None:
    """Run the file of an extension, which registers its commands.

    :param own: the commands that the extension has already.
    :raises CommandError: crash already has a command of that name.
    """
    name = f"crash_extension_{next(_numbers)}_{extension.path.stem}"
    spec = spec_from_file_location(name, extension.path, loader=_Loader(name, extension))
    assert spec is not None and spec.loader is not None
    extension.module = module_from_spec(spec)
    sys.modules[name] = extension.module
    _loading.append(extension)
    try:
        spec.loader.exec_module(extension.module)
        for taken in extension.commands.keys() - own:
            if lib.host_command_kind(taken.encode()) != lib.HOST_NO_COMMAND:
                raise CommandError(
                    f'{extension.filename}: "{taken}" is a duplicate of an existing command'
                )
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        _loading.pop()


def _register(extension: Extension) -> None:
    """Put the extension and its commands into crash's tables.

    :raises CommandError: crash has no memory for them.
    """

    names, helps = [], []
    for entry in extension.commands.values():
        names.append(_text(entry.name))
        helps.append(_help(entry))
    minimal = [entry.minimal for entry in extension.commands.values()]
    extension.entry = lib.host_add_extension(
        os.fsencode(extension.filename),
        len(names),
        ffi.new("char *[]", names),
        ffi.new("char **[]", helps),
        ffi.new("int[]", minimal),
    )
    if extension.entry == ffi.NULL:
        raise CommandError(f"{extension.filename}: crash has no memory left for its commands")
    _loaded.append(extension)


def _text(value: str) -> Any:
    _alive.append(ffi.new("char[]", value.encode("utf-8", "replace")))
    return _alive[-1]


def _help(entry: Command) -> Any:
    _alive.append(ffi.new("char *[]", [*map(_text, entry.help_data()), ffi.NULL]))
    return _alive[-1]


def add_command(owner: str, entry: Command) -> bool:
    """Add a command to the loaded extension that has the command ``owner``.

    Return False where crash already has a command of that name.

    :raises CommandError: the name is not one word, ``owner`` is no command of an extension, or
        crash has no memory left.
    """
    _ensure_name(entry.name)
    extension = next((found for found in _loaded if owner in found.commands), None)
    if extension is None:
        raise CommandError(f"{owner}: not a command of an extension that is loaded")
    if lib.host_command_kind(entry.name.encode()) != lib.HOST_NO_COMMAND:
        return False
    if not lib.host_add_command(extension.entry, _text(entry.name), _help(entry), entry.minimal):
        raise CommandError(f"{entry.name}: crash has no memory left for this command")
    extension.commands[entry.name] = entry
    return True


# --------------------------------------------------------------------------
# unloading


def unload(filename: str) -> bool:
    """Unload the extension with that file name; return False when it is not written in Python."""
    for extension in _loaded:
        if extension.filename == filename:
            _unload(extension)
            return True
    return False


def unload_all() -> None:
    """Unload all extensions written in Python, the last loaded first."""
    for extension in reversed(list(_loaded)):
        _unload(extension)


def _unload(extension: Extension) -> None:
    hook = getattr(extension.module, "unloaded", None)
    try:
        if hook is not None:
            hook()
    finally:
        _loaded.remove(extension)
        lib.host_remove_extension(extension.entry)
        if extension.module is not None:
            sys.modules.pop(extension.module.__name__, None)
    print(f"{extension.filename}: unloaded")


def find_command(name: str) -> Command | None:
    """Return the command ``name`` of a loaded extension, or None."""
    for extension in _loaded:
        if name in extension.commands:
            return extension.commands[name]
    return None
