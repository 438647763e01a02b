"""Sphinx configuration: `python -m sphinx docs docs/_build`, which also runs the examples."""

project = "neuronal-ensembles"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
html_theme = "furo"
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"examples/[^/]*\.py$",
    "ignore_pattern": r"benchmarks/",
}
