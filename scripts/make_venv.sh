#!/usr/bin/env bash
# Create a virtual environment with the pinned requirements, or leave it alone when it already has them.
#
#     scripts/make_venv.sh [FOLDER]      (default: .venv)
#
# PYTHON_FOR_VENV names the Python to use; otherwise the first of 3.11, 3.12, 3.10 that works.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${1:-.venv}
stamp=$venv/requirements.installed

if [ -x "$venv/bin/python" ] && cmp -s requirements.txt "$stamp"; then
    exit 0
fi

fits() { # MONAI Label needs modules that left the standard library with 3.13; pip needs ensurepip
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1
}

if [ ! -x "$venv/bin/python" ] || ! fits "$venv/bin/python"; then
    found=
    for python in ${PYTHON_FOR_VENV:-python3.11 python3.12 python3.10 python3 python}; do
        if fits "$python"; then
            found=$python
            break
        fi
    done
    if [ -z "$found" ]; then
        echo "Error: no Python 3.10, 3.11 or 3.12 with its venv module was found" \
            "(looked for: ${PYTHON_FOR_VENV:-python3.11 python3.12 python3.10 python3 python})." >&2
        echo "On Debian or Ubuntu: sudo apt install python3 python3-venv. Elsewhere: https://docs.astral.sh/uv or pyenv." >&2
        echo "Or name one: PYTHON_FOR_VENV=/path/to/python make venv" >&2
        exit 1
    fi
    echo "$found -m venv --clear $venv"
    "$found" -m venv --clear "$venv"
fi

echo "$venv/bin/python -m pip install -r requirements.txt"
"$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off --quiet -r requirements.txt
cp requirements.txt "$stamp"
