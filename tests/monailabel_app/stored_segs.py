"""Retrieve the DICOM SEGs of a study from a DICOMweb server."""

from __future__ import annotations

from pydicom.dataset import Dataset

from brats_label.dicom.client import Client, as_unreachable


def find_segs(client: Client, study: str, series: str = "") -> list[Dataset]:
    """Return all SEGs of a study, the newest last.

    Args:
        study: StudyInstanceUID.
        series: return only SEGs that refer to this SeriesInstanceUID; "" for all.

    Raises:
        Unreachable: if the server does not answer.
    """
    with as_unreachable(client.base_url):
        listed = client.search_for_series(study, search_filters={"Modality": "SEG"})
        found = [ds for item in listed for ds in client.retrieve_series(study, item["0020000E"]["Value"][0])]
    if series:
        found = [ds for ds in found if series in _referenced(ds)]
    return sorted(found, key=lambda ds: (str(ds.get("ContentDate", "")), str(ds.get("ContentTime", ""))))


def _referenced(dataset: Dataset) -> set[str]:
    return {str(item.SeriesInstanceUID) for item in dataset.get("ReferencedSeriesSequence") or ()}
