# SPDX-License-Identifier: GPL-3.0-or-later
"""The vmlinux of a release, looked for where distributions put it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import P2mError
from .banners import release_of
from .namelist import Namelist

__all__ = ["installed_namelists", "none_found"]

# Debian, Ubuntu; Red Hat's family and newer Debian; a kernel built on this machine; SUSE, whose
# kernel is packed and has its debug information apart
PLACES = (
    ("usr/lib/debug/boot/vmlinux-{}",),
    ("usr/lib/debug/lib/modules/{}/vmlinux",),
    ("lib/modules/{}/build/vmlinux",),
    ("usr/lib/modules/{0}/vmlinux.xz", "usr/lib/debug/usr/lib/modules/{0}/vmlinux.debug"),
    ("boot/vmlinux-{0}.xz", "usr/lib/debug/boot/vmlinux-{0}.debug"),
    ("boot/vmlinux-{0}.gz", "usr/lib/debug/boot/vmlinux-{0}.debug"),
)
IN_FOLDER = (
    ("vmlinux",), ("vmlinux-{}",), ("vmlinux", "vmlinux.debug"),
    ("vmlinux-{0}", "vmlinux-{0}.debug"), ("vmlinux.gz",), ("vmlinux.xz",), ("vmlinux.bz2",),
    ("vmlinux-{}.gz",), ("vmlinux-{}.xz",), ("vmlinux-{}.bz2",),
)  # fmt: skip
ROOT = Path("/")


def installed_namelists(release: str, folders: Sequence[Path]) -> Iterator[Namelist]:
    """Yield the namelists of a release that crash takes, those beside the dump first.

    :param folders: those of the dump's files.
    """
    if not re.fullmatch(r"[\w.+~-]+", release) or release.startswith("."):
        return  # no kernel's, so no part of a path
    places = [(folder, names) for folder in folders for names in IN_FOLDER]
    for folder, names in [*places, *((ROOT, names) for names in PLACES)]:
        paths = [folder / name.format(release) for name in names]
        if not all(path.is_file() for path in paths):
            continue
        try:
            namelist = Namelist(*paths)
            if namelist.refused is None and release_of(namelist.banner()) == release:
                yield namelist
        except (P2mError, OSError):
            continue


def none_found(release: str | None, incomplete: bool) -> str:
    """Return the sentence that no namelist was given, and none was found.

    :param release: the one that was looked for, or None where the dump does not say it.
    :param incomplete: the dump is.
    """
    if release is None and incomplete:
        return "no vmlinux was given, and what there is of the dump does not show its kernel"
    if release is None:
        return "no vmlinux was given; give that of the dump's kernel"
    return (
        f"no vmlinux was given, and none of Linux {release} is beside the dump or in"
        " /usr/lib/debug: install the debug package of that kernel, or give its vmlinux"
    )
