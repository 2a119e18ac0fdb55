"""Alignment of sequences to one grid, and mapping of labels and points between grids."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to
from scipy.spatial.transform import Rotation

from brats_clip.cases import SEQUENCES, read_volume
from brats_clip.cases.registration import register
from brats_clip.geometry import Grid, resample
from brats_label.errors import NotFound, Refused
from brats_label.studies import Case, ChosenImage, library
from brats_label.studies.aligned import Aligned
from brats_label.studies.library import align as align_and_read


@pytest.fixture(scope="module")
def phantom(tiny_data_set) -> dict[str, Path]:
    case = tiny_data_set.cases[0]
    return {s: tiny_data_set.folder / case / f"{case}_{s}.nii.gz" for s in (*SEQUENCES, "seg")}


def case_of(files: dict[str, Path], reference: str = "t1ce") -> Case:
    images = {s: ChosenImage(s, f"CASE@{s}", path.name, "") for s, path in files.items()}
    return Case("CASE", "CASE", images, reference)


def align(case: Case, files: dict[str, Path], cache: Path, mode: str = "auto") -> Aligned:
    return align_and_read(case, files, cache, mode)[0]


def oblique(grid: Grid, spacing: tuple[float, float, float], degrees: float = 12) -> Grid:
    """Return a slightly rotated grid over the same head: other spacing, axes in another order, one flipped."""
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0.0, 0.8])).as_matrix()
    axes = turn @ np.array([[0, 1.0, 0], [0, 0, -1.0], [1.0, 0, 0]])
    extent = np.abs(np.diff(grid.corners()[:3, [0, -1]], axis=1)).max() + 30
    shape = tuple(int(extent / side) for side in spacing)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = grid.centre[:3] - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def save(path: Path, array: np.ndarray, grid: Grid) -> Path:
    nib.save(nib.Nifti1Image(array, grid.affine), path)
    return path


def moved(path: Path, target: Path, motion: np.ndarray, grid: Grid | None = None) -> Path:
    """Write a sequence as if the head had moved by ``motion`` (world to world) before it was acquired on ``grid``."""
    volume = read_volume(path)
    own = Grid(volume.array.shape, volume.affine)
    grid = grid or own
    return save(target, resample(volume.array, own, grid, np.linalg.inv(motion), linear=True), grid)


def rigid(grid: Grid, degrees: float, mm: float) -> np.ndarray:
    motion = np.eye(4)
    centre = grid.centre[:3]
    motion[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0.0, 0.8])).as_matrix()
    motion[:3, 3] = centre - motion[:3, :3] @ centre + mm * np.array([2, -1, 2]) / 3
    return motion


def shifted_grid(grid: Grid) -> Grid:
    """Return the grid shifted by half a voxel."""
    affine = grid.affine.copy()
    affine[:3, 3] += grid.spacing / 2
    return Grid(grid.shape, affine)


def grid_of(path: Path) -> Grid:
    image = nib.load(path)
    return Grid(image.shape, image.affine)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def native(phantom: dict[str, Path]) -> dict[str, Path]:
    return {s: phantom[s] for s in SEQUENCES}


def test_files_on_one_grid_stay_as_they_are(phantom, tmp_path):
    files = native(phantom)
    aligned = align(case_of(files), files, tmp_path / "cache")
    assert aligned.files == files
    assert not aligned.preparation.notes
    assert aligned.grids["t1ce"].shape == (48, 60, 48)
    assert not list((tmp_path / "cache").rglob("*.nii*"))


@pytest.fixture
def thick(phantom, tmp_path) -> dict[str, Path]:
    """Files of a case whose FLAIR has thick, reoriented, oblique slices."""
    target = oblique(grid_of(phantom["flair"]), (4.0, 4.0, 6.0))
    return {**native(phantom), "flair": moved(phantom["flair"], tmp_path / "flair.nii.gz", np.eye(4), target)}


def test_thick_oblique_flair_is_resampled_to_the_reference(phantom, thick, tmp_path):
    aligned = align(case_of(thick), thick, tmp_path / "cache")
    assert aligned.files["t1"] == thick["t1"]
    volume, reference = read_volume(aligned.files["flair"]), nib.load(phantom["t1ce"])
    np.testing.assert_allclose(volume.affine, reference.affine, atol=1e-4)
    brain = reference.get_fdata() > 0
    wanted = resample_from_to(nib.load(thick["flair"]), reference, order=1).get_fdata()
    assert np.corrcoef(volume.array[brain], wanted[brain])[0, 1] > 0.999
    assert aligned.preparation.notes[-1] == "flair: resampled to 4 x 4 x 4 mm"
    assert all(np.array_equal(motion, np.eye(4)) for motion in aligned.preparation.motions.values())


def test_label_is_mapped_to_the_flair_and_back(phantom, thick, tmp_path):
    aligned = align(case_of(thick), thick, tmp_path / "cache")
    tumour = np.asarray(nib.load(phantom["seg"]).dataobj)
    shown = aligned.label_on("flair", tumour)
    own = grid_of(thick["flair"])
    assert shown.shape == own.shape
    assert set(np.unique(shown.dataobj)) == set(np.unique(tumour))
    np.testing.assert_allclose(shown.affine, own.affine, atol=1e-4)
    back = aligned.label_from("flair", np.asarray(shown.dataobj), shown.affine)
    assert back.dtype == tumour.dtype
    assert dice(back > 0, tumour > 0) > 0.7


def test_label_on_a_reoriented_crop_is_mapped_correctly(phantom, tmp_path):
    files = native(phantom)
    aligned = align(case_of(files), files, tmp_path / "cache")
    label = nib.load(phantom["seg"])
    turned = nib.as_closest_canonical(label).slicer[5:43, 6:, 7:41]
    assert not np.array_equal(turned.affine, label.affine)
    back = aligned.label_from("t2", np.asarray(turned.dataobj), turned.affine)
    wanted = np.asarray(label.dataobj)
    inside = aligned.label_from("t2", np.ones(turned.shape, np.uint8), turned.affine) > 0
    np.testing.assert_array_equal(back, np.where(inside, wanted, 0))


def test_a_label_on_the_reference_is_unchanged(phantom, thick, tmp_path):
    aligned = align(case_of(thick), thick, tmp_path / "cache")
    tumour = np.asarray(nib.load(phantom["seg"]).dataobj)
    for sequence in ("t1ce", "t1"):
        shown = aligned.label_on(sequence, tumour)
        np.testing.assert_array_equal(np.asarray(shown.dataobj), tumour)
        np.testing.assert_allclose(shown.affine, aligned.reference_affine)


def test_points_on_the_flair_are_mapped_to_the_reference(thick, tmp_path):
    aligned = align(case_of(thick), thick, tmp_path / "cache")
    points = [[0, 0, 0], [10.5, 3, 7.25], [20, 21, 22]]
    found = aligned.points_to_working("flair", points)
    for point, answer in zip(points, found, strict=True):
        moved_by = np.linalg.inv(aligned.preparation.motions["flair"])
        world = moved_by @ grid_of(thick["flair"]).affine @ [*point, 1]
        np.testing.assert_allclose(aligned.reference_affine @ [*answer, 1], world, atol=1e-3)
    assert aligned.points_to_working("t1ce", points) == points
    assert aligned.points_to_working("flair", []) == []


def test_reoriented_sequence_is_aligned_exactly(phantom, tmp_path):
    files = native(phantom)
    image = nib.load(phantom["t2"])
    for code in ("RAS", "PIR", "SLA"):
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(code))
        )
        nib.save(image.as_reoriented(turn), tmp_path / f"{code}.nii.gz")
        turned = {**files, "t2": tmp_path / f"{code}.nii.gz"}
        aligned = align(case_of(turned), turned, tmp_path / "cache")
        np.testing.assert_allclose(read_volume(aligned.files["t2"]).array, read_volume(phantom["t2"]).array, atol=0.01)


def test_sheared_sequence_is_resampled_without_registration(phantom, tmp_path):
    grid = grid_of(phantom["flair"])
    shear = np.eye(4)
    shear[0, 1] = 0.2
    target = Grid(tuple(np.add(grid.shape, 14)), grid.affine @ shear)
    target.affine[:3, 3] += grid.centre[:3] - target.centre[:3]
    files = {"t1ce": phantom["t1ce"], "flair": tmp_path / "flair.nii.gz"}
    moved(phantom["flair"], files["flair"], np.eye(4), target)
    aligned = align(case_of(files), files, tmp_path / "cache")
    volume, brain = read_volume(aligned.files["flair"]).array, read_volume(phantom["flair"]).array > 0
    wanted = resample_from_to(nib.load(files["flair"]), nib.load(phantom["t1ce"]), order=1).get_fdata()
    assert np.corrcoef(volume[brain], wanted[brain])[0, 1] > 0.999
    assert "flair: not registered, since its axes or those of t1ce are sheared" in aligned.preparation.notes


def test_reference_determines_the_grid(thick, tmp_path):
    aligned = align(case_of(thick, "flair"), thick, tmp_path / "cache")
    assert aligned.grids[aligned.reference].shape == grid_of(thick["flair"]).shape
    assert aligned.files["flair"] == thick["flair"]
    assert {nib.load(path).shape for path in aligned.files.values()} == {aligned.grids[aligned.reference].shape}


def test_aligned_files_are_reused(thick, tmp_path, monkeypatch):
    files = {s: thick[s] for s in ("t1ce", "flair")}
    first = align(case_of(files), files, tmp_path / "cache")
    monkeypatch.setattr(library, "prepare", lambda *_, **__: pytest.fail("aligned again"))
    again = align(case_of(files), files, tmp_path / "cache")
    assert again.files == first.files
    assert again.preparation.notes == first.preparation.notes
    assert again.preparation.motions.keys() == first.preparation.motions.keys()


def test_incomplete_cache_folder_is_rebuilt(thick, tmp_path):
    first = align(case_of(thick), thick, tmp_path / "cache")
    first.files["flair"].unlink()
    again = align(case_of(thick), thick, tmp_path / "cache")
    assert again.files["flair"].is_file()


def test_registration_finds_a_known_motion(phantom, tmp_path):
    grid = grid_of(phantom["t1"])
    motion = rigid(grid, 5, 6)
    files = {s: phantom[s] for s in ("t1", "t1ce")}
    files["t2"] = moved(phantom["t2"], tmp_path / "t2.nii.gz", motion, shifted_grid(grid))
    aligned = align(case_of(files), files, tmp_path / "cache")
    assert [s for s, found in aligned.preparation.motions.items() if not np.array_equal(found, np.eye(4))] == ["t2"]
    brain = np.argwhere(read_volume(phantom["t1"]).array > 0)[::200]
    world = grid.affine @ np.c_[brain, np.ones(len(brain))].T
    assert np.linalg.norm(((aligned.preparation.motions["t2"] - motion) @ world)[:3], axis=0).max() < 1.0
    [note] = [note for note in aligned.preparation.notes if note.startswith("t2: registered to t1ce (moved ")]
    assert " turned 4." in note or " turned 5." in note


def test_labels_and_points_follow_the_motion(phantom, tmp_path):
    grid = grid_of(phantom["t1"])
    motion = rigid(grid, 5, 6)
    other = shifted_grid(grid)
    files = {"t1ce": phantom["t1ce"], "t2": moved(phantom["t2"], tmp_path / "t2.nii.gz", motion, other)}
    aligned = align(case_of(files), files, tmp_path / "cache")
    tumour = np.asarray(nib.load(phantom["seg"]).dataobj)
    where = resample(tumour, grid, other, np.linalg.inv(motion), linear=False)
    shown = aligned.label_on("t2", tumour)
    assert dice(np.asarray(shown.dataobj) > 0, where > 0) > 0.8
    assert dice(aligned.label_from("t2", where, other.affine) > 0, tumour > 0) > 0.8
    point = np.linalg.inv(other.affine) @ motion @ grid.centre
    wanted = np.linalg.inv(grid.affine) @ grid.centre
    found = aligned.points_to_working("t2", [point[:3].tolist()])[0]
    assert np.linalg.norm(np.subtract(found, wanted[:3])) * 4 < 1.0


def test_registration_is_deterministic(phantom, tmp_path):
    grid = grid_of(phantom["t1"])
    path = moved(phantom["t2"], tmp_path / "t2.nii.gz", rigid(grid, 3, 5))
    volumes = [read_volume(phantom["t1ce"]).array, grid, read_volume(path).array, grid]
    first, again = register(*volumes), register(*volumes)
    np.testing.assert_array_equal(first.matrix, again.matrix)


def test_noise_gives_no_registration_or_a_negligible_peak(phantom):
    volume = read_volume(phantom["t1ce"]).array
    grid = grid_of(phantom["t1ce"])
    noise = np.random.default_rng(0).uniform(1, 2, volume.shape).astype(np.float32)
    found = register(volume, grid, noise, grid)
    assert found is None or found.peak < 0.03
    assert register(volume, grid, np.zeros_like(volume), grid) is None


def test_sequence_outside_the_reference_is_refused(phantom, tmp_path):
    grid = grid_of(phantom["t2"])
    away = Grid(grid.shape, grid.affine.copy())
    away.affine[:3, 3] += 5000
    files = {**native(phantom), "t2": save(tmp_path / "away.nii.gz", read_volume(phantom["t2"]).array, away)}
    with pytest.raises(Refused, match=r"t2 \(away.nii.gz\): found 0% of the brain that t1ce shows"):
        align(case_of(files), files, tmp_path / "cache")


@pytest.mark.parametrize("fault", ["4d", "2d", "html", "gone", "constant", "cut", "nan"])
def test_unusable_file_is_refused_by_name(phantom, tmp_path, fault):
    path = tmp_path / "bad.nii.gz"
    array = np.random.default_rng(0).uniform(0, 9, (20, 20, 20)).astype(np.float32)
    affine = np.diag([8.0, 8, 8, 1])
    shapes = {"4d": (20, 20, 20, 2), "2d": (20, 20)}
    if fault == "constant":
        array[:] = 3
    if fault == "nan":
        array[3, 3, 3] = np.nan
    nib.save(nib.Nifti1Image(np.resize(array, shapes.get(fault, array.shape)), affine), path)
    if fault == "html":
        path.write_text("<html>")
    if fault == "gone":
        path.unlink()
    if fault == "cut":
        path.write_bytes(path.read_bytes()[:9000])
    files = {**native(phantom), "t1": path}
    with pytest.raises(Refused, match=r"t1 \(bad.nii.gz\): ") as refused:
        align(case_of(files), files, tmp_path / "cache")
    assert str(tmp_path) not in refused.value.sentence
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_wrong_labels_points_and_sequences_are_refused(phantom, tmp_path):
    files = {s: phantom[s] for s in ("t1", "t1ce")}
    aligned = align(case_of(files), files, tmp_path / "cache")
    with pytest.raises(Refused, match="2 x 3 x 4 voxels; expected 48 x 60 x 48"):
        aligned.label_on("t1", np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(Refused, match="expected a 3D label"):
        aligned.label_from("t1", np.zeros((2, 3)), np.eye(4))
    for points in ([[1, 2]], [["a", 2, 3]], [[1, 2, float("nan")]], [[1, 2, 3], [4]], [1, 2, 3]):
        with pytest.raises(Refused, match="three finite numbers"):
            aligned.points_to_working("t1", points)
    for call in (aligned.label_on, aligned.points_to_working):
        with pytest.raises(NotFound, match="no flair; it has t1, t1ce"):
            call("flair", np.zeros((48, 60, 48), np.uint8))
