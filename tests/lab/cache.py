# SPDX-License-Identifier: GPL-3.0-or-later
"""Products of the lab: made once, kept outside the clone, made again when stale.

A product is a folder named after what it is and a fingerprint of all it was
made from, so that a change of a step or of a package version makes a new one.
Of each name the two products that were used last stay: two clones of other ages
have one each, and so have a package's versions of two releases.  What a running
process uses stays as well, however many there are.  Two runs that want the same
product at once wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

KEPT = 2
"""How many products of a name stay, the newest included."""


def root() -> Path:
    """Return the cache folder: ``$PYKDUMP_EXT_CACHE``, or one of the user's own."""
    chosen = os.environ.get("PYKDUMP_EXT_CACHE")
    if chosen:
        return Path(chosen).resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(base).expanduser() / "pykdump_ext").resolve()


def say(text: str) -> None:
    """Print a progress line, at once, on standard error."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def _lock_file(name: str) -> TextIO:
    folder = root() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / name).open("w")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock called ``name``; a second holder waits and says so."""
    with _lock_file(name) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: another run is making it, waiting")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


_held: dict[Path, TextIO] = {}


def _use_lock(folder: Path) -> TextIO:
    return _lock_file(f"{folder.relative_to(root())}.use".replace("/", "_"))


def hold(folder: Path) -> None:
    """Keep other runs from removing a folder of the cache until this process ends.

    The folder need not exist yet: who holds it first and then looks for it, finds it whole
    or not at all.
    """
    if folder not in _held:
        _held[folder] = _use_lock(folder)
        fcntl.flock(_held[folder], fcntl.LOCK_SH)


@contextmanager
def unused(folder: Path) -> Iterator[bool]:
    """Yield True if no process holds the folder; none gets hold of it until the block ends."""
    with _use_lock(folder) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{folder.name}: stays, another run uses it")
            yield False
        else:
            yield True


def note_use(folder: Path) -> None:
    """Make now the time of the folder, by which those that were used last are known."""
    now = time.time_ns()  # finer than the time that the file system would take
    with suppress(OSError):
        os.utime(folder, ns=(now, now))


def product(name: str, made_from: object, make: Callable[[Path], None]) -> Path:
    """Return the folder of product ``name``, making it when it is not there.

    ``made_from`` is anything whose ``repr`` changes when the product must be
    made again: versions, options, the number of the step itself.  ``make`` is
    given an empty folder; the product appears only once it has returned, and
    stays until this process ends.
    """
    fingerprint = hashlib.sha256(repr(made_from).encode()).hexdigest()[:12]
    final = root() / f"{name}-{fingerprint}"
    hold(final)
    if final.is_dir():
        note_use(final)
        return final
    with locked(name):
        if final.is_dir():
            return final
        unfinished = root() / f"{name}-{fingerprint}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        say(f"{name}: making it")
        start = time.monotonic()
        make(unfinished)
        unfinished.rename(final)
        say(f"{name}: made in {time.monotonic() - start:.0f} s")
        note_use(final)
        products = root().glob(f"{name}-" + "[0-9a-f]" * 12)
        for old in sorted(products, key=lambda path: path.stat().st_mtime)[:-KEPT]:
            with unused(old) as free:
                if free:
                    say(f"{name}: removing one made from older parts")
                    shutil.rmtree(old, ignore_errors=True)
    return final
