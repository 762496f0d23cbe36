"""A drgn program on the dump of a Xen host: ``program(vmcore, vmlinux)``."""

from .program import open_program, program

__all__ = ["open_program", "program"]
