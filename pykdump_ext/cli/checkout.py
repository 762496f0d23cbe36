# SPDX-License-Identifier: GPL-3.0-or-later
"""The registered checkout of PyKdump, whose programs are commands of full sessions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import P2mError
from ..launch.pykdump import checked, lacking, link, registered

__all__ = ["LINE", "checkout_state", "register", "unregister"]

LINE = "pykdump_ext epython.py\n"
"""The line of ``.crashrc`` that loads the extension; a stub without a host ignores it."""


def register(checkout: Path) -> Iterator[str]:
    """Register a checkout in place of any other; yield what was done, and what is not right.

    :raises P2mError: it is no checkout of PyKdump.
    :raises OSError: the link to it cannot be made.
    """
    path = checked(checkout)
    link().parent.mkdir(parents=True, exist_ok=True)
    link().unlink(missing_ok=True)
    link().symlink_to(path)
    yield f"{path}: registered, its programs become commands of full sessions"
    yield from (text for _, text in lacking(path))


def unregister() -> Iterator[str]:
    """Forget the registered checkout; yield what was done, if there was one.

    :raises OSError: the link to it cannot be removed.
    """
    path = registered()
    if path:
        link().unlink()
        with suppress(OSError):
            link().parent.rmdir()  # if the stub is not there, either
        yield f"{path}: not registered any more; the checkout itself is as it was"


def checkout_state(has_line: bool) -> tuple[bool, str]:
    """Return whether a session can run the programs that it should, and a sentence on it.

    :param has_line: ``.crashrc`` loads the extension.
    """
    path = registered()
    if path is None and not has_line:
        return (
            True,
            "none registered; pykdump-ext setup --pykdump PATH makes its programs commands",
        )
    again = "run pykdump-ext setup --pykdump PATH again, or pykdump-ext setup --remove"
    if path is None:
        return False, f".crashrc loads its programs, and no checkout is registered: {again}"
    if not has_line:
        return False, f"{path} is registered, and .crashrc does not load its programs: {again}"
    try:
        checked(path)
    except P2mError as error:
        return False, f"{error}; {again}"
    missing = lacking(path)
    texts = [f"{path}, its programs are commands of full sessions", *(text for _, text in missing)]
    return not any(needed for needed, _ in missing), "; ".join(texts)
