"""Write a patient's NIfTI images as a DICOM study like that of a scanner, for tests and the demo."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from brats_clip.cases import SEQUENCES
from brats_clip.phantoms import Phantom, RawPhantom, write_phantom

from ..dicom import as_file, save_file
from ..dicom.report_documents import basic_text_sr, encapsulated_text
from ..studies.dicomweb.series import MR_STORAGE

TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Protocol:
    """DICOM attributes by which a scanner describes a series; times in ms."""

    description: str
    scanning: tuple[str, ...]
    variant: str
    acquisition: str
    tr: float
    te: float
    ti: float | None = None
    agent: str = ""
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "M", "NORM")


PROTOCOLS: Mapping[str, Protocol] = {
    "t1": Protocol("AX T1 MPRAGE", ("GR", "IR"), "SK\\SP\\MP", "3D", 1900, 2.9, 900),
    "t2": Protocol("AX T2 TSE", ("SE",), "SK\\SP", "2D", 5200, 96),
    "flair": Protocol("AX FLAIR", ("SE", "IR"), "SK\\SP", "2D", 9000, 120, 2500),
    "t1ce": Protocol("AX T1 MPRAGE POST GD", ("GR", "IR"), "SK\\SP\\MP", "3D", 1900, 2.9, 900, "Gadobutrol"),
}  # in the order of acquisition: the contrast agent comes last
LOCALISER = Protocol(
    "3-plane loc", ("GR",), "SS", "2D", 8.6, 4.0, None, "", ("ORIGINAL", "PRIMARY", "LOCALIZER", "NORM")
)
ADC = Protocol("ADC", ("EP",), "SK", "2D", 4100, 86, None, "", ("DERIVED", "PRIMARY", "ADC", "NORM"))
SUBTRACTION = Protocol(
    "T1 POST minus PRE", ("GR", "IR"), "SK\\SP\\MP", "3D", 1900, 2.9, 900, "", ("DERIVED", "SECONDARY", "SUBTRACTION")
)


@dataclass(frozen=True)
class Extras:
    """Additional series of the study, and attributes that its headers lack.

    Attributes:
        localiser: three slices in three planes.
        duplicate_t2: a second T2 series, acquired earlier, with twice the slice thickness.
        maps: an ADC map and a subtraction image.
        thick_flair: the FLAIR in sagittal slices of about 5 mm instead of the grid of the others.
        descriptions: "full"; "none" omits the series description; "silent" also omits TR, TE, TI and the agent.
        report: "sr" for a Basic Text SR, "text" for an encapsulated text, "" for none.
    """

    localiser: bool = False
    duplicate_t2: bool = False
    maps: bool = False
    thick_flair: bool = False
    descriptions: str = "full"
    report: str = "sr"


@dataclass(frozen=True)
class WrittenStudy:
    """A study on disk: one folder per series.

    Attributes:
        series: SeriesInstanceUID by sequence, and by "localiser", "t2 thick", "adc", "subtraction", "report".
    """

    folder: Path
    study_uid: str
    patient_id: str
    series: dict[str, str] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """Return the files of all instances."""
        return sorted(self.folder.glob("*/*.dcm"))

    def datasets(self) -> Iterator[Dataset]:
        """Read all instances."""
        return (dcmread(path) for path in self.files())


def write_study(
    source: Phantom | RawPhantom | Path,
    folder: Path,
    case: str,
    extras: Extras | None = None,
    seed: int | str = 0,
    size: Sequence[int] = (240, 240, 155),
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> WrittenStudy:
    """Write a patient as DICOM below ``folder / case``; equal arguments give equal UIDs.

    Args:
        source: a phantom, brain-extracted or raw, or a folder with ``*_t1.nii.gz`` and so on, and any ``*_report.txt``.
        seed: the UIDs are derived from it and ``case``.
        size, spacing: grid of a brain-extracted phantom; other sources keep theirs.
    """
    extras = extras or Extras()
    if isinstance(source, Phantom):
        with tempfile.TemporaryDirectory() as temporary:
            write_phantom(source, Path(temporary), case, size, spacing)
            return write_study(Path(temporary) / case, folder, case, extras, seed)
    if isinstance(source, RawPhantom):
        images = {s: nib.Nifti1Image(series.image, series.affine) for s, series in source.series.items()}
        report = source.phantom.report
    else:
        images = {s: nib.load(next(iter(sorted(Path(source).glob(f"*_{s}.nii*"))))) for s in SEQUENCES}
        texts = [path.read_text(encoding="utf-8") for path in Path(source).glob("*_report.txt")]
        report = texts[0].strip() if texts else ""
    writer = _Writer(Path(folder) / case, case, str(seed), extras.descriptions)
    if extras.localiser:
        writer.localiser(images["t1"])
    if extras.duplicate_t2:
        thick = replace(PROTOCOLS["t2"], description="AX T2 TSE 5MM")
        writer.volume("t2 thick", thicken(images["t2"], 2), thick)
    for sequence, protocol in PROTOCOLS.items():
        image = images[sequence]
        if sequence == "flair" and extras.thick_flair:
            image = sagittal(image)
            image = thicken(image, max(2, round(5 / float(image.header.get_zooms()[2]))))
            protocol = replace(protocol, description="SAG FLAIR")
        writer.volume(sequence, image, protocol)
    if extras.maps:
        writer.volume("adc", images["t2"], ADC)
        difference = np.asarray(images["t1ce"].dataobj, np.int32) - np.asarray(images["t1"].dataobj, np.int32)
        writer.volume(
            "subtraction", nib.Nifti1Image(difference.clip(0).astype(np.int16), images["t1"].affine), SUBTRACTION
        )
    if extras.report and report:
        make = basic_text_sr if extras.report == "sr" else encapsulated_text
        uid = writer.uid("report")
        writer.save(make(report, writer.common("report"), uid), "report", 1)
    return WrittenStudy(writer.folder, writer.study_uid, writer.patient_id, writer.series)


def sagittal(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return the same voxels as sagittal slices: columns to posterior, rows to inferior, slices to the right."""
    target = nib.orientations.axcodes2ornt(("P", "I", "R"))
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), target))


