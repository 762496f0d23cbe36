# SPDX-License-Identifier: GPL-3.0-or-later
"""The views of a p2m: ``list``, ``verify``, ``pfn``, ``mfn``, ``va`` and ``map``.

Each view is a command of the shell (``p2mfix list VMCORE VMLINUX``) and of a session of crash
(``p2m list``), with the same options and the same output.
"""

from __future__ import annotations

from .list_verify_map import LIST, MAP, VERIFY
from .pfn_mfn import MFN, PFN
from .va import VA
from .view import JSON_HELP, WIDEST, Screen, View, show

__all__ = ["JSON_HELP", "VIEWS", "WIDEST", "Screen", "View", "show"]

VIEWS = {view.name: view for view in (LIST, VERIFY, PFN, MFN, VA, MAP)}
