# SPDX-License-Identifier: GPL-3.0-or-later
"""``pykdump-ext``: the path of the shared object for crash, its set-up, and its check."""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Optional

from .. import __version__
from ..errors import P2mError
from ..installed import HOST, add_host, build_again, built
from ..launch.crash_versions import installed_crash
from ..launch.index_cache import data_folder
from ..launch.libraries import STUB, host_path
from ..launch.pykdump import registered
from ..outputs import new_file
from . import fail
from .checkout import LINE, checkout_state, register, unregister
from .gdbinit import add_fast_start, fast_start_state, remove_fast_start
from .user_files import read_lines, write_lines

__all__ = ["main"]


# --------------------------------------------------------------------------
# ~/.crashrc, and the stub that it loads

LINK = ".installed"  # STUB_LINK of launch/stub.h


def is_ours(line: str) -> bool:
    """Return True for a line of ``.crashrc`` that loads the host, by its stub or by its path."""
    words = line.split()
    return len(words) == 2 and words[0] == "extend" and Path(words[1]).name == HOST.name


def link_of(stub: Path) -> Path:
    """Return the path of the link that leads from a stub to the host."""
    return stub.with_name(stub.name + LINK)


def stub_path() -> Path:
    """Return where the stub belongs: in the user's data folder, which outlives the environment.

    :raises P2mError: crash cannot load a file from there.
    """
    folder = data_folder()
    if any(letter.isspace() for letter in str(folder)):
        raise P2mError(
            f"{folder}: crash cannot load a file from there, because of the blank in this path:"
            " set XDG_DATA_HOME to a folder without one"
        )
    return folder / HOST.name


def put_stub() -> Path:
    """Put the stub and its link where they belong, if they are not there; return its path.

    :raises P2mError: the host is not built, or crash cannot load a file from that folder.
    :raises OSError: they cannot be written.
    """
    host, stub = host_path(), stub_path()
    link, content = link_of(stub), STUB.read_bytes()
    stub.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink() or link.readlink() != host:
        link.unlink(missing_ok=True)
        link.symlink_to(host)
    if not stub.is_file() or stub.read_bytes() != content:
        stub.unlink(missing_ok=True)  # not written into: crash may run it
        with new_file(stub) as (_, unfinished):
            unfinished.write_bytes(content)
    return stub


def remove_stub(stub: Path) -> None:
    """Remove a stub, its link, and its folder if nothing else is in it.

    :raises OSError: one of them cannot be removed.
    """
    link = link_of(stub)
    if not link.is_symlink():
        return  # the host itself, or nothing
    stub.unlink(missing_ok=True)
    link.unlink()
    with suppress(OSError):
        stub.parent.rmdir()


def edit_crashrc(path: Path, remove: bool) -> str:
    """Add our lines to a ``.crashrc``, or remove them; return a sentence on what was done.

    One loads the stub, which is put into its place, or removed as well; with a registered checkout
    of PyKdump another one loads its programs.  A file that had nothing else is removed as a whole.

    :raises P2mError: the shared object is not built, or crash cannot load the stub.
    :raises OSError: the file cannot be read or written.
    """
    old = read_lines(path)
    ours = [line for line in old if is_ours(line) or line.split() == LINE.split()]
    others = [line for line in old if line not in ours]
    if remove:
        stubs = {Path(line.split()[1]) for line in ours if is_ours(line)}
        with suppress(P2mError):
            stubs.add(stub_path())
        for stub in stubs:
            remove_stub(stub)
        what = "line" if len(ours) < 2 else "lines"
        if not ours:
            return f"{path}: has no line of pykdump_ext to remove"
        if not others and not path.is_symlink():
            path.unlink()
            return f"{path}: removed, it had the {what} of pykdump_ext only"
        write_lines(path, others)
        return f"{path}: {what} removed"
    wanted = [f"extend {put_stub()}\n", *([LINE] if registered() else [])]
    if ours == wanted:
        return f"{path}: has the {'line' if len(wanted) < 2 else 'lines'} already"
    added = [line.strip() for line in wanted if line not in ours]
    if others and not others[-1].endswith("\n"):
        others[-1] += "\n"
    write_lines(path, [*others, *wanted])
    what = "line" if len(added) < 2 else "lines"
    return f"{path}: {what} added: {'; '.join(added)}"


# --------------------------------------------------------------------------
# doctor


Finding = tuple[Optional[bool], str, str]
"""A check: True if it passed, None if what it looks for may be left out; its name; what was found
or is to be done."""


MARKS = {True: "ok ", False: "BAD", None: "no "}


def for_building() -> Iterator[Finding]:
    """Yield what is there of that which only the build needs."""
    headers = Path(os.environ.get("CRASH_INCLUDE", "/usr/include/crash")) / "defs.h"
    python = Path(sysconfig.get_path("include")) / "Python.h"
    compiler = os.environ.get("CC", "cc")
    for name, there, path, packages in (
        ("defs.h", headers.is_file(), headers, "crash or crash-devel"),
        ("Python.h", python.is_file(), python, "libpython3-dev or python3-devel"),
        ("compiler", shutil.which(compiler), compiler, "gcc and libc6-dev, or gcc"),
    ):
        yield bool(there), name, str(path) if there else f"{path} not found: install {packages}"


