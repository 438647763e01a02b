"""Docstrings and texts of examples are plain text with formulas, `|w|²` and `**options` included;
here they become reStructuredText: what would be markup is escaped, indented formulas are literal.
"""

import re
from typing import Any

CODE = re.compile(r"(``.*?``|`[^`]*`)")
EMPHASIS = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*|]*[^\s*])\*(?![\w*])")
BULLET = re.compile(r"\s*[-*] ")


def escaped(text: str) -> str:
    """`text` with bars, stars and trailing underscores as they are written, outside code."""
    parts = CODE.split(text)
    return "".join(part if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    kept = [(m.start(), m.end() - 1) for m in EMPHASIS.finditer(text)]
    stars = {i for pair in kept for i in pair}
    out = []
    for i, letter in enumerate(text):
        trailing = letter == "_" and not text[i + 1 : i + 2].isalnum()
        if letter in "|\\" or trailing or (letter == "*" and i not in stars):
            out.append("\\")
        out.append(letter)
    return "".join(out)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def paragraphs(lines: list[str]) -> list[list[str]]:
    """Blocks of lines between blank ones."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [block for block in found if block]


def converted(lines: list[str]) -> list[str]:
    """The lines of a docstring as reStructuredText."""
    out: list[str] = []
    depth = 0  # of the text of the last item of a list
    for block in paragraphs(lines):
        first = _indent(block[0])
        bullet = BULLET.match(block[0])
        if not bullet and first == 0:
            depth = 0
        if not bullet and first >= depth + 4:
            out += [" " * depth + ".. code-block:: text", ""]
            out += [" " * depth + "   " + line[depth:] for line in block] + [""]
            continue
        if bullet:
            depth = first + 2
            block = _items(block)
        # Joined before escaping: code may go on in the next line.
        out += [*escaped("\n".join(block)).split("\n"), ""]
    return out


def _items(block: list[str]) -> list[str]:
    """A paragraph that begins with an item: text before or after a list gets its own."""
    found: list[str] = []
    for line in block:
        if found and BULLET.match(line) is None and _indent(line) == 0:
            found.append("")
        found.append(line)
    return found


def docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = converted(lines)


def gallery(app: Any, docname: str, source: list[str]) -> None:
    """Texts of examples, which sphinx-gallery has written as pages."""
    if not docname.startswith("gallery/") or docname.endswith(("index", "sg_execution_times")):
        return
    out = []
    for line in source[0].split("\n"):
        marked = line[:1] in (" ", ".", ":", "=", "-", "`") or not line
        out.append(line if marked else escaped(line))
    source[0] = "\n".join(out)


def setup(app: Any) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", docstring)
    app.connect("source-read", gallery)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
