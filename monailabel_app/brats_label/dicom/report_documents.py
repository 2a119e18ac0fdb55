"""Radiology reports as DICOM documents: structured reports and encapsulated text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
STRUCTURED_REPORTS = (
    BASIC_TEXT_SR,
    "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR
    "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
)
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
TEXT_TYPES = ("text/plain", "text/xml", "application/xml", "text/html")

_REPORT, _FINDINGS, _FINDING = ("18748-4", "LN", "Diagnostic imaging report"), ("121070", "DCM"), ("121071", "DCM")
# Codes of text items in which software describes itself and its measurements.
_BOOKKEEPING = {"112039", "112040", *(str(code) for code in range(121005, 121019))}  # tracking; observers
_CONTEXT = ("HAS OBS CONTEXT", "HAS ACQ CONTEXT")
_MEASUREMENT_TITLES = {"126000", "126001"}  # Imaging Measurement Report, Oncology Measurement Report
# Codes of text items that a radiologist writes, even in a measurement report.
_SAID = {"121070", "121071", "121072", "121073", "121074", "121075", "121076", "121077", "121078", "121111"}
_SAID |= {"59776-5", "18782-3", "19005-8", "55110-1"}


def read_text(document: Dataset) -> str:
    """Return the text of a structured report, item by item, or of an encapsulated text; "" if it is neither.

    Of a measurement report, only findings and conclusions are returned; the other texts are names of measurements.
    """
    if document.get("SOPClassUID") in STRUCTURED_REPORTS:
        code, meaning = _concept(document)
        measured = code in _MEASUREMENT_TITLES or "measurement" in meaning.lower()
        return "\n".join(_texts(document.get("ContentSequence") or (), only_said=measured))
    if str(document.get("MIMETypeOfEncapsulatedDocument", "")).strip().lower() in TEXT_TYPES:
        return _plain(document)
    return ""


def newest(documents: Iterable[Dataset]) -> str:
    """Return the text of the newest document; verified, then complete ones take precedence. "" if there is none."""

    def order(document: Dataset) -> tuple[bool, bool, str, str]:
        verified = document.get("VerificationFlag") == "VERIFIED"
        complete = document.get("CompletionFlag", "COMPLETE") == "COMPLETE"
        return verified, complete, str(document.get("ContentDate", "")), str(document.get("ContentTime", ""))

    texts = (read_text(document) for document in sorted(documents, key=order, reverse=True))
    return next((text for text in texts if text.strip()), "")


def basic_text_sr(text: str, common: Dataset, sop_uid: str) -> Dataset:
    """Make a Basic Text SR with one TEXT item per line.

    Args:
        text: the report.
        common: patient, study and series attributes.
        sop_uid: of the new instance.
    """
    ds = _report(common, sop_uid, BASIC_TEXT_SR, "SR")
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.PerformedProcedureCodeSequence, ds.ReferencedPerformedProcedureStepSequence = Items(), Items()
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    section = Dataset()
    section.RelationshipType, section.ValueType, section.ContinuityOfContent = "CONTAINS", "CONTAINER", "SEPARATE"
    section.ConceptNameCodeSequence = Items([_code(*_FINDINGS, "Findings")])
    items = []
    for line in filter(None, map(str.strip, text.splitlines())):
        item = Dataset()
        item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", line
        item.ConceptNameCodeSequence = Items([_code(*_FINDING, "Finding")])
        items.append(item)
    section.ContentSequence = Items(items)
    ds.ContentSequence = Items([section])
    return ds


def encapsulated_text(text: str, common: Dataset, sop_uid: str) -> Dataset:
    """Wrap plain text the way some report systems do: an encapsulated document of type text/plain.

    Args:
        text: the report.
        common: patient, study and series attributes.
        sop_uid: of the new instance.
    """
    ds = _report(common, sop_uid, ENCAPSULATED_PDF, "DOC")
    ds.ConversionType, ds.BurnedInAnnotation, ds.DocumentTitle = "WSD", "NO", "Report"
    ds.MIMETypeOfEncapsulatedDocument = "text/plain"
    data = text.encode("utf-8")
    ds.EncapsulatedDocumentLength = len(data)
    ds.EncapsulatedDocument = data + b"\n" * (len(data) % 2)
    return ds


def _report(common: Dataset, sop_uid: str, sop_class: str, modality: str) -> Dataset:
    ds = Dataset()
    ds.update(common)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, sop_uid, modality
    ds.SeriesDescription, ds.InstanceNumber = "Report", 1
    ds.ConceptNameCodeSequence = Items([_code(*_REPORT)])
    return ds


def _texts(items: Iterable[Dataset], only_said: bool) -> Iterable[str]:
    for item in items:
        code, _ = _concept(item)
        if item.get("RelationshipType") in _CONTEXT or code in _BOOKKEEPING:
            continue
        text = str(item.get("TextValue", "")).strip() if item.get("ValueType") == "TEXT" else ""
        if text and (code in _SAID or not only_said):
            yield text
        yield from _texts(item.get("ContentSequence") or (), only_said)


def _concept(item: Dataset) -> tuple[str, str]:
    """Return the code and the meaning of an item's name, "" if it has none."""
    names = item.get("ConceptNameCodeSequence") or ()
    return (str(names[0].get("CodeValue", "")), str(names[0].get("CodeMeaning", ""))) if len(names) else ("", "")


def _plain(document: Dataset) -> str:
    data = bytes(document.get("EncapsulatedDocument") or b"")
    data = data[: int(document.get("EncapsulatedDocumentLength") or len(data))]
    text = data.rstrip(b"\0").decode("utf-8-sig", errors="replace")
    if document.MIMETypeOfEncapsulatedDocument.strip().lower() != "text/plain":
        text = re.sub(r"(?s)<(style|script)\b.*?</\1>|<!--.*?-->|<\?.*?\?>", " ", text)
        text = re.sub(r"<[^>]+>", "\n", text)
        text = html.unescape(text)
    return "\n".join(filter(None, map(str.strip, text.splitlines())))


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
