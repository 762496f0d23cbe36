# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands of crash print: each into a file of its own, and compared without file names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

SEARCH = f"search -k {int.from_bytes(b'Linux ve', 'little'):x}"  # the banner, and copies of it
MANY_COMMANDS = (
    "sys", "bt", "bt -a", "foreach bt", "ps", "ps -t", "ps -m", "mod", "kmem -i", "kmem -s",
    "kmem -v", "kmem -z", "vm", "vm -m", "files", "mount", "net", "dev", "irq", "log", "log -t",
    "runq", "timer", "p linux_banner", "p -x jiffies", "p current_task:a", "p runqueues:1",
    "struct rq.nr_running,cpu runqueues:a", "struct task_struct.pid,comm,mm", "rd -p 1000000 16",
    SEARCH,
)  # fmt: skip
FEW_COMMANDS = (
    "sys", "bt -a", "ps", "mod", "kmem -i", "kmem -s", "mount", "irq", "runq", "timer",
)  # fmt: skip


def to_files(commands: Sequence[str], folder: Path) -> list[str]:
    """Return the commands with their output in files of the new folder, named by number."""
    folder.mkdir()
    return [f"{command} > {folder}/{number}" for number, command in enumerate(commands)]


def without_dumpfile(text: str) -> str:
    """Drop the lines that must differ, and progress that a terminal overwrites.

    They name the dump's files; of several files each has a line.
    """
    text = re.sub(r"(?m)^\s*DUMPFILES?: .*$(\n {14}\S.*$)*", "", text)
    return re.sub(r"\r[^\r\n]*\r", "", text)


def without_kernel(text: str) -> str:
    """Drop the line that names the vmlinux."""
    return re.sub(r"(?m)^\s*KERNEL: .*$", "", text)


def printed(folder: Path) -> list[str]:
    """Return what each command printed, by number, without the names of the dump's files."""
    numbers = range(len(list(folder.iterdir())))
    return [without_dumpfile((folder / str(n)).read_text(errors="replace")) for n in numbers]


def by_command(commands: Sequence[str], folder: Path) -> dict[str, str]:
    """Return what each command printed, by command."""
    texts = printed(folder)
    assert len(texts) == len(commands)
    return dict(zip(commands, texts))


def silent(commands: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Return the commands that printed nothing: two empty texts are equal, and prove nothing."""
    assert len(commands) == len(texts) > 0
    return [command for command, text in zip(commands, texts) if not text.strip()]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        value = hashlib.sha256()
        while block := file.read(1 << 20):
            value.update(block)
    return value.hexdigest()
