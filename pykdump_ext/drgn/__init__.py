# SPDX-License-Identifier: GPL-3.0-or-later
"""drgn on the dump of a Xen host: ``program(vmcore, vmlinux)`` gives a ``drgn.Program``."""

from .prog import open_program, program

__all__ = ["open_program", "program"]
