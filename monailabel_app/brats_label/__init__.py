"""The MONAI Label app: patients as cases, served from the bundle."""

import sys
from pathlib import Path

# MONAI Label starts the app by its folder alone; the bundle lies beside it.
_BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
if str(_BUNDLE) not in sys.path:
    sys.path.insert(0, str(_BUNDLE))
