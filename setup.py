"""Where the parts of the wheel lie in this repository; everything else is in pyproject.toml.

The wheel has the package brats_clip, and brats_clip_files, a folder with the rest as it lies here: configs, weights and
documents of the bundle, the MONAI Label app, and the scripts.
"""

from setuptools import find_packages, setup

FILES = "brats_clip_files"

setup(
    packages=[*find_packages("bundle", include=["brats_clip", "brats_clip.*"]), FILES],
    package_dir={"brats_clip": "bundle/brats_clip", FILES: "."},
    package_data={
        "brats_clip": ["evaluation/templates/*"],
        FILES: [
            *(f"bundle/{part}" for part in ("LICENSE", "configs/**/*", "docs/**/*", "models/**/*")),
            "monailabel_app/main.py",
            "monailabel_app/brats_label/**/*.py",
            "monailabel_app/brats_label/**/*.html",
            "scripts/**/*.py",
            "scripts/measuring/pages/*",
            "requirements.txt",
            "pyproject.toml",
        ],
    },
)
