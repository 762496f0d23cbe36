# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.lab``: make the dumps, and print where they are."""

from __future__ import annotations

from .broken import not_xen, truncated
from .matrix import MAIN
from .matrix import untouched as untouched_of


def main() -> None:
    """Make every dump of the lab."""
    untouched = untouched_of(MAIN)
    print(f"vmlinux    {untouched.vmlinux}")
    print(f"untouched  {untouched.vmcore}")
    print(f"truncated  {truncated(untouched).vmcore}")
    print(f"not Xen    {not_xen(untouched).vmcore}")


if __name__ == "__main__":
    main()
