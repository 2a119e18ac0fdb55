import numpy as np
import pytest

from brats_clip.reports.findings import LOBES
from brats_clip.reports.lobes import BrainFrame, lobe_of, lobe_shares

# The lobe of each region name used by Dosenbach et al. (Science 2010).
NAMED = {
    "aPFC": "frontal",
    "ACC": "frontal",
    "dlPFC": "frontal",
    "dFC": "frontal",
    "vFC": "frontal",
    "vmPFC": "frontal",
    "SMA": "frontal",
    "precentral gyrus": "frontal",
    "sup frontal": "frontal",
    "IPL": "parietal",
    "IPS": "parietal",
    "angular gyrus": "parietal",
    "precuneus": "parietal",
    "post parietal": "parietal",
    "sup parietal": "parietal",
    "inf temporal": "temporal",
    "temporal": "temporal",
    "fusiform": "temporal",
    "post occipital": "occipital",
    "ant insula": "insular",
    "mid insula": "insular",
    "thalamus": "deep",
    "inf cerebellum": "cerebellum",
    "lat cerebellum": "cerebellum",
    "med cerebellum": "cerebellum",
}


def test_lookup_agrees_with_published_coordinates():
    from nilearn.datasets import fetch_coords_dosenbach_2010

    atlas = fetch_coords_dosenbach_2010()  # ships inside nilearn
    points = np.array([list(roi)[:3] for roi in np.asarray(atlas.rois.to_records(index=False))], float)
    wanted = [NAMED.get(str(label).rsplit(" ", 1)[0]) for label in atlas.labels]
    known = [i for i, lobe in enumerate(wanted) if lobe]
    found = lobe_of(points[known])
    assert len(known) > 80
    assert np.mean([LOBES[f] == wanted[i] for f, i in zip(found, known, strict=True)]) > 0.9


@pytest.mark.parametrize(
    ("point", "lobe"),
    [
        ((0, -27, -32), "brainstem"),
        ((0, -25, -14), "brainstem"),
        ((26, 4, 2), "deep"),
        ((12, 12, 10), "deep"),
        ((28, -22, -14), "temporal"),
        ((22, -4, -20), "temporal"),
        ((40, 14, -30), "temporal"),
        ((8, -84, 4), "occipital"),
        ((30, 36, -12), "frontal"),
        ((6, -46, 28), "parietal"),
    ],
)
def test_lookup_is_symmetric_and_knows_landmarks(point, lobe):
    mirrored = [(point[0], *point[1:]), (-point[0], *point[1:])]
    assert [LOBES[i] for i in lobe_of(np.array(mirrored, float))] == [lobe, lobe]


def test_shares_sum_to_one_in_descending_order():
    shares = lobe_shares(np.random.default_rng(0).uniform([-60, -90, -40], [60, 60, 60], (2000, 3)))
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_frame_ignores_a_strip_beside_the_brain():
    grid = np.stack(np.meshgrid(*[np.arange(80)] * 3, indexing="ij"), -1)
    brain = (((grid - 40) / np.array([30, 36, 30])) ** 2).sum(-1) < 1
    frame = BrainFrame(brain.shape, np.array([2.0, 2.0, 2.0]), brain)
    with_strip = brain.copy()
    with_strip[38:42, 76:80, 38:42] = True
    stripped = BrainFrame(brain.shape, np.array([2.0, 2.0, 2.0]), with_strip)
    assert np.allclose(frame.origin, stripped.origin) and np.allclose(frame.scale, stripped.scale)
    middle = frame.to_mni(np.array([[40.0, 40.0, 40.0]]))[0]
    assert middle[0] == pytest.approx(0) and abs(middle[1] + 16.5) < 4
