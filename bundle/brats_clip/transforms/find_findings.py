"""Add the findings of a case, from which reports are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from monai.transforms import Transform

from ..reports import Findings, describe_mask


class FindFindingsd(Transform):
    """Add ``findings`` to a case from ``LoadCased``: from ``CASE_findings.json`` beside its T1, else from its label.

    Phantoms have this file, which also states the mass effect. ``findings`` is the output of ``Findings.to_dict``, or
    ``None`` for a case with neither file nor label.
    """

    def __call__(self, data: Mapping) -> dict:
        path = Path(data["t1"]).parent / f"{data['case']}_findings.json" if data.get("t1") else None
        if path is not None and path.is_file():
            findings = Findings.from_dict(json.loads(path.read_text())).to_dict()
        elif "label" in data:
            brain = (data["image"] != 0).any(dim=0).numpy()
            findings = describe_mask(data["label"][0].numpy(), data["label"].affine.numpy(), brain=brain).to_dict()
        else:
            findings = None
        return {**data, "findings": findings}