def thicken(image: nib.Nifti1Image, count: int) -> nib.Nifti1Image:
    """Average each ``count`` slices into one thick slice; drop the slices that remain at the end."""
    array = np.asarray(image.dataobj, np.float32)
    whole = array.shape[2] // count
    thick = array[:, :, : whole * count].reshape(*array.shape[:2], whole, count).mean(axis=3)
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (count - 1) / 2
    affine[:3, 2] *= count
    return nib.Nifti1Image(np.rint(thick).astype(np.int16), affine)


class _Writer:
    def __init__(self, folder: Path, case: str, seed: str, descriptions: str) -> None:
        self.folder, self.case, self.descriptions, self._seed = folder, case, descriptions, seed
        self.series: dict[str, str] = {}
        # Only characters that need no URL encoding: viewers put the id into URLs, and not every server decodes them.
        self.patient_id = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{case}-{seed}")[:64]
        self.study_uid = self.uid("study")

    def uid(self, *what: object) -> str:
        return str(generate_uid(entropy_srcs=[self._seed, self.case, *(str(part) for part in what)]))

    def common(self, name: str) -> Dataset:
        """Return the attributes of patient, study and series."""
        number = len(self.series) + 1
        self.series[name] = self.uid(name)
        ds = Dataset()
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.PatientName = f"Phantom^{self.case}"[:64]
        ds.PatientID = self.patient_id
        ds.PatientBirthDate, ds.PatientSex = "", "O"
        ds.StudyInstanceUID = self.study_uid
        ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20260105"
        ds.StudyTime = "080000"
        ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = f"08{4 * number:02d}00"
        ds.AccessionNumber, ds.ReferringPhysicianName, ds.StudyID = "", "", "1"
        ds.StudyDescription = "MR BRAIN TUMOUR"
        ds.SeriesInstanceUID, ds.SeriesNumber = self.series[name], number
        ds.Manufacturer, ds.ManufacturerModelName = "brats-clip", "synthetic patient"
        ds.DeviceSerialNumber, ds.SoftwareVersions = "0", "1"
        return ds

    def volume(self, name: str, image: nib.Nifti1Image, protocol: Protocol) -> None:
        """Write one file per slice along the last axis."""
        array, affine = np.asarray(image.dataobj), TO_LPS @ image.affine
        shared = self._shared(name, protocol)
        for index in range(array.shape[2]):
            self._slice(shared, name, index, array[:, :, index], affine @ _to_slice(index))

    def localiser(self, image: nib.Nifti1Image) -> None:
        """Write three planes through the middle."""
        shared = self._shared("localiser", LOCALISER)
        array, affine = np.asarray(image.dataobj), TO_LPS @ image.affine
        for axis in range(3):
            order = [a for a in range(3) if a != axis] + [axis]
            turned, turn = array.transpose(order), np.zeros((4, 4))
            turn[order, range(3)], turn[3, 3] = 1, 1
            middle = turned.shape[2] // 2
            self._slice(shared, "localiser", axis, turned[:, :, middle], affine @ turn @ _to_slice(middle))

    def save(self, ds: Dataset, name: str, number: int) -> None:
        folder = self.folder / name.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        save_file(as_file(ds), folder / f"{number:04d}.dcm")

    def _shared(self, name: str, protocol: Protocol) -> Dataset:
        ds = self.common(name)
        ds.SOPClassUID, ds.Modality = MR_STORAGE, "MR"
        ds.ImageType, ds.BodyPartExamined = list(protocol.image_type), "BRAIN"
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = self.uid("frame of reference"), ""
        ds.PatientPosition = "HFS"
        if self.descriptions == "full":
            ds.SeriesDescription = ds.ProtocolName = protocol.description
        if self.descriptions != "silent":
            ds.ScanningSequence, ds.MRAcquisitionType = list(protocol.scanning), protocol.acquisition
            ds.SequenceVariant = protocol.variant.split("\\")
            ds.RepetitionTime, ds.EchoTime = protocol.tr, protocol.te
            if protocol.ti is not None:
                ds.InversionTime = protocol.ti
            if protocol.agent:
                ds.ContrastBolusAgent = protocol.agent
        else:  # required attributes, which may be empty
            ds.ScanningSequence, ds.SequenceVariant, ds.MRAcquisitionType = "RM", "NONE", ""
            ds.RepetitionTime, ds.EchoTime = None, None
        ds.ScanOptions, ds.EchoTrainLength, ds.MagneticFieldStrength = "", 1, 3
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        return ds

    def _slice(self, shared: Dataset, name: str, index: int, pixels: np.ndarray, to_patient: np.ndarray) -> None:
        """``pixels`` ``(columns, rows)``; ``to_patient`` maps (column, row, slice) to LPS mm."""
        size = np.linalg.norm(to_patient[:3, :3], axis=0)
        ds = Dataset()
        ds.update(shared)
        ds.SOPInstanceUID, ds.InstanceNumber = self.uid(name, index), index + 1
        ds.ImagePositionPatient = [_decimal(v) for v in to_patient[:3, 3]]
        ds.ImageOrientationPatient = [_decimal(v) for v in (to_patient[:3, :2] / size[:2]).T.ravel()]
        ds.PixelSpacing = [_decimal(size[1]), _decimal(size[0])]
        ds.SliceThickness = ds.SpacingBetweenSlices = _decimal(size[2])
        ds.Rows, ds.Columns = pixels.shape[1], pixels.shape[0]
        top = float(np.percentile(pixels, 99.5)) or 1.0
        ds.WindowCenter, ds.WindowWidth = round(top / 2), max(round(top), 1)
        ds.PixelData = np.ascontiguousarray(pixels.T.astype("<i2")).tobytes()
        self.save(ds, name, index + 1)


def _to_slice(index: int) -> np.ndarray:
    move = np.eye(4)
    move[2, 3] = index
    return move


def _decimal(value: float) -> str:
    """Return a DICOM decimal string, at most 16 characters."""
    text = f"{float(value):.10g}"
    return "0" if text == "-0" else text[:16]
