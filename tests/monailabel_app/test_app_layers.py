"""The parts of the app import only lower layers, as drawn in ``monailabel_app/docs/architecture.md``."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "monailabel_app" / "brats_label"
# From bottom to top; parts on one line do not import each other.
LAYERS = (
    ("errors", "durable", "exit_with_parent"),
    ("settings", "store"),
    ("open_store", "dicom", "models"),
    ("studies",),
    ("labels",),
    ("case_info", "prompt_history", "uploads"),
    ("datastore",),
    ("inference", "training", "review"),
    ("server", "demo"),
    ("doctor",),
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}


def imports() -> set[tuple[str, str]]:
    """Return pairs of importing and imported part, without imports for type checking only."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE).parts[:-1]
        part = inside[0] if inside else path.stem
        tree = ast.parse(path.read_text(encoding="utf-8"))
        typing = [
            node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        ]
        ignored = {id(node) for branch in typing for node in ast.walk(branch)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level and id(node) not in ignored:
                above = inside[: len(inside) - node.level + 1]
                names = [node.module] if node.module else [name.name for name in node.names]
                found |= {(part, [*above, *name.split(".")][0]) for name in names}
    return {(part, other) for part, other in found if part != other and part != "__init__"}


def test_each_part_imports_only_lower_layers():
    assert len(imports()) > 30
    upwards = {(part, other) for part, other in imports() if LAYER[part] <= LAYER[other]}
    assert not upwards
