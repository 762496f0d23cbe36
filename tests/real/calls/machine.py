# SPDX-License-Identifier: GPL-3.0-or-later
"""What the calls are about: drgn's helpers by name, and things that the lab's machine has."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

import drgn
import drgn.helpers.common
import drgn.helpers.linux

Call = Callable[[drgn.Program], object]
PAGE = 4096


@cache
def modules() -> list[ModuleType]:
    """Return the modules of drgn's helpers."""
    folders = (drgn.helpers.linux, drgn.helpers.common)
    return [
        importlib.import_module(f"{folder.__name__}.{module.name}")
        for folder in folders
        for module in pkgutil.iter_modules(folder.__path__)
    ]


class Helpers:
    """drgn's helpers by name."""

    def __getattr__(self, name: str) -> Any:
        """Return a helper.

        :raises LookupError: this release of drgn lacks it.
        """
        for module in modules():
            if name in getattr(module, "__all__", ()):
                return getattr(module, name)
        raise LookupError(f"drgn has no helper {name}")


h = Helpers()


def helper(name: str) -> Call:
    """Return the call of a helper that needs a program alone."""

    def call(prog: drgn.Program) -> object:
        return getattr(h, name)(prog)

    return call


def init(prog: drgn.Program) -> Any:
    """Return the task of the program that the lab's machine runs."""
    return h.find_task(prog, 1)


def tasks(prog: drgn.Program) -> list[Any]:
    return list(h.for_each_task(prog))


def programs(prog: drgn.Program) -> list[Any]:
    """Return the tasks that are programs."""
    return [task for task in tasks(prog) if task.mm]


def named(prog: drgn.Program, name: str) -> Any:
    """Return the first task of that name.

    :raises LookupError: there is none.
    """
    for task in tasks(prog):
        if task.comm.string_() == name.encode():
            return task
    raise LookupError(f"there is no task {name}")


def caches(prog: drgn.Program) -> dict[str, Any]:
    """Return the slab caches by name."""
    return {found.name.string_().decode(): found for found in h.for_each_slab_cache(prog)}


def virtio(prog: drgn.Program) -> Any:
    """Return a module that the lab's machine has with Xen and without.

    :raises LookupError: it is not loaded, as in a guest.
    """
    module = h.find_module(prog, "virtio_blk")
    if not module:
        raise LookupError("there is no module virtio_blk")
    return module


def module_page(prog: drgn.Program) -> int:
    """Return the address of a page of a module, or where there are none, of ``vmalloc()``."""
    for module in h.for_each_module(prog):
        return int(module.value_()) & -PAGE
    return int(areas(prog)[0].va_start)


def banner(prog: drgn.Program) -> int:
    """Return an address in the kernel's constants."""
    return int(prog.symbol("linux_banner").address)


def areas(prog: drgn.Program) -> list[Any]:
    """Return the areas of ``vmalloc()`` that have pages."""
    return [va for va in h.for_each_vmap_area(prog) if va.vm and va.vm.nr_pages and va.vm.pages]


def user_pages(prog: drgn.Program) -> Iterator[tuple[Any, int]]:
    """Yield pages of programs, of their stacks and of their code: the mm and an address."""
    for task in programs(prog):
        yield task.mm, int(task.mm.start_stack) & -PAGE
        yield task.mm, int(task.mm.start_code) & -PAGE


def file_pages(prog: drgn.Program) -> list[Any]:
    """Return the pages of a file in the page cache: the program that everything is a link to."""
    inode = h.path_lookup(prog, "/bin/busybox").dentry.d_inode
    return [page for _, page in h.inode_for_each_page(inode)]


def physical(prog: drgn.Program, page: Any) -> bytes:
    """Return the content of a page, read by its physical address."""
    return bytes(prog.read(int(h.page_to_phys(page)), PAGE, physical=True))


def names(prog: drgn.Program, task: Any) -> list[str]:
    """Return the names of the functions on a task's stack."""
    return [frame.name for frame in prog.stack_trace(task) if frame.name]


def agree(pairs: Iterable[tuple[object, object]]) -> str:
    """Return "agree" if there are pairs, and both of each are equal; else the first that differ."""
    checked = 0
    for one, other in pairs:
        checked += 1
        if one != other:
            return f"pair {checked}: {one!r:.200} is not {other!r:.200}"
    return "agree" if checked else "there is nothing to compare"


def fault(read: Callable[[], object]) -> str:
    """Return how a read ends that must fail."""
    try:
        return f"it returned {read()!r:.100}"
    except drgn.FaultError as error:
        return f"a fault at {error.address:x}"
