# SPDX-License-Identifier: GPL-3.0-or-later
"""C types of a kernel, as gdb's words or drgn have them, and as the dicts of PyKdump."""
