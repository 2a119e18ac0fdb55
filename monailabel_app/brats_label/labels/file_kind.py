"""What a submitted file looks like, whatever it is called."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel as nib

NIFTI, NRRD, DICOM, RAW = "NIfTI", "NRRD", "DICOM", "raw"
EXTENSIONS = {".nii.gz": NIFTI, ".nii": NIFTI, ".nrrd": NRRD, ".dcm": DICOM, ".bin": RAW}
ACCEPTED = "a NIfTI image (.nii.gz, .nii), a Slicer segmentation (.seg.nrrd, .nrrd) or a DICOM SEG (.dcm)"

_MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"PK\x03\x04": "a ZIP archive",
    b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 file",
}


def kind_by_name(path: Path) -> str:
    """``NIFTI``, ``NRRD``, ``DICOM`` or ``RAW`` by the end of the file's name; "" for any other."""
    name = path.name.lower()
    return next((kind for end, kind in EXTENSIONS.items() if name.endswith(end)), "")


def look(path: Path) -> tuple[str, str]:
    """Tell the kind of a file from its content: ``NIFTI``, ``NRRD``, ``DICOM`` or "", and what it looks like in words.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:2] == b"\x1f\x8b":
        head = _unpack(head)
        kind, words = _look_at(head)
        return kind, f"gzip-packed: {words}" if head else "a gzip file that holds nothing readable"
    return _look_at(head)


def _look_at(head: bytes) -> tuple[str, str]:
    if not head:
        return "", "an empty file"
    if any(kind.header_class.may_contain_header(head) for kind in (nib.Nifti1Image, nib.Nifti2Image)):
        return NIFTI, "a NIfTI image"
    if head.startswith(b"NRRD000"):
        return NRRD, "an NRRD image"
    if head[128:132] == b"DICM":
        return DICOM, "a DICOM file"
    for magic, words in _MAGIC.items():
        if head.startswith(magic):
            return "", words
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")) or b"<html" in start[:1024]:
        return "", "an HTML page, such as a server's error page"
    if start.startswith(b"<"):
        return "", "XML"
    if start.startswith((b"{", b"[")):
        return "", "JSON"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "", "plain text"
    return "", "binary data of no known format"


def _unpack(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 1024)  # not to the end, where the checksum may be wrong
    except zlib.error:
        return b""
