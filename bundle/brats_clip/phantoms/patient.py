"""A synthetic patient from one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InputError
from ..reports import Findings, describe_mask, write_report
from .anatomy import Anatomy, draw_warp, sample_anatomy
from .appearance import paint, scan
from .fields import Randomness, on_one_thread
from .lesion import Healthy
from .traits import Traits, draw_traits
from .tumour import Tumour, TumourPlan, draw_tumour, plan_tumour, push

# RAS, 1 mm, with the canvas corner at the origin: the scanner position of BraTS cases is not known either.
AFFINE = np.eye(4)
REPORT_STREAM = 1


@dataclass
class Phantom:
    """One synthetic patient at 1 mm in RAS.

    Attributes:
        image: ``(4, X, Y, Z)`` float32: T1, T1ce, T2, FLAIR, zero outside the brain and outside the field of view.
        label: ``(X, Y, Z)`` uint8 with values 0, 1, 2, 4.
        brain: ``(X, Y, Z)`` bool.
        findings: what a radiologist would note.
        report: the findings as text.
        affine: voxel to world, mm.
        traits: kind of tumour and faults of the scan; None for a phantom that was not drawn from a seed.
    """

    image: np.ndarray
    label: np.ndarray
    brain: np.ndarray
    findings: Findings
    report: str
    affine: np.ndarray
    traits: Traits | None = None


@dataclass
class Subject:
    """A synthetic patient before the scan, on ``anatomy.CANVAS``.

    Attributes:
        anatomy: the healthy brain, displaced by the tumour.
        tumour: the tumour.
        tissue: ``(4, X, Y, Z)`` intensities.
        healthy: intensities of healthy tissue by sequence.
        traits: kind of tumour and faults of the scan.
        flip: whether left and right are exchanged at the end.
    """

    anatomy: Anatomy
    tumour: Tumour
    tissue: torch.Tensor
    healthy: Healthy
    traits: Traits
    flip: bool


def draw_subject(random: Randomness, traits: Mapping[str, object] | None = None) -> Subject:
    """Draw anatomy, tumour and the tissue's intensities; arguments and errors as in ``draw_phantom``."""
    if not 0 <= random.shift <= 2:
        raise InputError("shift", str(random.shift), "a number from 0 to 2")
    mni = draw_warp(random)
    chosen = draw_traits(random, traits)
    plan = plan_tumour(random, mni, chosen.kind)
    anatomy = sample_anatomy(random, push(plan, mni))
    tumour = draw_tumour(random, anatomy, plan)
    tissue, healthy = paint(random, anatomy, tumour, chosen)
    flip = random.chance(0.5)  # the template is symmetric, its T1 detail and the placement are not quite
    return Subject(anatomy, tumour, tissue, healthy, chosen, flip)


@on_one_thread
def draw_phantom(seed: int | Sequence[int], shift: float = 0.0, traits: Mapping[str, object] | None = None) -> Phantom:
    """Draw the patient of ``seed``; equal seeds give equal patients, whatever was drawn before.

    Args:
        seed: a whole number or several.
        shift: 0 for the training settings. 1 draws sizes, contrasts, shading, noise and resolution beyond those, to
            select checkpoints on unseen settings; the definition of the labels does not change.
        traits: fields of ``Traits`` to set instead of drawing them.

    Raises:
        InputError: if ``shift`` lies outside 0 to 2, or ``traits`` names something unknown.
    """
    random = Randomness(seed, shift)
    return finish(seed, random, draw_subject(random, traits))


def finish(seed: int | Sequence[int], random: Randomness, subject: Subject) -> Phantom:
    """Scan, strip and describe ``subject``, which ``random`` drew from ``seed``."""
    anatomy, tumour = subject.anatomy, subject.tumour
    image = scan(random, subject.tissue, anatomy, subject.healthy, subject.traits)
    label = torch.zeros(anatomy.brain.shape, dtype=torch.uint8)
    label[tumour.box] = tumour.label
    brain = (image > 0).any(dim=0)
    if subject.flip:
        image, label, brain = image.flip(1), label.flip(0), brain.flip(0)
    label, brain = label.numpy().copy(), brain.numpy().copy()
    findings = describe_mask(label, AFFINE, brain=brain, mass_effect=mass_effect(tumour.plan))
    # A separate generator, so that a change of the report's wording does not change the images.
    report = write_report(findings, np.random.default_rng(np.append(np.atleast_1d(seed), REPORT_STREAM)))
    return Phantom(image.contiguous().numpy(), label, brain, findings, report, AFFINE.copy(), subject.traits)


def mass_effect(plan: TumourPlan) -> str:
    """Grade the mass effect by the displacement: below 2 mm "none", below 5.4 mm "mild", else "marked"."""
    return "none" if plan.push_mm < 2.0 else "mild" if plan.push_mm < 5.4 else "marked"
