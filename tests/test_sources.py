"""The page on the sources: what it names exists, and no statement is without a word on who shows
it."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from public import names

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "sources.md").read_text()
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
EXAMPLE = re.compile(r"`(examples/[\w/]+\.py)`")
STATEMENTS, MISPRINTS = "| statement | here | shown by |", "| as printed | right | followed in |"
PUBLIC = {name.rpartition(".")[2]: value for name, value in names().items()}


def rows(head):
    """The cells of all tables with this head."""
    found, inside = [], False
    for line in PAGE.splitlines():
        inside = line == head or (inside and line.startswith("| "))
        if inside and line not in (head, "| --- | --- | --- |"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


@cache
def defined(path):
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def has(name):
    """Whether `name` or `name.attribute` is public."""
    base, _, attribute = name.partition(".")
    value = PUBLIC.get(base)
    fields = getattr(value, "__dataclass_fields__", {})
    return value is not None and (not attribute or hasattr(value, attribute) or attribute in fields)


def test_tests_and_examples_that_the_page_names_exist():
    named = TEST.findall(PAGE)
    assert len(named) > 100
    assert not [f"{path}::{test}" for path, test in named if test not in defined(path)]
    assert not [path for path in EXAMPLE.findall(PAGE) if not (ROOT / path).is_file()]
    # and nothing is named in another form, which would not be looked at
    spans = re.findall(r"`([^`]*(?:tests/|examples/)[^`]*)`", PAGE)
    assert len(spans) == len(named) + len(EXAMPLE.findall(PAGE))


def test_public_names_of_the_page_exist():
    spans = [name for _, here, _ in rows(STATEMENTS) for name in re.findall(r"`([^`]+)`", here)]
    assert len(spans) > 100 and not [name for name in spans if not has(name)]


@pytest.mark.parametrize("head", [STATEMENTS, MISPRINTS])
def test_every_line_says_who_shows_it_or_that_nobody_does(head):
    found = rows(head)
    assert len(found) > 10 and {len(cells) for cells in found} == {3}
    for statement, _, shown in found:
        there = TEST.search(shown) or EXAMPLE.search(shown)
        assert statement and (there or shown.startswith("Not "))
        if shown.startswith("In part"):
            assert there
