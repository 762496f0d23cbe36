"""Pictures of a p2m: pfn space as text, and as drawings of pfn space and machine memory.

The drawings need matplotlib, the web page Jinja too: ``pip install pykdump-ext[pictures]``.
"""

from __future__ import annotations

import argparse
import enum
import io
import os
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .errors import P2mError
from .memory import PAGE_SHIFT, PAGE_SIZE
from .p2m import PFNS_PER_LEAF, Diagnosis, Kind, Range, Source, ranges
from .p2m.entries import CODES, kind_codes
from .report import Report, pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WITHOUT = "pictures need matplotlib and Jinja2: pip install pykdump-ext[pictures]"


class Look(enum.Enum):
    """How a pfn is shown: a letter, a colour of terminals, a colour of drawings, what it means.

    Where a cell of a picture stands for several, the first of these is shown.
    """

    LOST = ("!", "bold red", "#d62728", "memory that the dump's list does not have")
    FOREIGN = ("f", "yellow", "#e0a800", "foreign: another domain's frame")
    MEMORY = ("#", "green", "#2e7d32", "memory")
    IDENTITY = ("i", "blue", "#90a4d4", "identity: not memory, mfn is pfn")
    MISSING = (".", "bright_black", "#e8e8e8", "missing: nothing is there")

    def __init__(self, letter: str, style: str, colour: str, meaning: str) -> None:
        self.letter = letter
        self.style = style
        self.colour = colour
        self.meaning = meaning


LOOKS = tuple(Look)
OF_KIND = {
    Kind.FOREIGN: Look.FOREIGN,
    Kind.IDENTITY: Look.IDENTITY,
    Kind.MISSING: Look.MISSING,
    Kind.MEMORY: Look.MEMORY,
}


def look_of(part: Range) -> Look:
    """Return how a range is shown."""
    if part.kind is Kind.MEMORY and part.source is Source.TABLES:
        return Look.LOST
    return OF_KIND[part.kind]


