# SPDX-License-Identifier: GPL-3.0-or-later
"""How many examples the property tests try.

``HYPOTHESIS_PROFILE=thorough`` tries fifty times as many as ``make test`` does; see
``times`` in ``tests/unit/made_up/strategies.py``.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No test fails because the machine is slow or busy
anywhere = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", anywhere, max_examples=20)
settings.register_profile("thorough", anywhere, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
