"""The README, the pages and the examples: their code compiles, imports names that exist, and runs;
every public name has its entry in the reference."""

import ast
import importlib
import inspect
import re
import sys
import types
from pathlib import Path

import jax
import matplotlib
import pytest
from public import names

import ensembles
import limits

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S)
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
PAGES = {name: blocks for name, blocks in PAGES.items() if blocks}
README = PAGES["README.md"]
pages = pytest.mark.parametrize("page", PAGES)
EXAMPLES = sorted((ROOT / "examples").rglob("[!_]*.py"))
examples = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)

SETTINGS = (
    "jax_enable_x64",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
)

# What takes time: functions that solve, and the wrappers that examples write around them.
RUNS = {
    name.rpartition(".")[2]
    for name, f in names().items()
    if callable(f) and not inspect.isclass(f) and name.startswith("limits.")
}
PUBLIC = {
    name.rpartition(".")[2]: value
    for name, value in names().items()
    if callable(value) and not (isinstance(value, type) and issubclass(value, Exception))
}


sys.path += [str(ROOT / "examples"), str(ROOT / "examples" / "benchmarks")]  # of what they share


@pytest.fixture
def as_users_run(monkeypatch):
    """Without arguments, and with JAX's own settings, in place of the stricter ones of tests; those
    of scripts are undone."""
    monkeypatch.setattr(sys, "argv", ["script"])
    matplotlib.use("Agg")
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    jax.config.update("jax_enable_x64", False)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
    for name, value in before.items():
        jax.config.update(name, value)


def missing(tree):
    """Names that `tree` imports from packages that do not have them."""
    return [
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if not hasattr(importlib.import_module(node.module), alias.name)
    ]


def unknown(tree):
    """Keywords in calls of public functions that these do not take."""
    taken = {name: set(inspect.signature(f).parameters) for name, f in PUBLIC.items()}
    taken["collapse"] |= taken["coupling"]
    return [
        f"{node.func.id}({keyword.arg}=...)"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        for keyword in node.keywords
        if keyword.arg and keyword.arg not in taken.get(node.func.id, {keyword.arg})
    ]


def mentioned(tree):
    """Names that `tree` mentions, called or handed on, and attributes that it calls."""
    nodes = list(ast.walk(tree))
    calls = (node.func for node in nodes if isinstance(node, ast.Call))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {f.attr for f in calls if isinstance(f, ast.Attribute)}


def beginning(tree):
    """The statements of a script before the first that runs or fetches anything long, definitions
    aside."""
    runs, kept = RUNS | {"fetch_openml"}, []
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef):
            if mentioned(statement) & runs:
                runs.add(statement.name)
        elif mentioned(statement) & runs or isinstance(statement, ast.For | ast.While):
            break
        kept.append(statement)
    return ast.Module(kept, type_ignores=[])


def test_a_script_begins_up_to_the_first_statement_that_mentions_a_run():
    """Called, handed to another function, or through a wrapper of its own."""
    wrapper = "def solve(n):\n    return flow(n, risk)\n"
    for run in ("flow(n, risk)", "limits.flow(n, risk)", "timed(solve, n)", "run = jit(solve)"):
        script = ast.parse(f"n = 1\n{wrapper}{run}\nafter = 2")
        assert len(beginning(script).body) == 2


@pages
def test_pages_import_names_that_exist_and_give_arguments_that_exist(page):
    script = ast.parse("\n".join(PAGES[page]))
    assert not missing(script)
    assert not unknown(script)


def test_the_readme_begins_to_run(as_users_run):
    """Up to its first run."""
    names = {}
    exec(compile(beginning(ast.parse("\n".join(README))), "README.md", "exec"), names)
    assert {"ensemble", "risk"} <= set(names)


@pytest.mark.slow
@pages
def test_pages_run(page, as_users_run, tmp_path, monkeypatch):
    """All their blocks, in order, in one namespace (some minutes in all)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EQX_ON_ERROR", "raise")  # as a page sets it by itself
    # As of a file: functions that are saved are found again by their names.
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    for i, block in enumerate(PAGES[page]):
        exec(compile(block, f"{page}, block {i + 1}", "exec"), vars(module))


def test_every_public_name_is_on_exactly_one_page_of_the_reference():
    text = "\n".join(path.read_text() for path in sorted((ROOT / "docs" / "api").glob("*.md")))
    entries = re.findall(r"^\.\. auto\w+:: ((?:ensembles|limits)\.[\w.]+)$", text, re.M)
    assert len(set(entries)) == len(entries)
    assert set(entries) == set(names())


def test_facades_are_small_and_no_name_has_two_homes():
    """A newcomer meets the flat names only."""
    public = names()
    assert len({id(value) for value in public.values()}) == len(public)
    assert len({name.rpartition(".")[2] for name in public}) == len(public)
    assert len(names(ensembles, limits)) <= 95


@examples
def test_examples_have_a_title_and_cells(path):
    source = path.read_text()
    lines = ast.get_docstring(ast.parse(source)).splitlines()
    assert set(lines[1]) == {"="} and len(lines[1]) >= len(lines[0]) > 0
    assert re.search(r"^# %%$", source, re.MULTILINE)


@examples
def test_examples_import_names_and_give_arguments_that_exist(path):
    script = ast.parse(path.read_text())
    assert not missing(script)
    assert not unknown(script)


@examples
def test_examples_begin_to_run(path, as_users_run):
    """Up to their first run."""
    script = beginning(ast.parse(path.read_text()))
    assert any(isinstance(s, ast.Assign | ast.FunctionDef) for s in script.body)
    exec(compile(script, str(path), "exec"), {"__file__": str(path), "__name__": path.stem})
