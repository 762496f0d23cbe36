# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine of the lab has beside the usual: modules, and programs of packages."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from .dump import (
    CRASHES,
    Source,
    folders_of_libraries,
    initramfs_that_starts,
    libraries_of,
    put_modules,
)
from .packages import HOST


def _needs(content: bytes) -> list[str]:
    """Return the modules that a module needs, as its own section .modinfo names them."""
    found = re.search(rb"\0depends=([\w,-]*)\0", content)
    return [name for name in found[1].decode().split(",") if name] if found else []


def _with_needs(parts: Source, names: Iterable[str], seen: set[str]) -> Iterator[str]:
    """Yield modules and those that they need, which come first."""
    for name in names:
        content = parts.module(name)
        if content is not None and name.replace("-", "_") not in seen:
            seen.add(name.replace("-", "_"))
            yield from _with_needs(parts, _needs(content), seen)
            yield name


def put_added_modules(parts: Source, modules: Iterable[str], tree: Path) -> None:
    """Put modules and those that they need into ``tree``'s ``devices``, ``order`` among them."""
    (tree / "modules").mkdir(parents=True)
    loaded = {"virtio", "virtio_ring"}
    put_modules(parts, _with_needs(parts, modules, loaded), tree)
    (tree / "modules").rename(tree / "devices")


def put_dmsetup(tree: Path) -> None:
    """Put ``dmsetup`` with its libraries into ``tree``."""
    for name in ("sbin", "lib"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    dmsetup = HOST.file("dmsetup", "sbin/dmsetup")
    shutil.copy(dmsetup, tree / "sbin/dmsetup")
    for library in libraries_of(dmsetup, folders_of_libraries(HOST, "dmsetup")):
        shutil.copy(library, tree / "lib" / library.name)


def files_with_storage(
    parts: Source, modules: Iterable[str], start: str, folder: Path, crashes: str = CRASHES
) -> bytes:
    """Return an initramfs with modules, ``dmsetup``, and an init that runs ``start`` in dom0."""
    tree = folder / "tree"
    put_added_modules(parts, modules, tree)
    put_dmsetup(tree)
    return initramfs_that_starts(start, tree, folder, crashes)
