# SPDX-License-Identifier: GPL-3.0-or-later
"""Python inside the crash utility, and p2mfix, which opens dumps of Xen hosts that crash cannot.

Each folder is a room with one subject.  Imports run one way::

    machine -> linux -> xen -> p2m -> opened -> reports, rewrite, drgn, launch, host, cli

``host`` and ``extensions`` run inside a session of crash; all other rooms run anywhere.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
