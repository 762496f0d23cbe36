"""Real crash on real dumps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import broken as lab_broken
from tests.lab import dump as lab_dump
from tests.lab import matrix as lab_matrix
from tests.lab.packages import Missing

BIN = Path(sys.executable).parent
SECONDS = 240


@dataclass(frozen=True)
class Ran:
    """What a run of crash printed, on both streams, and its exit status."""

    text: str
    status: int

    def after(self, line: str) -> str:
        """Return what was printed behind the first occurrence of ``line``."""
        assert line in self.text, f"{line!r} was not printed:\n{self.text[-3000:]}"
        return self.text.partition(line)[2]


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment with a home folder of its own and without our variables."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("P2MFIX", "CRASH_EXT"))}
    return {**kept, "HOME": str(home), "TERM": "dumb", **more}


class Crash:
    """Runs crash, or a command that becomes crash, with commands on its input."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = home
        self.folder = folder

    def run(
        self,
        words: Sequence[str | Path],
        commands: Iterable[str] = (),
        seconds: float = SECONDS,
        **variables: str,
    ) -> Ran:
        """Run ``words`` with ``commands`` as its input, in a folder of its own."""
        done = subprocess.run(
            [str(word) for word in words],
            input="".join(f"{line}\n" for line in commands).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=environment(self.home, **variables),
            timeout=seconds,
            check=False,
        )
        return Ran(done.stdout.decode(errors="replace"), done.returncode)

    def __call__(
        self, dump: lab_dump.Dump, commands: Iterable[str], *options: str, **variables: str
    ) -> Ran:
        """Run crash on ``dump``; it ends when the commands do."""
        return self.run(
            ["crash", *options, dump.vmlinux, dump.vmcore],
            [*commands, "quit"],
            SECONDS,
            **variables,
        )


@pytest.fixture
def crash(tmp_path: Path) -> Crash:
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    return Crash(home, folder)


@pytest.fixture(scope="session")
def host() -> Path:
    """The shared object of the installed package."""
    printed = subprocess.run(
        [BIN / "pykdump-ext", "host"], stdout=subprocess.PIPE, text=True, check=True, cwd="/"
    ).stdout
    return Path(printed.strip())


@pytest.fixture(scope="session")
def untouched() -> lab_dump.Dump:
    """A real dump of a crashed dom0, as Xen and Linux left it."""
    lacking = lab_dump.tools()
    assert not lacking, f"make test installs what is lacking: {', '.join(lacking)}"
    assert shutil.which("crash"), "make test installs crash"
    try:
        return lab_matrix.untouched(lab_matrix.MAIN)
    except Missing as error:
        pytest.fail(f"the main path is never skipped: {error}")


@pytest.fixture(scope="session")
def truncated(untouched: lab_dump.Dump) -> lab_dump.Dump:
    """The dump of the report: its list ends at nr_pages."""
    return lab_broken.truncated(untouched)


@pytest.fixture(scope="session")
def not_xen(untouched: lab_dump.Dump) -> lab_dump.Dump:
    """The same without Xen's notes."""
    return lab_broken.not_xen(untouched)


@pytest.fixture(scope="session")
def addresses(untouched: lab_dump.Dump) -> tuple[str, ...]:
    """``vtop`` of one address of each kind, taken from the dump itself."""
    found = lab_broken.diagnosis(untouched)
    kernel = found.kernel
    remapped = kernel.page_offset() + 0x100000 * 4096  # pfn 100000 is remapped memory
    per_cpu = kernel.word(kernel.address("__per_cpu_offset") + 8, "__per_cpu_offset")
    vmalloc = kernel.value("xen_p2m_addr")
    module = kernel.value("modules") - 8  # a struct module, in its module's memory
    direct = kernel.page_offset() + 0x1000000
    text = kernel.address("linux_banner")
    per_cpu += kernel.address("current_task")
    return tuple(f"vtop {va:x}" for va in (direct, remapped, per_cpu, vmalloc, module, text))


_MATRIX: list[tuple[str, str, str]] = []


@pytest.fixture(scope="session")
def matrix() -> list[tuple[str, str, str]]:
    """What became of each cell of the matrix: crash, kernel, result."""
    return _MATRIX


_FUZZED: list[str] = []


@pytest.fixture(scope="session")
def fuzzed() -> list[str]:
    """How each session on a dump damaged at random ended: number, place: how, if not well."""
    return _FUZZED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how the damaged dumps ended, and the matrix as a table."""
    if _FUZZED:
        ended = [line for line in _FUZZED if not line.endswith(": ")]
        terminalreporter.section("dumps damaged at random")
        terminalreporter.write_line(
            f"{len(_FUZZED)} sessions; {len(ended)} that plain crash does not survive either"
        )
        for line in ended:
            terminalreporter.write_line(line)
    if not _MATRIX:
        return
    kernels = list(dict.fromkeys(kernel for _, kernel, _ in _MATRIX))
    results = {(crash, kernel): result for crash, kernel, result in _MATRIX}
    terminalreporter.section("matrix")
    terminalreporter.write_line("".join(f"{name:<12}" for name in ("crash", *kernels)))
    for crash in dict.fromkeys(crash for crash, _, _ in _MATRIX):
        cells = [results.get((crash, kernel), "-") for kernel in kernels]
        terminalreporter.write_line("".join(f"{name:<12}" for name in (crash, *cells)))
