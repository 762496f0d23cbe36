# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix report`` on other forms of one dump: it says the same, and of many dumps too.

What it says of the truncated dump is compared with crash, value by value, by ``test_report.py``.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from drgn.helpers.linux.timekeeping import uptime

from pykdump_ext.drgn import workqueues
from pykdump_ext.drgn.prog import program
from tests.lab import matrix as lab_matrix
from tests.lab.dump import Dump
from tests.lab.packages import Missing
from tests.lab.planted import planted

from .conftest import Packed
from .sessions import BIN
from .test_report import Reported

OWN = ("dump", "format")  # facts that differ between two forms of a dump


@pytest.fixture(scope="module")
def reported(truncated: Dump) -> Reported:
    return Reported(truncated)


def shown(part: dict[str, Any]) -> list[Any]:
    """What a part shows; the text of a dump's form and of the place of a console is left out."""
    for block in part["blocks"]:
        for name in OWN if block["kind"] == "facts" else ():
            block["facts"].pop(name, None)
    own = part["name"] == "xenlog"
    return [block for block in part["blocks"] if not own or block["kind"] != "paragraph"]


def check_same(found: Reported, known: Reported) -> None:
    """The p2m aside: its part says how long the rebuild took, too."""
    assert [*found.parts] == [*known.parts] and found.whole["missing"] == []
    for name in found.parts:
        if name != "p2m":
            assert shown(found.parts[name]) == shown(known.parts[name]), name


@pytest.mark.thorough
@pytest.mark.parametrize("option", ["-c", "-l"])
def test_of_a_compressed_dump(
    truncated: Dump, packed: Packed, reported: Reported, option: str
) -> None:
    found = Reported(packed(truncated, option))
    check_same(found, reported)
    assert found.facts("p2m")["covered"] == "153,468 of 179,200 pages (85.6%)"


@pytest.mark.thorough
def test_of_a_three_level_p2m(untouched: Dump, reported: Reported) -> None:
    whole, truncated = planted(untouched, "three-level")
    for dump, verdict in ((whole, "whole"), (truncated, "the list ends too early")):
        found = Reported(dump)
        check_same(found, reported)
        assert verdict in found.blocks("p2m", "paragraph")[0]


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["xen-syms-*amd64", "xen-syms-*.map", "xen-*.efi.map"])
def test_with_xens_symbols(truncated: Dump, reported: Reported, name: str) -> None:
    """The map of Xen's EFI binary, another file, does not fit; it is named and not used."""
    parts = lab_matrix.source(lab_matrix.MAIN)
    folder = parts.xens.unpacked(f"{parts.hypervisor()}-dbg", "usr/lib/debug/boot/*")
    (path,) = folder.glob(f"usr/lib/debug/boot/{name}")
    found = Reported(truncated, "--xen", str(path))
    (text,) = found.blocks("xenlog", "paragraph")
    if "efi" in name:
        (missing,) = found.whole["missing"]
        assert missing["why"].startswith(
            f"Xen's symbols were not used: {path}: is not the xen-syms"
        )
        assert "was found by its text" in text
        found.whole["missing"] = []
    else:
        assert "was found by its symbols, its end by conringp" in text
    check_same(found, reported)


@pytest.mark.thorough
def test_of_many_dumps(
    untouched: Dump, truncated: Dump, reported: Reported, tmp_path: Path
) -> None:
    """Those of one death are a group; what is no dump of a Xen host is one of its own."""
    folder = tmp_path / "crash"
    for name, dump in (("a", untouched), ("b", truncated)):
        (folder / name).mkdir(parents=True)
        (folder / name / "vmcore").symlink_to(dump.vmcore)
    (folder / "c").mkdir()
    (folder / "c" / "vmcore").write_bytes(b"KDUMP   " + bytes(8192))
    pages = tmp_path / "pages"
    words = [
        "report",
        str(folder),
        str(truncated.vmlinux),
        "--jobs",
        "2",
        "--json",
        "-o",
        str(pages),
    ]
    done = subprocess.run([BIN / "p2mfix", *words], stdout=subprocess.PIPE, check=True, cwd="/")
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(report["dump"]).parent.name for report in reports] == ["a", "b", "c"]
    assert reports[2]["problem"] and not reports[2]["parts"]
    for report in reports[:2]:
        found = Reported.__new__(Reported)
        found.whole, found.parts = report, {part["name"]: part for part in report["parts"]}
        check_same(found, reported)
        verdict = "the list ends too early" if report is reports[1] else "whole"
        assert verdict in found.blocks("p2m", "paragraph")[0]
        assert (report["cause"], report["functions"]) == (
            reported.whole["cause"], reported.whole["functions"],
        )  # fmt: skip
    names = sorted(path.name for path in pages.iterdir())
    assert names == ["a-vmcore.html", "b-vmcore.html", "c-vmcore.html", "index.html"]
    index = (pages / "index.html").read_text()
    headings = re.findall(r"<h2>(.*)</h2>", index)
    assert headings[0] == reported.whole["cause"] and len(headings) == 2
    assert headings[1].startswith("no report could be made: ")
    assert re.findall(r'href="([^"]*)"', index) == names[:3]
    assert reported.whole["cause"] in (pages / "a-vmcore.html").read_text()


@pytest.mark.thorough
@pytest.mark.parametrize("kernel", lab_matrix.KERNELS)
def test_the_pools_of_workers_of_each_kernel(kernel: str) -> None:
    """Each vcpu has two, or four with those by softirqs; and each began work since the start."""
    try:
        dump = lab_matrix.untouched(kernel)
    except Missing as error:
        pytest.skip(str(error))
    prog = program(dump.vmcore, dump.vmlinux)
    pools = [*workqueues._pools(prog)]
    names = [workqueues._name(pool) for pool in pools]
    vcpus = [re.findall(r"^vcpu (\d)(, by softirqs)?(, nice -20)?$", name) for name in names]
    bound = {found[0] for found in vcpus if found}
    unbound = [name for name in names if re.match(r"unbound, pool \d+(, nice -20)?$", name)]
    assert len(bound) in (8, 16) and len(bound) + len(unbound) == len(names) > len(bound)
    up = uptime(prog)
    for pool in pools:
        since = workqueues._since(pool)
        assert since is not None and 0 <= since <= up
    assert workqueues._tick(prog) == 1 / 250  # as Debian builds them
    notes: list[str] = []
    assert not [*workqueues.waiting(prog, notes)] and not notes
