# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress of work that takes long, shown where a command says that it has a terminal.

with shown(sys.stderr.isatty()):
    for leaf in watched(leaves, len(leaves), "comparing leaves"):
        ...
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["shown", "watched"]

PATIENCE = 1.0  # seconds of work without a word
EVERY = 64  # items between two looks at the clock

Item = TypeVar("Item")

_bars: list[Progress] = []  # that are on the terminal now
_on = [False]


@contextmanager
def shown(on: bool = True) -> Iterator[None]:
    """Show, on the terminal of standard error, the progress of what runs in this block.

    With ``on`` False show nothing. However the block ends, nothing stays on the terminal.
    """
    before, _on[0] = _on[0], on
    try:
        yield
    finally:
        _on[0] = before
        while _bars:
            _bars.pop().stop()


def watched(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Pass items on one by one; once that takes over a second, show how far it is.

    :param total: the number of items.
    :param what: what is being done with them, such as ``comparing leaves``.
    """
    if not _on[0]:
        yield from items
        return
    start = time.monotonic()
    bar: Progress | None = None
    task = None
    for done, item in enumerate(items):
        yield item
        if done % EVERY or time.monotonic() - start < PATIENCE:
            continue
        if bar is None:
            bar = _new_bar()
            task = bar.add_task(f"p2mfix: {what}", total=total)
        if task is not None:
            bar.update(task, completed=done)
    if bar in _bars:
        _bars.remove(bar)
        bar.stop()


def _new_bar() -> Progress:
    """Return a new bar on the terminal."""
    from rich.console import Console  # noqa: PLC0415  (takes 0.1 s)
    from rich.progress import Progress  # noqa: PLC0415

    terminal = Console(file=os.fdopen(os.dup(2), "w"))  # in a session sys.stderr is crash's output
    bar = Progress(console=terminal, transient=True)
    _bars.append(bar)
    bar.start()
    return bar
