# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as one web page that needs no other file: no script, no font, no picture from elsewhere.

Jinja2 escapes all texts; pictures, which are made here of numbers, are put in as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import P2mError
from ..installed import pip_install
from .blocks import Block, numeric, shown
from .document import Document

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["HEAD", "STYLE", "page", "template"]

STYLE = """
:root { --text: #1f2328; --soft: #57606a; --line: #d0d7de; --back: #fff; --box: #f6f8fa;
  --mark: #b3261e; --link: #14427a }
@media screen and (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --soft: #a5adb8; --line: #3d444d; --back: #15181c; --box: #1f242a;
    --mark: #ff8a80; --link: #8ab8f0 } }
* { box-sizing: border-box }
body { font: 15px/1.5 sans-serif; color: var(--text); background: var(--back);
  max-width: 78em; margin: 0 auto; padding: 1em }
h1 { font-size: 1.3em; overflow-wrap: anywhere; margin: .3em 0 }
h2 { font-size: 1.15em; border-bottom: 1px solid var(--line); margin: 1.8em 0 .6em }
h3 { font-size: 1em; margin: 1.2em 0 .3em; overflow-wrap: anywhere }
a { color: var(--link) }
p { margin: .5em 0; overflow-wrap: anywhere; max-width: 60em }
#happened p:first-of-type { font-size: 1.15em; font-weight: bold;
  border-left: 5px solid var(--mark); padding: .4em .8em; background: var(--box) }
.missing { color: var(--mark) }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2em 1.2em }
.wide { overflow-x: auto }
.wide td, .wide th { white-space: nowrap }
table { border-collapse: collapse; font-size: .93em }
th, td { text-align: left; vertical-align: top; padding: .2em .9em .2em 0;
  border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: normal }
.facts { width: 100% }
.facts th { width: 13em }
.facts td { overflow-wrap: anywhere }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
pre { font: 12.5px/1.45 monospace; background: var(--box); border: 1px solid var(--line);
  padding: .6em .8em; margin: .3em 0; overflow: auto; max-height: 40em }
.end { max-height: none }
summary { color: var(--link); cursor: pointer; font-size: .93em }
svg { width: 100%; height: auto; border-radius: 4px }
footer { color: var(--soft); font-size: .85em; margin-top: 2em }
@media (max-width: 600px) { .facts th, .facts td { display: block; width: auto; border: 0;
  padding: 0 } .facts td { border-bottom: 1px solid var(--line); padding-bottom: .3em } }
@media print { body { max-width: none; padding: 0; font-size: 10pt } nav { display: none }
  pre { max-height: none; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 8pt }
  .wide { overflow: visible } .wide td, .wide th { white-space: normal }
  details::details-content { content-visibility: visible; display: contents }
  h2, h3 { break-after: avoid } tr { break-inside: avoid } }
"""

END = 40  # lines of a log that are in sight; those before are folded up

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
"""
"""What each page begins with, up to its title."""

PAGE = (
    HEAD
    + """<title>Report of {{ document.dump }}</title>
<style>"""
    + STYLE
    + """</style>
</head>
<body>
<h1>Report of {{ document.dump }}</h1>
<nav aria-label="Contents"><ul>
{%- for part in document.parts %}
<li><a href="#{{ part.name }}">{{ part.title }}</a></li>
{%- endfor %}
{%- if document.missing %}
<li><a href="#missing">What could not be found</a></li>
{%- endif %}
</ul></nav>
{%- for part in document.parts %}
<section id="{{ part.name }}">
<h2>{{ part.title }}</h2>
{%- for block in part.blocks %}
{%- set kind = kind_of(block) %}
{%- if kind == "Paragraph" %}
<p>{{ block.text }}</p>
{%- elif kind == "Facts" %}
<table class="facts">
{%- for name, value in block.facts %}
<tr><th scope="row">{{ name }}</th><td>{{ shown(value) }}</td></tr>
{%- endfor %}
</table>
{%- elif kind == "Table" %}
{%- set numbers = numeric(block) %}
<h3>{{ block.title }}</h3>
<div class="wide" tabindex="0"><table>
<thead><tr>
{%- for column in block.columns %}\
<th scope="col"{% if numbers[loop.index0] %} class="number"{% endif %}>\
{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{%- for row in block.rows %}
<tr>
{%- for cell in row %}<td{% if numbers[loop.index0] %} class="number"{% endif %}>\
{{ shown(cell, block.columns[loop.index0]) }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
{%- elif kind == "Picture" %}
<h3>{{ block.title }}</h3>
{{ block.svg|safe }}
{%- else %}
<h3>{{ block.title }}</h3>
{%- set older = block.lines[:-end] if block.log else [] %}
{%- if older %}
<details><summary>{{ older|length }} lines before</summary>
<pre tabindex="0">
{%- for line in older %}
{{ line }}
{%- endfor %}
</pre></details>
{%- endif %}
<pre tabindex="0"{% if block.log %} class="end"{% endif %}>
{%- for line in block.lines[older|length:] %}
{{ line }}
{%- endfor %}
</pre>
{%- endif %}
{%- endfor %}
{%- if part.problem %}
<p class="missing">Not found: {{ part.problem }}</p>
{%- endif %}
</section>
{%- endfor %}
{%- if document.missing %}
<section id="missing">
<h2>What could not be found</h2>
<table class="facts">
{%- for title, why in document.missing %}
<tr><th scope="row">{{ title }}</th><td>{{ why }}</td></tr>
{%- endfor %}
</table>
</section>
{%- endif %}
<footer>made by p2mfix {{ version }} in {{ "%.1f"|format(document.seconds) }} s</footer>
</body>
</html>
"""
)


def page(document: Document) -> bytes:
    """Return a report as a web page.

    :raises P2mError: Jinja2 is not installed.
    """
    names: dict[str, Any] = {"kind_of": kind_of, "shown": shown, "numeric": numeric, "end": END}
    return template(PAGE).render(document=document, version=__version__, **names).encode()


def template(source: str) -> Template:
    """Return a template that escapes all texts.

    :raises P2mError: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment  # noqa: PLC0415
    except ImportError:
        raise P2mError(f"a web page needs Jinja2: {pip_install('pictures')}") from None
    return Environment(autoescape=True).from_string(source)


def kind_of(block: Block) -> str:
    """Return the name of a block's class."""
    return type(block).__name__
