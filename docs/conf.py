"""Sphinx configuration. Pages with the gallery, whose examples are run: `python -m sphinx docs
docs/_build`; pages alone, in less than two minutes: add `-D plot_gallery=0`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "neuronal-ensembles"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "plain_docstrings",
    "public_names",
]
exclude_patterns = ["_build", "_extensions"]
templates_path = []

html_theme = "furo"
html_title = "neuronal-ensembles"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
pygments_style = "tango"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

# Single backticks in docstrings are code; `public_names` makes links of the names it knows.
default_role = "literal"
smartquotes = False
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "none"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# Examples and benchmarks share names; only examples are shown.
suppress_warnings = ["sphinx_gallery.duplicate_filename"]

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"examples/[^/]*\.py$",
    "ignore_pattern": r"^_",  # what examples share
    "reset_modules": ("matplotlib", "examples_alone.begin"),
}
