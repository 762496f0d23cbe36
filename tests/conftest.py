# SPDX-License-Identifier: GPL-3.0-or-later
"""How many examples the property tests try.

``HYPOTHESIS_PROFILE=thorough`` tries fifty times as many as ``make test`` does; see
``times`` in ``tests/unit/made_up/strategies.py``.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
