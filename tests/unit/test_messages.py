# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/troubleshooting.md has every message of an error, as the source has it, and no other.

``python -m tests.unit.test_messages`` brings the messages up to date, and prints those that
somebody has to write about.  It takes a similar message for a reworded one: read its changes.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Iterator

from .test_docs import PACKAGE, ROOT

TROUBLES = ROOT / "docs/troubleshooting.md"
BLANK = "\N{HORIZONTAL ELLIPSIS}"
"""What stands in a message of the papers for a part that differs."""
ERRORS = {
    "P2mError", "CommandError", "FileError", "ReadError", "ArgumentTypeError", "_NoPage", "NoPage",
    "SystemExit", "error", "NullPointer", "OtherFileError",
}  # fmt: skip
ROW = re.compile(r"^\| `` ?(.+?) ?`` \|", re.MULTILINE)


def template(node: ast.expr) -> str:
    """Return a text of the source with a blank for all that is put into it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            template(part) if isinstance(part, ast.Constant) else BLANK for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return BLANK


def tidy(text: str) -> str:
    """Return a message on one line, blanks that follow each other joined."""
    text = " ".join(text.split())
    return re.sub(rf"{BLANK}(?:[:;,]? ?{BLANK})+", BLANK, text).strip()


def returned() -> dict[str, list[str]]:
    """Return the texts that functions of the package return, by the function's name."""
    found: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                returns = [n.value for n in ast.walk(node) if isinstance(n, ast.Return)]
                found[node.name] = [tidy(template(value)) for value in returns if value]
    return found


def name_of(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def raised() -> dict[str, str]:
    """Return every message of an error that the package raises, and the file that does."""
    found: dict[str, str] = {}
    made = returned()
    for path in [*sorted(PACKAGE.rglob("*.py")), ROOT / "setup.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = name_of(node)
            if name not in ERRORS and not name.endswith("_damaged"):
                continue
            given = [a for a in node.args if not isinstance(a, ast.Starred)]
            for argument in given[-1:] if name == "ReadError" else given[:1]:
                texts = [tidy(template(argument))]
                if isinstance(argument, ast.Call):
                    texts = made.get(name_of(argument), [])
                for text in texts:
                    if is_sentence(text) and not re.match(r"[\w ]+page$", text):
                        found[text] = str(path.relative_to(ROOT))
    for path in sorted(PACKAGE.rglob("*.c")):
        for text in said_by(path.read_text()):
            found[text] = str(path.relative_to(ROOT))
    return found


def is_sentence(text: str) -> bool:
    return len(re.findall(r"[a-z]{2,}", text)) > 1


def said_by(source: str) -> Iterator[str]:
    """Yield the messages in a C file, with the macros that are part of them as blanks."""
    called = r"(?:error\((?:INFO|FATAL), |snprintf\(problem, sizeof\(problem\), |set_message\()"
    literal = r'"(?:[^"\\]|\\.)*"'
    for body in re.findall(rf"{called}((?:{literal}|[A-Z_]{{3,}}|\s)+)", source):
        parts = re.findall(rf"{literal}|[A-Z_]+", body)
        text = "".join(part[1:-1] if part.startswith('"') else BLANK for part in parts)
        text = tidy(re.sub(r"%[.\d]*[lsdux]+", BLANK, text.replace("\\n", "").replace('\\"', '"')))
        if is_sentence(text):
            yield text


def strings() -> set[str]:
    """Return all texts of the package, for messages that are printed and not raised."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.JoinedStr, ast.Constant)):
                found.add(tidy(template(node)))
    return found


def documented() -> list[str]:
    return [text.replace("\\|", "|") for text in ROW.findall(TROUBLES.read_text())]


def test_troubleshooting_has_every_message() -> None:
    missing = {text: path for text, path in raised().items() if text not in documented()}
    assert not missing, "run python -m tests.unit.test_messages, then write what to do"


def test_troubleshooting_has_no_message_that_is_gone() -> None:
    known, printed = raised(), strings()
    gone = [text for text in documented() if text not in known and text not in printed]
    assert not gone, "run python -m tests.unit.test_messages"
    assert len(documented()) == len(set(documented()))


def update(text: str, known: Iterable[str], printed: set[str]) -> tuple[str, list[str], list[str]]:
    """Return a text of troubleshooting with the messages that are there now.

    A message that is gone becomes the most similar one that is new.  Return also the
    messages that nothing similar was found for: gone ones, and new ones.
    """
    rows = documented()
    new = [message for message in known if message not in rows]
    gone = [row for row in rows if row not in known and row not in printed]
    for row in list(gone):
        for similar in difflib.get_close_matches(row, new, 1, 0.5):
            text = text.replace(f"`` {row} ``", f"`` {similar} ``")
            new.remove(similar)
            gone.remove(row)
    return text, gone, new


def main() -> None:
    """Bring troubleshooting up to date, and print what is left to be done by hand."""
    known = raised()
    text, gone, new = update(TROUBLES.read_text(), known, strings())
    TROUBLES.write_text(text)
    for row in gone:
        print(f"gone: {row}")
    for message in new:
        print(f"new ({known[message]}):\n| `` {message} `` |  |")


if __name__ == "__main__":
    main()
