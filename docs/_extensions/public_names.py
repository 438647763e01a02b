"""Code such as `limit`, `Steps(0.1)` or `Network.masses` links to its entry in the reference."""

import inspect
import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform

import ensembles
import ensembles.blocks
import ensembles.channels
import ensembles.groups
import limits
import limits.kernels
import limits.references
import limits.symmetries
import limits.warnings

PUBLIC = {
    name: package.__name__
    for package in (
        ensembles,
        ensembles.blocks,
        ensembles.channels,
        ensembles.groups,
        limits,
        limits.kernels,
        limits.references,
        limits.symmetries,
        limits.warnings,
    )
    for name, value in vars(package).items()
    if not name.startswith("_") and not inspect.ismodule(value)
}
WHERE = (
    r"(?:ensembles\.(?:(?:blocks|channels|groups)\.)?"
    r"|limits\.(?:(?:kernels|references|symmetries|warnings)\.)?)"
)
NAME = re.compile(WHERE + r"?([A-Za-z]\w*)((?:\.\w+)?)(\(.*\)(?:\.\w+)?)?", re.S)
WITHIN = (nodes.reference, nodes.title, nodes.term, addnodes.pending_xref, addnodes.desc_signature)


class Links(SphinxPostTransform):
    """Runs before references are resolved."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        objects = self.env.get_domain("py").objects  # pyright: ignore
        for code in list(self.document.findall(nodes.literal)):
            match = NAME.fullmatch(code.astext())
            if match is None or match[1] not in PUBLIC or _inside(code) or _field(code):
                continue
            whole = f"{PUBLIC[match[1]]}.{match[1]}"
            target = whole + match[2] if whole + match[2] in objects else whole
            if target not in objects or target == _own(code):
                continue
            link = addnodes.pending_xref(
                "", refdomain="py", reftype="obj", reftarget=target, refexplicit=True,
                refdoc=self.env.docname, refwarn=False,
            )  # fmt: skip
            code.replace_self(link)
            link += code


def _inside(node: nodes.Node) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, WITHIN):
            return True
    return False


def _own(node: nodes.Node) -> str | None:
    """The name of the object whose docstring this is."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, addnodes.desc):
            ids = node[0].get("ids") if len(node) else None  # pyright: ignore
            return ids[0] if ids else None
    return None


def _field(node: nodes.Node) -> bool:
    """Whether the code is what a list in a docstring explains: an argument, not a public name."""
    item = node.parent.parent if isinstance(node.parent, nodes.paragraph) else None
    if not isinstance(item, nodes.list_item) or _own(node) is None:
        return False
    before = "".join(n.astext() for n in node.parent.children[: node.parent.index(node)])
    return ":" not in before and not re.search(r"[.;]", before)


def setup(app: Any) -> dict[str, Any]:
    app.add_post_transform(Links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
