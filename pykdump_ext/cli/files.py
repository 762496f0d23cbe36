# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a command line, sorted into dumps and namelists."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import P2mError, printable
from ..linux.namelist import Namelist, group_namelists, is_namelist
from ..linux.packed import first_bytes
from ..machine.dumps import HEAD, begins_as_dump, group_dumps, is_dump, open_dump
from ..opened import OpenedDump

__all__ = ["open_one", "open_with_namelist", "say_namelist", "sort_files"]

KDUMPS = ("vmcore", "vmcore-incomplete")  # as kdump calls them; on a full disk they are empty


def sort_files(paths: Sequence[str]) -> tuple[list[list[str]], list[Namelist]]:
    """Return the files of each dump among these files and folders, and the namelists.

    A file that is neither a dump nor a namelist counts as a dump: the error when it is opened
    says what is wrong with it. Files of a folder that are called vmlinux are namelists.

    :raises P2mError: there is no dump among them, or a namelist cannot be read.
    """
    dumps: list[str] = []
    in_folders: list[str] = []
    given: list[str] = []
    found: list[Namelist] = []
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112  (False without permission)
            inside = [*map(str, sorted(Path(path).rglob("*")))]
            found += _in_folder(inside)
            # A packed dump, a file without read permission and an empty vmcore are kept: the
            # report shows why
            in_folders += [
                file
                for file in inside
                if begins_as_dump(first_bytes(file, HEAD))
                or (Path(file).name in KDUMPS and os.path.isfile(file))  # noqa: PTH113
                or (os.path.isfile(file) and not os.access(file, os.R_OK))  # noqa: PTH113
            ]
        elif is_dump(path):
            dumps.append(path)
        elif is_namelist(path):
            given.append(path)
        else:
            dumps.append(path)
    if not dumps and not in_folders:
        raise P2mError("there is no dump among these files")
    given_too = {os.path.realpath(path) for path in dumps}
    others = {os.path.realpath(path): path for path in in_folders}  # each once
    in_folders = [path for real, path in others.items() if real not in given_too]
    groups = group_dumps(dumps, anywhere=True) + group_dumps(in_folders)
    return groups, [*group_namelists(given), *found]


def _in_folder(paths: Sequence[str]) -> Iterator[Namelist]:
    """Yield the namelists among the files of a folder, by name; say what cannot be read."""
    named = [path for path in paths if Path(path).name.startswith("vmlinux") and is_namelist(path)]
    folders = dict.fromkeys(Path(path).parent for path in named)
    for folder in folders:
        try:
            yield from group_namelists([path for path in named if Path(path).parent == folder])
        except P2mError as error:
            print(f"p2mfix: not used: {error}", file=sys.stderr)


def open_one(paths: Sequence[str]) -> OpenedDump:
    """Open the one dump among these files, with the namelists among them.

    :raises P2mError: there is no dump or more than one, or the dump cannot be read or is not one
        of a Xen host.
    """
    dumps, namelists = sort_files(paths)
    files = [path for group in dumps for path in group]
    if len(dumps) > 1:
        raise P2mError(f"give one dump: {', '.join(files)} are not the files of one split dump")
    opened = OpenedDump(open_dump(files), namelists, files)
    if opened.note is None:
        raise P2mError(f"{' '.join(files)}: not a dump of a Xen host")
    return opened


def open_with_namelist(paths: Sequence[str]) -> OpenedDump:
    """Do the same; if none is given, take the namelist that is installed or beside the dump.

    :raises P2mError: as :func:`open_one`.
    """
    opened = open_one(paths)
    opened.look_for_namelist()
    say_namelist(opened)
    return opened


def say_namelist(opened: OpenedDump) -> None:
    """Print which namelist was taken, and that it is of another build than the dump's kernel."""
    if opened.found is not None:
        shown = printable(str(opened.found.path))
        print(f"p2mfix: no vmlinux was given: taking {shown}", file=sys.stderr)
    if opened.namelist is not None and opened.other_build:
        print(f"p2mfix: {opened.other_build}", file=sys.stderr)
