# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps as makedumpfile writes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab.dump import Dump

FILTER = ("-X", "-d", "1")  # without the memory of other domains and pages of zeros


def filtered(dump: Dump, folder: Path, *options: str, files: int = 1) -> list[Path]:
    """Let makedumpfile write ``dump`` into ``folder``, as one file or split into several."""
    targets = [folder / f"{dump.vmcore.parent.name}{number}" for number in range(files)]
    if files > 1:
        options = ("--split", *options)
    command: list[str | Path] = ["makedumpfile", *options, *FILTER, "-x", dump.vmlinux, dump.vmcore]
    if "-F" in options:
        with targets[0].open("wb") as file:
            subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, check=True)
    else:
        subprocess.run([*command, *targets], stdout=subprocess.DEVNULL, check=True)
    return targets
