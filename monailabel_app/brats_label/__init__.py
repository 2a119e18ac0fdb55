"""The MONAI Label app: serves the bundle's model on cases, each with the four sequences of a patient."""

import sys
from pathlib import Path

# MONAI Label adds only the app's folder to sys.path; the bundle is next to that folder.
_BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
if str(_BUNDLE) not in sys.path:
    sys.path.insert(0, str(_BUNDLE))
