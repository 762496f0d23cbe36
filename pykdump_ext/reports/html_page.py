# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as one web page that needs no other file, with the picture of the p2m in it."""

from __future__ import annotations

from .. import __version__
from ..p2m.diagnosis import Diagnosis
from .pictures import drawing, libraries
from .report import Report, pairs

__all__ = ["page"]

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>p2m of {{ shown["dump"] }}</title>
<style>
body { font: 15px/1.5 sans-serif; color: #222; max-width: 62em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.3em; overflow-wrap: anywhere }
.verdict { padding: .7em 1em; border-left: 5px solid; margin: 1em 0 }
.good { border-color: #14427a; background: #eef3fa }
.bad { border-color: #d1341f; background: #fdf0f0 }
table { border-collapse: collapse; width: 100% }
td { vertical-align: top; padding: .15em 1em .15em 0; overflow-wrap: anywhere }
td:first-child { white-space: nowrap; color: #666 }
code { font-size: .93em }
svg { width: 100%; height: auto; margin: 1em 0 }
footer { color: #666; font-size: .85em; margin-top: 2em }
</style>
</head>
<body>
<h1>{{ shown["dump"] }}</h1>
<p class="verdict {{ 'good' if good else 'bad' }}"><b>{{ shown["verdict"] }}</b>
{%- for name in ("crash says", "next") if name in shown %}<br>{{ name }}: \
<code>{{ shown[name] }}</code>{% endfor %}</p>
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


def page(result: Report, found: Diagnosis | None) -> bytes:
    """Return a report as a web page, with the picture of the p2m where there is a diagnosis.

    :raises P2mError: matplotlib or Jinja2 is not installed.
    """
    with libraries():
        from jinja2 import Environment  # noqa: PLC0415
        from markupsafe import Markup  # noqa: PLC0415

    shown_above = ("verdict", "crash says", "next")
    told = list(pairs(result))
    facts = [pair for pair in told if pair[0] not in shown_above]
    picture = Markup()
    if found is not None:
        svg = drawing(found, "svg").decode()
        picture = Markup(svg[svg.index("<svg") :])
    made = Environment(autoescape=True).from_string(PAGE)
    text = made.render(
        shown=dict(told), good=result.healthy, facts=facts, drawing=picture, version=__version__
    )
    return text.encode()