def for_running() -> Iterator[Finding]:
    """Yield what is there of that which a session needs; without a host there are none."""
    running = sysconfig.get_python_version()
    yield True, "pykdump_ext", f"{__version__} in {HOST.parent.parent}"
    yield True, "Python", f"{sys.version.split()[0]} ({sys.executable})"
    if not HOST.is_file():
        yield None, "host", f"left out when this was installed: to add it, {add_host()}"
        return
    crash = None
    try:
        path, crash = installed_crash()
        yield True, "crash", f"{crash} ({path})"
    except P2mError as error:
        yield False, "crash", str(error)
    if any(letter.isspace() for letter in str(HOST)):
        yield (
            False,
            "path",
            f"{HOST}: crash cannot load it, because of the blank in its path:"
            " install the package into a venv in another folder",
        )
    for_crash, for_python = built("BUILT_FOR_CRASH"), built("BUILT_FOR_PYTHON")
    fits = crash in (None, for_crash) and for_python == running
    yield (
        fits,
        "host",
        f"built for crash {for_crash} and Python {for_python}"
        + ("" if fits else f": {build_again()}"),
    )
    library = sysconfig.get_config_var("INSTSONAME") or "libpython"
    try:
        ctypes.CDLL(library)
        yield True, "libpython", library
    except OSError:
        folder = Path(sysconfig.get_config_var("LIBDIR") or "/nonexistent")
        there = (folder / library).exists()
        yield (
            there,
            "libpython",
            str(folder / library)
            if there
            else (f"{library} not found: install libpython3-dev or python3-libs"),
        )
    crashrc = Path("~/.crashrc").expanduser()
    lines = crashrc.read_text(errors="replace").splitlines() if crashrc.exists() else []
    ours = [Path(line.split()[1]) for line in lines if is_ours(line)]
    found = [
        link_of(path).readlink() if path.is_file() and link_of(path).is_symlink() else path
        for path in ours
    ]
    if found == [HOST] == ours:
        yield (
            True,
            ".crashrc",
            f"{crashrc} loads the host, and would fail in each session once the host is gone:"
            " pykdump-ext setup makes the line harmless",
        )
    elif found == [HOST]:
        yield True, ".crashrc", f"{crashrc} loads the host, by {ours[0]}"
    elif ours:
        yield False, ".crashrc", f"{crashrc} loads {found[0]}: run pykdump-ext setup"
    else:
        yield None, ".crashrc", f"{crashrc} does not load the host: pykdump-ext setup adds the line"
    good, text = checkout_state(any(line.split() == LINE.split() for line in lines))
    yield good, "PyKdump", text
    yield True, "fast start", fast_start_state()


def doctor() -> bool:
    """Print the findings; return True when all checks passed that a session needs."""
    well = is_set_up = can_build = True
    for good, what, text in for_running():
        well = well and good is not False
        is_set_up = is_set_up and good is not None
        print(f"{MARKS[good]}  {what:<12} {text}")
    has_host = HOST.is_file()
    print("only to build it again:" if has_host else "only to build the host:")
    for good, what, text in for_building():
        can_build = can_build and bool(good)
        print(f"{'ok ' if good else 'no '}  {what:<12} {text}")
    if not well:
        print("not all is well: do what the BAD lines say")
        return False
    if not has_host:
        print("the commands of p2mfix work that need no crash; sessions of crash need the host")
        return True
    if is_set_up:
        found = "all is well"
    else:
        found = "p2mfix is ready; a session of plain crash has Python only after pykdump-ext setup"
    print(found + ("" if can_build else ", but it could not be built again here"))
    return True


# --------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``pykdump-ext``."""
    made = argparse.ArgumentParser(
        prog="pykdump-ext", description="Set up and check Python inside crash."
    )
    made.add_argument("--version", action="version", version=f"pykdump-ext {__version__}")
    actions = made.add_subparsers(dest="action", required=True, metavar="action")
    actions.add_parser("host", help="print the path of the shared object, for crash's extend")
    setup = actions.add_parser(
        "setup",
        help="add a line to ~/.crashrc, so that all sessions of crash load it",
        description="Add a line to ~/.crashrc, so that all sessions of crash load the host.",
    )
    what = setup.add_mutually_exclusive_group()
    what.add_argument(
        "--fast-start",
        action="store_true",
        help="instead add lines to ~/.gdbinit, by which crash 9 starts faster from the second"
        " time on that it opens a kernel; docs/performance.md says what else changes",
    )
    what.add_argument(
        "--pykdump",
        metavar="PATH",
        type=Path,
        help="also make the programs of PyKdump commands of crash; PATH is a checkout of PyKdump",
    )
    what.add_argument("--remove", action="store_true", help="remove all lines, and what they need")
    actions.add_parser("doctor", help="check what is installed, and say what to do")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``pykdump-ext``."""
    args = parser().parse_args(argv)
    try:
        if args.action == "host":
            print(host_path())
        elif args.action == "setup" and args.fast_start:
            print(*add_fast_start(), sep="\n")
        elif args.action == "setup":
            done: list[str] = []
            if args.pykdump:
                put_stub()  # or nothing is registered
                done = [*register(args.pykdump)]
            elif args.remove:
                done = [*remove_fast_start(), *unregister()]
            print(edit_crashrc(Path("~/.crashrc").expanduser(), args.remove), *done, sep="\n")
        elif not doctor():
            raise SystemExit(1)
    except (P2mError, OSError) as error:
        fail("pykdump-ext", error)
