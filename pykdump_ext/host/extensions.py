# SPDX-License-Identifier: GPL-3.0-or-later
"""Extensions written in Python: how crash finds, loads and unloads them, and their commands."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from crash_host import ffi, lib

from ..errors import P2mError
from .guarded import c_text, message, succeeded

__all__ = [
    "Command",
    "CommandError",
    "Extension",
    "command",
    "extend",
    "filenames",
    "find",
    "find_command",
    "is_loaded",
    "load",
    "unload",
    "unload_all",
]

SHIPPED = Path(__file__).parent.parent / "extensions"
# The folders where crash looks for extensions: in_extensions_library() of its extensions.c
CRASH_FOLDERS = ("/usr/lib64/crash/extensions", "/usr/lib/crash/extensions", "./extensions")


class CommandError(P2mError):
    """A command cannot do what was asked; crash shows the text as it shows its own errors."""


@dataclass
class Command:
    """A command of an extension.

    ``function`` gets the namespace that ``parser`` makes, or without a parser the words after
    the command's name.  ``usage`` and ``help`` are for crash's ``help``; ``minimal`` is True
    when the command also works in a minimal session.
    """

    name: str
    function: Callable[[Any], object]
    parser: argparse.ArgumentParser | None
    usage: str
    help: str
    minimal: bool

    def run(self, words: list[str]) -> None:
        """Run the command with the words after its name.

        :raises CommandError: the parser does not accept the words.
        """
        self.function(self._parse(words) if self.parser else words)

    def _parse(self, words: list[str]) -> argparse.Namespace | None:
        assert self.parser is not None
        said = io.StringIO()
        try:
            with redirect_stderr(said):
                return self.parser.parse_args(words)
        except SystemExit as stop:
            if not stop.code:
                raise
        reason = said.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise CommandError(f"{reason} (see 'help {self.name}')")

    def help_data(self) -> list[str]:
        """Return the lines of crash's help_data: name, summary, synopsis, then the text."""
        if self.parser:
            usage = self.parser.format_usage().split(maxsplit=2)
            synopsis = " ".join(usage[2].split()) if len(usage) > 2 else ""
            body = self.parser.format_help().partition("\n\n")[2].rstrip().splitlines()
        else:
            synopsis = self.usage
            body = (self.function.__doc__ or self.help).strip().splitlines()
        first = [text.replace("%", "%%") for text in (self.help, synopsis)]
        return [self.name, *first, *(_verbatim("  " + line if line else "") for line in body)]


def _verbatim(line: str) -> str:
    """Return a line of help escaped for crash, which takes a line with ``%s`` as a format."""
    return line.replace("%", "%%") if "%s" in line else line


@dataclass
class Extension:
    """A loaded extension: its file, its commands, and its entry in crash's table."""

    path: Path
    filename: str
    commands: dict[str, Command] = field(default_factory=dict)
    module: ModuleType | None = None
    entry: Any = None
    ready: bool = False  # its loaded() has returned


_loaded: list[Extension] = []
_loading: list[Extension] = []
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
        if not name or len(name.split()) != 1:
            raise CommandError(f"{name!r}: not a name for a command, which is one word")
        if parser:
            parser.prog = name
        line = help or (parser.description if parser and parser.description else "")
        _loading[-1].commands[name] = Command(name, function, parser, usage, line, minimal)
        return function

    return register


def find(name: str) -> tuple[Path, str]:
    """Find the file that ``extend name`` means; return its path, and the name to show for it.

    The order is crash's for shared objects: the path itself, the folders of
    ``CRASH_EXTENSIONS``, crash's own folders.  The folder of this package is the last.

    :raises CommandError: no folder has such a file.
    """
    if Path(name).is_file():
        shown = name if name[0] in "./" else f"./{name}"
        return Path(name), shown
    if name[0] not in "./":
        folders = [*os.environ.get("CRASH_EXTENSIONS", "").split(":"), *CRASH_FOLDERS]
        for folder in [*filter(None, folders), str(SHIPPED)]:
            path = Path(folder) / name
            if path.is_file():
                return path, str(path)
    raise CommandError(f"{name}: no such file, here or in crash's extensions folders")


