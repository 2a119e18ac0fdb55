"""The scripts print their help without delay, from any folder, and name their options with underscores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPTS = sorted((Path(__file__).parents[2] / "scripts").glob("*.py"))
# Runs each script with -h, and prints which slow modules it imported, and which options have hyphens: the options of
# monai.bundle have underscores, and both are used in one command line.
CODE = """
import io, re, runpy, sys
from contextlib import redirect_stdout

for script in sys.argv[1:]:
    sys.argv, text = [script, "-h"], io.StringIO()
    sys.path.insert(0, script.rpartition("/")[0])
    try:
        with redirect_stdout(text):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        assert ended.code == 0, script
    slow = {"torch", "monai", "pandas", "matplotlib"} & {*sys.modules}
    hyphenated = re.findall(r"--(?!no-)[a-z]+-[a-z-]+", text.getvalue())
    print(script.rpartition("/")[2], "usage:" in text.getvalue(), *slow, *hyphenated)
"""


def test_help_imports_no_slow_modules_and_shows_no_hyphenated_options(tmp_path):
    scripts = [str(path) for path in SCRIPTS]
    ended = subprocess.run([sys.executable, "-c", CODE, *scripts], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [f"{Path(script).name} True" for script in scripts]
