# SPDX-License-Identifier: GPL-3.0-or-later
"""A checkout of PyKdump: where it is registered, and whether its programs can run here."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path

from ..errors import P2mError
from ..installed import pip_install
from .index_cache import data_folder

__all__ = ["INIT", "checked", "extras", "lacking", "link", "registered"]

INIT = "PyKdumpInit"
"""The program of PyKdump that makes others commands of crash."""
API = Path("pykdump/API.py")
PARTS = (Path(f"progs/{INIT}.py"), API)
MODULES = ("pyparsing", "crccheck")
"""What PyKdump imports and Python has not; a checkout has both in folders of its own."""


def link() -> Path:
    """Return the path of the link that leads to the registered checkout."""
    return data_folder() / "pykdump"


def registered() -> Path | None:
    """Return the checkout that ``pykdump-ext setup --pykdump`` has registered, or None."""
    return link().readlink() if link().is_symlink() else None


def checked(checkout: Path) -> Path:
    """Return the path of a checkout of PyKdump as it is stored.

    :raises P2mError: it is none, or one for Python 2.
    """
    path = checkout.expanduser().absolute()
    if not path.is_dir():
        raise P2mError(f"{path}: no such folder: give that of a checkout of PyKdump")
    for part in PARTS:
        if not (path / part).is_file():
            raise P2mError(
                f"{path} is not a checkout of PyKdump, it has no {part}: give the folder that"
                " git clone made"
            )
    try:
        compile((path / API).read_bytes(), str(API), "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        raise P2mError(
            f"{path} has a PyKdump for Python 2: check out its branch dev+v5.16, or a later one"
        ) from None
    return path


def extras(checkout: Path) -> list[str]:
    """Return the folders of a checkout that have modules of others."""
    return [str(checkout / "dist-packages"), str(checkout / "Extension")]


def lacking(checkout: Path) -> list[tuple[bool, str]]:
    """Return for each module that is not here whether no program runs without it, and a sentence
    with what installs it."""
    found = []
    if PathFinder.find_spec("drgn") is None:
        drgn = (
            "drgn is not installed, so types come from crash's gdb, which is slower:"
            f" {pip_install('pykdump')}"
        )
        found.append((False, drgn))
    for name in MODULES:
        if PathFinder.find_spec(name, [*sys.path, *extras(checkout)]) is None:
            module = (
                f"{name} is not installed, and programs of PyKdump import it:"
                f" {sys.prefix}/bin/pip install {name}"
            )
            found.append((True, module))
    return found
