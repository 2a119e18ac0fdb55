"""Findings as short statements: prompts that train a CLIP to distinguish sides, lobes and enhancement patterns."""

from __future__ import annotations

from collections.abc import Collection

import torch

from ..reports import Findings

# attribute -> value -> wordings. The wordings of a value are synonyms; training draws one of them.
ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
    "side": {
        side: tuple(
            template.format(side)
            for template in (
                "lesion in the {} hemisphere",
                "{}-sided tumour",
                "tumour of the {} cerebral hemisphere",
                "mass on the {} side",
                "the lesion is on the {}",
                "{} brain lesion",
            )
        )
        for side in ("left", "right")
    }
    | {
        "bilateral": ("lesion in both hemispheres", "bilateral tumour", "lesions on both sides"),
        "midline": ("midline lesion", "tumour in the midline", "lesion crossing the midline"),
    },
    "lobe": {
        lobe: (f"{lobe} lobe lesion", f"tumour in the {lobe} lobe", f"mass in the {lobe} region", f"{lobe} tumour")
        for lobe in ("frontal", "parietal", "temporal", "occipital")
    }
    | {
        "insular": ("insular lesion", "tumour of the insula"),
        "deep": ("lesion of the basal ganglia or thalamus", "deep tumour", "thalamic or basal ganglia mass"),
        "cerebellum": ("cerebellar lesion", "tumour in the cerebellum"),
        "brainstem": ("brainstem lesion", "tumour of the brainstem"),
    },
    "enhancement": {
        "absent": ("no enhancement", "non-enhancing tumour", "the lesion does not enhance", "without enhancement"),
        "present": ("enhancing tumour", "contrast enhancement", "the lesion enhances", "enhancement after contrast"),
    },
    "pattern": {
        "rim": ("ring enhancement", "rim-enhancing lesion", "peripheral enhancement"),
        "nodular": ("nodular enhancement", "enhancing nodule"),
        "patchy": ("patchy enhancement", "heterogeneous patchy enhancement"),
        "solid": ("solid enhancement", "homogeneously enhancing mass"),
    },
    "necrosis": {
        "absent": ("no necrosis", "without necrosis", "no necrotic component"),
        "present": ("necrotic core", "central necrosis", "necrosis within the tumour"),
    },
    "oedema": {
        "none": ("no oedema", "without surrounding oedema", "no edema"),
        "mild": ("mild oedema", "little surrounding oedema", "mild edema"),
        "moderate": ("moderate oedema", "moderate surrounding oedema", "moderate edema"),
        "marked": ("marked oedema", "extensive surrounding oedema", "marked edema"),
    },
    "size": {
        "small": ("small lesion", "small tumour"),
        "medium-sized": ("medium-sized lesion", "lesion of moderate size"),
        "large": ("large lesion", "large tumour"),
    },
    "mass effect": {
        "none": ("no mass effect", "no midline shift", "ventricles are not compressed"),
        "mild": ("mild mass effect", "slight compression of the ventricle"),
        "marked": ("marked mass effect", "midline shift", "compressed and deformed ventricles"),
    },
    "foci": {
        "one": ("single lesion", "solitary lesion"),
        "several": ("multiple lesions", "multifocal tumour"),
    },
}
# The attributes that a caption of brats_clip.reports states.
CAPTION_ATTRIBUTES = ("side", "lobe", "enhancement", "pattern", "size")
VALUES = [(attribute, value) for attribute, values in ATTRIBUTES.items() for value in values]


def attribute_slices() -> dict[str, slice]:
    """Return the slice of ``VALUES`` that holds the values of each attribute."""
    places, start = {}, 0
    for attribute, values in ATTRIBUTES.items():
        places[attribute] = slice(start, start + len(values))
        start += len(values)
    return places


def attribute_targets(findings: Findings | None, stated: Collection[str] | None = None) -> torch.Tensor:
    """Return which statements are true for a case.

    Args:
        findings: of the case; ``None`` if unknown.
        stated: attributes to consider; ``None`` for all.

    Returns:
        ``(V,)`` in the order of ``VALUES``: per attribute a distribution over its values (uniform over the involved
        lobes), or zeros where nothing is known.
    """
    targets = torch.zeros(len(VALUES))
    if findings is None or findings.empty:
        return targets
    enhances = findings.enhancement != "none"
    true = {
        "side": [findings.side],
        "lobe": list(findings.lobes),
        "enhancement": ["present" if enhances else "absent"],
        "pattern": [findings.enhancement.removeprefix("thin ").removeprefix("thick ")] if enhances else [],
        "necrosis": ["present" if findings.necrosis else "absent"],
        "oedema": [findings.oedema],
        "size": [findings.size],
        "mass effect": [findings.mass_effect] if findings.mass_effect else [],
        "foci": ["one" if findings.foci < 2 else "several"],
    }
    for attribute, values in true.items():
        for value in values if stated is None or attribute in stated else ():
            targets[VALUES.index((attribute, value))] = 1.0 / len(values)
    return targets
