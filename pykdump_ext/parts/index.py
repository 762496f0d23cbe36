# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports of many dumps, grouped by what killed the hosts: the page that leads to each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import __version__
from .happened import WHERE
from .page import HEAD, STYLE, template

__all__ = ["Group", "Summary", "groups", "index_page", "summary", "with_summary"]

UNKNOWN = "unknown"  # without the part that has the answer
# What differs between two deaths of one kind: addresses, PIDs, times, numbers of cpus
VARIES = re.compile(r"\b(?:0x[0-9a-f]+|[0-9a-f]{6,})\b|(?<!\bdom)\d+")

INDEX = (
    HEAD
    + """<title>Reports of {{ count }} dump{{ "s" if count != 1 }}</title>
<style>"""
    + STYLE
    + """</style>
</head>
<body>
<h1>Reports of {{ count }} dump{{ "s" if count != 1 }}, by what killed the hosts</h1>
{%- for group in groups %}
<section>
<h2>{{ group.cause }}</h2>
{%- if group.functions %}
<pre tabindex="0">{{ group.functions|join(" < ") }}</pre>
{%- endif %}
<div class="wide" tabindex="0"><table>
<thead><tr><th scope="col">time of the crash</th><th scope="col">host</th>\
<th scope="col">Linux</th><th scope="col">Xen</th><th scope="col">dump</th></tr></thead>
<tbody>
{%- for one in group.dumps %}
<tr><td>{% if one.page %}<a href="{{ one.page }}">{{ one.time or "unknown" }}</a>\
{% else %}{{ one.time or "unknown" }}{% endif %}</td>\
<td>{{ one.host or "unknown" }}</td>\
<td>{{ one.linux or "unknown" }}</td><td>{{ one.xen or "unknown" }}</td>\
<td>{{ one.dump }}{% if not one.page %} (no page){% endif %}</td></tr>
{%- endfor %}
</tbody></table></div>
</section>
{%- endfor %}
<footer>made by p2mfix {{ version }}</footer>
</body>
</html>
"""
)


@dataclass(frozen=True)
class Summary:
    """What an index says of a dump. ``page`` is the name of its page, empty if it has none.

    ``functions`` begin with the one where the kernel died; its callers follow.
    """

    dump: str
    page: str
    cause: str
    functions: tuple[str, ...]
    time: str
    host: str
    linux: str
    xen: str

    @property
    def signature(self) -> str:
        """What is equal in deaths of one kind: the cause, and the function where it struck."""
        return " in ".join([VARIES.sub("#", self.cause), *self.functions[:1]])


@dataclass(frozen=True)
class Group:
    """Dumps of hosts that one thing killed, the newest first."""

    dumps: Sequence[Summary]

    @property
    def cause(self) -> str:
        """What killed the newest."""
        return self.dumps[0].cause

    @property
    def functions(self) -> tuple[str, ...]:
        """The function where the newest died, and its callers."""
        return self.dumps[0].functions


def summary(report: Mapping[str, Any], page: str) -> Summary:
    """Return the summary of a report, given for JSON.

    :param page: the name of its page, empty if it has none.
    """
    happened = next((part for part in report["parts"] if part["name"] == "happened"), None)
    blocks = happened["blocks"] if happened else []
    cause = next((block["text"] for block in blocks if block["kind"] == "paragraph"), UNKNOWN)
    if report.get("problem"):
        why = report["problem"].removeprefix(f"{report['dump']}: ")
        cause = f"no report could be made: {why}"
    facts: dict[str, Any] = next((b["facts"] for b in blocks if b["kind"] == "facts"), {})
    functions = str(facts.get(WHERE) or "").split(" < ")
    names = ("time of the crash", "host name", "Linux", "Xen")
    time, host, linux, xen = (str(facts.get(name) or "") for name in names)
    named = tuple(filter(None, functions))
    return Summary(report["dump"], page, cause, named, time, host, linux, xen)


def with_summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report for JSON that begins with its summary, so that a query finds it there."""
    found = summary(report, "")
    short = {
        "cause": None if found.cause == UNKNOWN else found.cause,
        "signature": None if found.cause == UNKNOWN else found.signature,
        "functions": [*found.functions],
        "time": found.time or None,
        "host": found.host or None,
        "linux": found.linux or None,
        "xen": found.xen or None,
    }
    return {"dump": report["dump"], **short, **report}


def groups(found: Iterable[Summary]) -> list[Group]:
    """Return dumps by what killed their hosts, those with the newest dump first."""
    by_signature: dict[str, list[Summary]] = {}
    for one in sorted(found, key=lambda one: one.time, reverse=True):
        by_signature.setdefault(one.signature, []).append(one)
    return [Group(dumps) for dumps in by_signature.values()]


def index_page(found: Sequence[Summary]) -> bytes:
    """Return the page of many reports.

    :raises P2mError: Jinja2 is not installed.
    """
    made = template(INDEX).render(groups=groups(found), count=len(found), version=__version__)
    return made.encode()
