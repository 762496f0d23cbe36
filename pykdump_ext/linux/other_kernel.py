# SPDX-License-Identifier: GPL-3.0-or-later
"""What to say of a namelist that is not of the dump's kernel: another release or another build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import OtherKernelError, printable
from .banners import BANNER_START, difference, release_of

__all__ = ["other_build", "refuse_others"]


def refuse_others(given: Sequence[tuple[Path, bytes]], found: bytes) -> None:
    """Say which kernels the given namelists are of, and which one the dump is of.

    :param given: the namelists' paths and banners.
    :param found: the banner of the dump's kernel.
    :raises OtherKernelError: they are all of another kernel.
    """
    if any(banner == BANNER_START for _, banner in given):
        return  # a System.map, which does not say its kernel
    release = release_of(found)
    if len(given) > 1:
        of_each = ", ".join(f"{path} is of {release_of(banner)}" for path, banner in given)
        raise OtherKernelError(
            f"no given vmlinux matches this dump, which is of Linux {release}: {of_each}"
        )
    for path, banner in given:
        if release_of(banner) != release:
            raise OtherKernelError(
                f"{path}: is of Linux {release_of(banner)}, and the dump is of Linux {release}:"
                f" give the vmlinux of {release}"
            )
        ours, theirs = difference(banner, found)
        if ours != theirs:
            raise OtherKernelError(
                f"{path}: is another build of Linux {release}, with other addresses: it has"
                f" {ours!r}, the dump {theirs!r}: give the vmlinux of that build"
            )


def other_build(path: Path, banner: bytes, found: bytes) -> str | None:
    """Return a sentence where a namelist is of another build than the dump's kernel, else None.

    :param banner: the namelist's.
    :param found: that of the dump's kernel, at the address that the namelist has for it.
    """
    ours, theirs = difference(banner, found)
    if ours == theirs or banner == BANNER_START:
        return None
    return printable(
        f"{path}: is another build of the dump's release: it has {ours!r}, the dump {theirs!r}; the"
        " banner is where it says, other addresses may differ"
    )
