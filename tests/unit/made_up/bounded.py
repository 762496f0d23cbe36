# SPDX-License-Identifier: GPL-3.0-or-later
"""p2mfix in a process of its own that gets 1 GiB of memory and 10 seconds of CPU."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

MEMORY = 1 << 30  # bytes of address space
CPU = 10  # seconds; however busy the machine is
ROOT = Path(__file__).parents[3]


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))


def p2mfix(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run p2mfix and return how it ended: with an answer or one sentence, or the test fails."""
    done = subprocess.run(
        [sys.executable, "-c", "from pykdump_ext.cli.p2mfix import main; main()", *map(str, words)],
        preexec_fn=_limit, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), (done.returncode, done.stderr)
    for word in ("Traceback", "MemoryError", "Error:"):
        assert word not in done.stdout + done.stderr, done.stdout + done.stderr
    if done.returncode == 1 and not done.stdout:
        assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("p2mfix: ")
    return done
