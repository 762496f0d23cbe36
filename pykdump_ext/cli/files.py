# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a command line, sorted into dumps and namelists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import P2mError
from ..linux.namelist import Namelist
from ..machine.dumps import group_dumps, is_dump, open_dump
from ..opened import OpenedDump

__all__ = ["open_one", "sort_files"]


def sort_files(paths: Sequence[str]) -> tuple[list[list[str]], list[Namelist]]:
    """Return the files of each dump among these files and folders, and the namelists.

    A file that is neither a dump nor a namelist counts as a dump: the error when it is opened
    says what is wrong with it.

    :raises P2mError: there is no dump among them.
    """
    dumps: list[str] = []
    in_folders: list[str] = []
    namelists: list[Namelist] = []
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112  (False without permission)
            inside = map(str, sorted(Path(path).rglob("*")))
            # A file without read permission is kept, so that the report shows it
            in_folders += [
                file
                for file in inside
                if is_dump(file) or (os.path.isfile(file) and not os.access(file, os.R_OK))  # noqa: PTH113
            ]
        elif is_dump(path):
            dumps.append(path)
        else:
            try:
                namelists.append(Namelist(path))
            except P2mError:
                dumps.append(path)
    if not dumps and not in_folders:
        raise P2mError("there is no dump among these files")
    return group_dumps(dumps, anywhere=True) + group_dumps(in_folders), namelists


def open_one(paths: Sequence[str]) -> OpenedDump:
    """Open the one dump among these files, with the namelists among them.

    :raises P2mError: there is no dump or more than one, or the dump cannot be read.
    """
    dumps, namelists = sort_files(paths)
    files = [path for group in dumps for path in group]
    if len(dumps) > 1:
        raise P2mError(f"give one dump: {', '.join(files)} are not the files of one split dump")
    return OpenedDump(open_dump(files), namelists, files)
