# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``extend``, for what crash's own ``extend`` does not know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from crash_host import lib

from .commands import CommandError
from .extensions import SHIPPED, find_file, load, named, unload, unload_all
from .guarded import c_name, c_text, message, succeeded

__all__ = ["extend", "extend_shipped"]


def extend(words: list[str]) -> None:
    """Run the command ``extend``, when it has a word that crash's own ``extend`` does not know.

    :raises CommandError: an option or a file is wrong, or crash refused a shared object.
    """
    options = [word for word in words if word.startswith("-")]
    names = [word for word in words if not word.startswith("-")]
    if set(options) - {"-l", "-u"} or len(set(options)) > 1:
        raise CommandError(f"invalid options: {' '.join(options)} (see 'help extend')")
    if "-u" not in options:
        lib.host_output_to_terminal()  # loading may start a full session, which is not for a pager
        for name in names:
            _load(name)
        return
    if not names:
        unload_all()
        _shared_object(lib.host_original_extend)
    for name in names:
        _unload(name)


def extend_shipped(words: list[str]) -> None:
    """Load extensions that came with this package, whatever lies in the current folder.

    :raises CommandError: there is no such file.
    """
    for name in words:
        _load(str(SHIPPED / name))


def _load(name: str) -> None:
    found = find_file(name)
    if found is None and name.endswith(".py"):
        raise CommandError(f"{name}: no such file, here or in crash's extensions folders")
    if found is None or found[0].suffix != ".py":
        _shared_object(lib.host_load_object, name)
        return
    load(*found)


def _unload(name: str) -> None:
    loaded = named(name)
    if len(loaded) > 1:
        raise CommandError(f"{name}: more than one is loaded, give the path: {' '.join(loaded)}")
    if loaded and unload(loaded[0]):
        return
    if not loaded and name.endswith(".py"):
        raise CommandError(f"{name}: not loaded")
    filename = loaded[0] if loaded else name
    own = c_text(lib.host_path())
    if own and Path(filename).exists() and Path(filename).samefile(own):
        unload_all()
    _shared_object(lib.host_unload_object, filename)


def _shared_object(function: Callable[..., int], *names: str) -> None:
    if not succeeded(function(*map(c_name, names))):
        raise CommandError(message() or "crash could not do it, and gave no reason")
