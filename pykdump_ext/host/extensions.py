"""Extensions written in Python: finding, loading and unloading them, and their commands."""

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
from . import crash

SHIPPED = Path(__file__).parent.parent / "extensions"
# Where crash itself looks for extensions (extensions.c, in_extensions_library())
CRASH_FOLDERS = ("/usr/lib64/crash/extensions", "/usr/lib/crash/extensions", "./extensions")


class CommandError(P2mError):
    """A command cannot do what was asked; the text is shown as crash shows errors."""


@dataclass
class Command:
    """A command of an extension: ``function`` is given what the parser made of its words."""

    name: str
    function: Callable[[Any], object]
    parser: argparse.ArgumentParser | None
    usage: str
    help: str
    minimal: bool

    def run(self, words: list[str]) -> None:
        """Run the command with the words behind its name.

        :raises CommandError: the words do not fit its parser.
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
        """Return crash's help_data: name, line, synopsis, then the text line by line."""
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
    """Escape a line of help: crash prints one with ``%s`` in it as a format."""
    return line.replace("%", "%%") if "%s" in line else line


@dataclass
class Extension:
    """A loaded file, its commands, and the entry of crash's table that has them."""

    path: Path
    filename: str
    commands: dict[str, Command] = field(default_factory=dict)
    module: ModuleType | None = None
    entry: Any = None
    ready: bool = False  # its function ``loaded`` has returned


_loaded: list[Extension] = []
_loading: list[Extension] = []
# What crash's tables point to.  Never freed: an extension may be unloaded by a
# command of its own, and crash looks at that command's name once more.
_alive: list[Any] = []


def command(
    name: str,
    *,
    parser: argparse.ArgumentParser | None = None,
    usage: str = "",
    help: str = "",
    minimal: bool = False,
) -> Callable[[Callable[[Any], object]], Callable[[Any], object]]:
    """Make the decorated function the crash command ``name``.

    :param parser: takes the command's words apart; the function is given the
        namespace.  Without one it is given the words, a list of strings.
    :param usage: the words it takes, for ``help``, where there is no parser.
    :param help: one line that says what it does.
    :param minimal: the command also works in a session of ``crash --minimal``.
    """

    def register(function: Callable[[Any], object]) -> Callable[[Any], object]:
        if not _loading:
            raise CommandError(f"{name}: commands are registered while 'extend' loads their file")
        if not name or len(name.split()) != 1:
            raise CommandError(f"{name!r} cannot be the name of a command: it is not one word")
        if parser:
            parser.prog = name
        line = help or (parser.description if parser and parser.description else "")
        _loading[-1].commands[name] = Command(name, function, parser, usage, line, minimal)
        return function

    return register


def find(name: str) -> tuple[Path, str]:
    """Return the file that ``extend name`` means, and the name to show for it.

    As crash looks for shared objects: the path itself, ``CRASH_EXTENSIONS``,
    crash's own folders; then the extensions that come with this package.

    :raises CommandError: there is none.
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
    """Load the extension ``name``.

    :raises CommandError: it is not found, or a command of it is there already.
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
    # Also what it tried before and could not do: to be loaded again is to try again
    hook = getattr(extension.module, "loaded", None)
    if hook is not None:
        hook()
    extension.ready = True


def _execute(extension: Extension) -> None:
    """Run the file of an extension, which registers its commands."""
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
    """Put the extension and its commands into crash's table."""

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
        raise CommandError(f"{extension.filename}: no memory")
    _loaded.append(extension)


def unload(name: str) -> bool:
    """Unload the extension ``name``; False when it is not loaded."""
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
    """Unload every extension written in Python, the last loaded first."""
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
    """Yield the file names of all extensions, shared objects too, the last loaded first."""
    number = 0
    while (name := lib.host_extension(number)) != ffi.NULL:
        yield ffi.string(name)
        number += 1


def is_loaded(name: str) -> bool:
    """True when the extension of that file is loaded."""
    return any(extension.path == _resolved(name) for extension in _loaded)


def find_command(name: str) -> Command | None:
    """Return the command ``name`` of a loaded extension, or None."""
    for extension in _loaded:
        if name in extension.commands:
            return extension.commands[name]
    return None


def extend(words: list[str]) -> None:
    """The command ``extend``, called where a word means something to us."""
    options = [word for word in words if word.startswith("-")]
    files = [word for word in words if not word.startswith("-")]
    if set(options) - {"-l", "-u"} or len(set(options)) > 1:
        raise CommandError(f"invalid options: {' '.join(options)} (see 'help extend')")
    own = crash._text(lib.host_path())
    if "-u" not in options:
        lib.host_output_to_terminal()  # what loading starts may be a session, not a page of text
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
    if not crash._found(function(*(name.encode() for name in names))):
        raise CommandError(crash._message() or "crash gave the command up")
