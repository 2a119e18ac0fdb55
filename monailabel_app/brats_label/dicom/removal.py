"""Delete a series from the server, where the server lets us."""

from __future__ import annotations

from contextlib import suppress

import requests

from .client import Client, reaching

# What servers answer that do not delete by DICOMweb, which is an option of the standard that few offer.
_NOT_OFFERED = (400, 401, 403, 404, 405, 501)


def delete_series(client: Client, study: str, series: str) -> bool:
    """Delete a series by DICOMweb, or by Orthanc's own interface.

    Returns:
        Whether it is gone; False where the server does not delete.

    Raises:
        Unreachable: if the server does not answer.
    """
    with reaching(client.base_url):
        if not client.search_for_series(study, search_filters={"SeriesInstanceUID": series}):
            return True
        try:
            client.delete_series(study, series)
            return True
        except requests.HTTPError as problem:
            if problem.response is None or problem.response.status_code not in _NOT_OFFERED:
                raise
        return _by_orthanc(client, series)


def _by_orthanc(client: Client, series: str) -> bool:
    """Orthanc's plugin does not delete by DICOMweb; Orthanc itself does, one level up."""
    root, session = client.base_url.rstrip("/").rpartition("/")[0], client._session
    found = session.post(f"{root}/tools/lookup", data=series)
    with suppress(ValueError, TypeError, KeyError):
        paths = [item["Path"] for item in found.json() if item["Type"] == "Series"]
        return bool(paths) and all(session.delete(f"{root}{path}").ok for path in paths)
    return False
