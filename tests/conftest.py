# SPDX-License-Identifier: GPL-3.0-or-later
"""How many examples the property tests try.

``HYPOTHESIS_PROFILE`` chooses: ``quick`` is for ``make test``, ``full`` (five times as many)
for ``make test-all``, and ``thorough`` (fifty times as many) for a change to what the tests
try; see ``times`` in ``tests/unit/made_up/strategies.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# No test fails because the machine is slow or busy
anywhere = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", anywhere, max_examples=20)
settings.register_profile("full", anywhere, max_examples=100)
settings.register_profile("thorough", anywhere, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Take back what a test makes of the environment: commands hand things on to crash in it."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        if not name.startswith("PYTEST_"):
            del os.environ[name]
    os.environ.update({name: text for name, text in before.items() if name[:7] != "PYTEST_"})