def cells(parts: Iterable[Range], max_pfn: int, count: int) -> list[Look]:
    """Return pfn space as ``count`` cells of the same size, the last perhaps smaller."""
    size = -(-max_pfn // count)
    found = [len(LOOKS)] * -(-max_pfn // size)
    for part in parts:
        look = LOOKS.index(look_of(part))
        first, last = part.first // size, part.last // size
        for cell in range(first, last + 1):
            found[cell] = min(found[cell], look)
    return [LOOKS[look] for look in found]


def text_map(found: Diagnosis, width: int = 80, height: int = 20, colour: bool = False) -> str:
    """Return pfn space as lines of text, with a legend behind them.

    :param width: of a line, in characters.
    :param height: of the map without its legend, at most, in lines.
    :param colour: with the escape sequences of terminals.
    """
    from rich.console import Console  # noqa: PLC0415  (a tenth of a second)
    from rich.text import Text  # noqa: PLC0415

    parts = list(ranges(found))
    max_pfn = found.table.max_pfn
    digits = len(f"{max_pfn:x}")
    columns = max(8, width - digits - 2)
    # whole leaves in a cell, so that lines begin at round numbers
    size = -(-max_pfn // (columns * height))
    size = -(-size // PFNS_PER_LEAF) * PFNS_PER_LEAF
    shown = cells(parts, max_pfn, -(-max_pfn // size))
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, color_system="standard" if colour else None
    )
    for start in range(0, len(shown), columns):
        line = Text(f"{start * size:>{digits}x}  ")
        for look, run in groupby(shown[start : start + columns]):
            line.append(look.letter * len(list(run)), look.style)
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
    pages = {look: sum(p.pages for p in parts if look_of(p) is look) for look in LOOKS}
    console.print()
    for look in LOOKS:
        if pages[look]:
            line = Text(f"{'':>{digits}}  ")
            line.append(look.letter, look.style)
            line.append(f" {pages[look]:>15,}  {look.meaning}")
            console.print(line, no_wrap=True, overflow="ignore", crop=False)
    scale = f"{'':>{digits}}  one character is {size:,} pages, {_size(size * PAGE_SIZE)}"
    console.print(Text(scale), no_wrap=True, overflow="ignore", crop=False)
    return stream.getvalue()


def _size(amount: int) -> str:
    """Return a number of bytes for people."""
    for unit, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if amount >= 1 << shift:
            return f"{amount / (1 << shift):,.4g} {unit}"
    return f"{amount >> 10} KiB"


@contextmanager
def _libraries() -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise P2mError(WITHOUT) from None


def figure(found: Diagnosis) -> Figure:
    """Return a drawing: pfn space above, below it where its frames lie in machine memory.

    :raises P2mError: matplotlib is not installed.
    """
    with _libraries():
        from matplotlib.figure import Figure  # noqa: PLC0415
        from matplotlib.patches import Patch  # noqa: PLC0415

    drawn = Figure(figsize=(10, 4.2), layout="constrained")
    upper, lower = drawn.subplots(2, 1, height_ratios=[1, 1.4])
    parts = list(ranges(found))
    gib = 1 << (30 - PAGE_SHIFT)
    for look in LOOKS[::-1]:
        bars = [(part.first / gib, part.pages / gib) for part in parts if look_of(part) is look]
        upper.broken_barh(bars, (0, 1), facecolors=look.colour, linewidth=0)
    upper.set_xlim(0, found.table.max_pfn / gib)
    upper.set_yticks([])
    upper.set_xlabel("pseudo-physical address, GiB")
    upper.set_title("dom0's pfn space", loc="left", fontsize=10)

    places = machine_memory(found)
    last = max((max(frames) for frames in places.values() if frames), default=0) + CHUNK
    width = -(-last // (BARS * CHUNK)) * CHUNK
    edges = [first / gib for first in range(0, last + width, width)]
    bottom = [0.0] * len(edges)
    for look, frames in places.items():
        top = list(bottom)
        for first, pages in frames.items():
            top[first // width] += pages / gib * 1024
        lower.fill_between(edges, bottom, top, step="post", color=look.colour, linewidth=0)
        bottom = top
    lower.set_xlim(0, last / gib)
    lower.set_ylim(bottom=0)
    lower.set_xlabel("machine address, GiB")
    lower.set_ylabel(f"MiB of dom0\nin {_size(width << PAGE_SHIFT)}")
    lower.set_title("where its frames lie in machine memory", loc="left", fontsize=10)
    there = [look for look in LOOKS if any(look_of(part) is look for part in parts)]
    drawn.legend(
        handles=[Patch(facecolor=look.colour, label=look.meaning) for look in there],
        loc="outside lower center", ncols=2, fontsize=8, frameon=False,
    )  # fmt: skip
    return drawn


CHUNK = 256  # frames: machine memory is counted by the megabyte
BARS = 400  # of the drawing of machine memory, at most


def machine_memory(found: Diagnosis) -> dict[Look, dict[int, int]]:
    """Return how many of dom0's pages lie in each megabyte of machine memory.

    By first frame of the megabyte; apart for memory that the dump's list has
    (``Look.MEMORY``) and memory that it has not.
    """
    result: dict[Look, dict[int, int]] = {Look.MEMORY: {}, Look.LOST: {}}
    lost = sorted(found.coverage.lost)
    position = 0
    for index, mfn in found.table.own_leaves():
        first = index * PFNS_PER_LEAF
        pfns = min(PFNS_PER_LEAF, found.table.max_pfn - first)
        while position < len(lost) and lost[position][1] < first:
            position += 1
        is_lost = position < len(lost) and lost[position][0] <= first
        counts = result[Look.LOST if is_lost else Look.MEMORY]
        leaf = found.kernel.memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, "p2m leaf")[: pfns * 8]
        start = int.from_bytes(leaf[:8], "little")
        if leaf == array("Q", range(start, start + pfns)).tobytes():  # as they mostly come
            for chunk in range(start - start % CHUNK, start + pfns, CHUNK):
                pages = min(chunk + CHUNK, start + pfns) - max(chunk, start)
                counts[chunk] = counts.get(chunk, 0) + pages
            continue
        codes = kind_codes(leaf)
        at = codes.find(CODES[Kind.MEMORY])
        while at >= 0:
            entry = int.from_bytes(leaf[at * 8 : at * 8 + 8], "little")
            chunk = entry - entry % CHUNK
            counts[chunk] = counts.get(chunk, 0) + 1
            at = codes.find(CODES[Kind.MEMORY], at + 1)
    return result


def write_picture(found: Diagnosis, path: str, kind: str, inputs: Iterable[str] = ()) -> None:
    """Draw a p2m into the file at ``path``, as ``svg`` or ``png``; never into one of ``inputs``.

    :raises P2mError: it cannot be written, or matplotlib is not installed.
    """
    _write(path, _drawing(found, kind), inputs)


def _drawing(found: Diagnosis, kind: str) -> bytes:
    with _libraries():
        from matplotlib import rc_context  # noqa: PLC0415

    stream = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    with rc_context({"svg.hashsalt": "p2mfix"}):  # the same picture is the same file
        figure(found).savefig(stream, format=kind, dpi=150, metadata=metadata)
    return stream.getvalue()


def _write(path: str, content: bytes, inputs: Iterable[str]) -> None:
    """Write a file, whole or not at all; to a device or a pipe, what it takes."""
    target = Path(path).resolve()
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        if target.exists():
            for name in inputs:
                if target.samefile(name):
                    raise P2mError(f"{path}: is {name}, which is never written")
            if not target.is_file():
                with target.open("wb") as file:
                    file.write(content)
                return
        try:
            unfinished.write_bytes(content)
            unfinished.replace(target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise P2mError(f"{path}: {error.strerror}") from None


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>p2m of {{ report.dump }}</title>
<style>
body { font: 15px/1.5 sans-serif; color: #222; max-width: 62em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.3em; overflow-wrap: anywhere }
.verdict { padding: .7em 1em; border-left: 5px solid; margin: 1em 0 }
.good { border-color: #2e7d32; background: #eef6ee }
.bad { border-color: #d62728; background: #fdf0f0 }
table { border-collapse: collapse; width: 100% }
td { vertical-align: top; padding: .15em 1em .15em 0; overflow-wrap: anywhere }
td:first-child { white-space: nowrap; color: #666 }
code { font-size: .93em }
svg { width: 100%; height: auto; margin: 1em 0 }
footer { color: #666; font-size: .85em; margin-top: 2em }
</style>
</head>
<body>
<h1>{{ report.dump }}</h1>
<p class="verdict {{ 'good' if report.healthy else 'bad' }}"><b>{{ report.verdict }}</b>
{%- if report.crash_says %}<br>crash says: <code>{{ report.crash_says }}</code>{% endif %}
{%- if report.next %}<br>next: <code>{{ report.next }}</code>{% endif %}</p>
<table>
{%- for name, text in facts %}
<tr><td>{{ name }}</td><td>{{ text }}</td></tr>
{%- endfor %}
</table>
{{ drawing }}
<footer>made by p2mfix {{ version }}</footer>
</body>
</html>
"""


def write_page(
    path: str, result: Report, found: Diagnosis | None, inputs: Iterable[str] = ()
) -> None:
    """Write a report, and the drawing where there is a diagnosis, as one self-contained web page.

    It is never written into one of ``inputs``.

    :raises P2mError: it cannot be written, or matplotlib or Jinja2 is not installed.
    """
    with _libraries():
        from jinja2 import Environment  # noqa: PLC0415
        from markupsafe import Markup  # noqa: PLC0415

    shown_above = ("verdict", "crash says", "next")
    facts = [pair for pair in pairs(result) if pair[0] not in shown_above]
    drawing = Markup()
    if found is not None:
        svg = _drawing(found, "svg").decode()
        drawing = Markup(svg[svg.index("<svg") :])
    page = Environment(autoescape=True).from_string(PAGE)
    text = page.render(report=result, facts=facts, drawing=drawing, version=__version__)
    _write(path, text.encode(), inputs)


def add_picture_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the picture goes, here and in a session of crash."""
    parser.add_argument("--svg", metavar="OUT", help="draw it as SVG into this file")
    parser.add_argument("--png", metavar="OUT", help="draw it as PNG into this file")


def show(
    found: Diagnosis, args: argparse.Namespace, width: int, colour: bool, inputs: Iterable[str]
) -> None:
    """Write the pictures that were asked for; the one of text, where none was.

    :param inputs: the files of the session, which no picture may replace.
    :raises P2mError: one cannot be written, or matplotlib is not installed.
    """
    for out, kind in ((args.svg, "svg"), (args.png, "png")):
        if out:
            write_picture(found, out, kind, inputs)
    if not args.svg and not args.png:
        print(text_map(found, width, colour=colour), end="")