def load(name: str) -> None:
    """Load the extension ``name``, and run its ``loaded()``.

    :raises CommandError: there is no such file, or crash already has a command of that name.
    """
    path, shown = find(name)
    real = path.resolve()
    extension = next((loaded for loaded in _loaded if loaded.path == real), None)
    if extension is None:
        extension = Extension(real, shown)
        _execute(extension)
        _register(extension)
        print(f"{shown}: loaded")
    elif extension.ready:
        print(f"{shown}: already loaded")
        return
    # A file whose loaded() failed before is loaded: run loaded() again
    hook = getattr(extension.module, "loaded", None)
    if hook is not None:
        hook()
    extension.ready = True


def _execute(extension: Extension) -> None:
    """Run the file of an extension, which registers its commands.

    :raises CommandError: crash already has a command of that name.
    """
    name = f"crash_extension_{len(_alive)}_{extension.path.stem}"
    spec = importlib.util.spec_from_file_location(name, extension.path)
    assert spec is not None and spec.loader is not None
    extension.module = importlib.util.module_from_spec(spec)
    sys.modules[name] = extension.module
    _loading.append(extension)
    try:
        spec.loader.exec_module(extension.module)
        for taken in extension.commands:
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

    def text(value: str) -> Any:
        _alive.append(ffi.new("char[]", value.encode("utf-8", "replace")))
        return _alive[-1]

    names, helps = [], []
    for entry in extension.commands.values():
        names.append(text(entry.name))
        _alive.append(ffi.new("char *[]", [*map(text, entry.help_data()), ffi.NULL]))
        helps.append(_alive[-1])
    minimal = [entry.minimal for entry in extension.commands.values()]
    extension.entry = lib.host_add_extension(
        extension.filename.encode(),
        len(names),
        ffi.new("char *[]", names),
        ffi.new("char **[]", helps),
        ffi.new("int[]", minimal),
    )
    if extension.entry == ffi.NULL:
        raise CommandError(f"{extension.filename}: crash has no memory left for its commands")
    _loaded.append(extension)


def unload(name: str) -> bool:
    """Unload the extension ``name``; return False when it is not loaded."""
    for extension in reversed(_loaded):
        if extension.path == _resolved(name):
            _unload(extension)
            return True
    return False


def _resolved(name: str) -> Path | None:
    try:
        return find(name)[0].resolve()
    except CommandError:
        return None


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


def filenames() -> Iterator[bytes]:
    """Yield the file names of all extensions, of shared objects too, the last loaded first."""
    number = 0
    while (name := lib.host_extension(number)) != ffi.NULL:
        yield ffi.string(name)
        number += 1


def is_loaded(name: str) -> bool:
    """Return True when the extension ``name``, a Python file, is loaded."""
    return any(extension.path == _resolved(name) for extension in _loaded)


def find_command(name: str) -> Command | None:
    """Return the command ``name`` of a loaded extension, or None."""
    for extension in _loaded:
        if name in extension.commands:
            return extension.commands[name]
    return None


def extend(words: list[str]) -> None:
    """Run the command ``extend``, when it has a word that crash's own ``extend`` does not know.

    :raises CommandError: an option or a file is wrong, or crash refused a shared object.
    """
    options = [word for word in words if word.startswith("-")]
    files = [word for word in words if not word.startswith("-")]
    if set(options) - {"-l", "-u"} or len(set(options)) > 1:
        raise CommandError(f"invalid options: {' '.join(options)} (see 'help extend')")
    own = c_text(lib.host_path())
    if "-u" not in options:
        lib.host_output_to_terminal()  # loading may start a full session, which is not for a pager
        for name in files:
            load(name) if name.endswith(".py") else _shared_object(lib.host_load_object, name)
        return
    if not files:
        unload_all()
        _shared_object(lib.host_original_extend)
    for name in files:
        if name.endswith(".py"):
            if not unload(name):
                raise CommandError(f"{name}: not loaded")
            continue
        if Path(name).exists() and own and Path(name).samefile(own):
            unload_all()
        _shared_object(lib.host_unload_object, name)


def _shared_object(function: Callable[..., int], *names: str) -> None:
    if not succeeded(function(*(name.encode() for name in names))):
        raise CommandError(message() or "crash could not do it, and gave no reason")
