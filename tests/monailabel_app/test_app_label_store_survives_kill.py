"""Labels that a killed process acknowledged are stored completely, and nothing is left half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

KILLS, MOST_KILLS, SEED = 14, 300, 20261122
APP = Path(__file__).resolve().parents[2] / "monailabel_app"

# One process imports and forks those that are killed, because importing takes longer than all of them run.
PROGRAM = """
    import json, os, random, select, signal, sys, time
    from pathlib import Path
    import nibabel as nib
    import numpy as np
    from brats_label.labels.store import LabelStore
    from brats_label.store import Store

    root, kills, most_kills, seed = Path(sys.argv[1]), *map(int, sys.argv[2:])

    def label(number):
        # So many voxels that a save takes a while, and the number in them.
        array = np.random.default_rng(number).choice(np.array([0, 1, 2, 4], np.uint8), (20, 20, 20))
        array.ravel()[:32] = [2 * (number >> bit & 1) for bit in range(32)]
        return nib.Nifti1Image(array, np.eye(4))

    def save_for_ever(start, pipe):
        store = LabelStore(root, Store(root.parent / "store.db"))
        os.write(pipe, b"ready\\n")
        for number in range(start, start + 10**6):
            case = f"CASE_{number % 3}"
            version = store.save(case, label(number), "final", {"who": str(number)}, as_drawn=label(number))
            os.write(pipe, f"{case} {version.number} {number}\\n".encode())

    def life(start, seconds, writers):
        pipes, children = [], []
        for writer in range(writers):
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                try:
                    save_for_ever(start + writer * 10**7, writing)
                finally:
                    os._exit(1)
            os.close(writing)
            pipes.append(reading)
            children.append(child)
        said = {pipe: b"" for pipe in pipes}
        def begun():  # each is ready, and one has saved: on a slow machine, too, each life acknowledges something
            return all(b"ready" in t for t in said.values()) and any(t.count(b"\\n") > 1 for t in said.values())

        while not begun():
            for pipe in select.select(pipes, [], [])[0]:
                said[pipe] += os.read(pipe, 2**16)
        time.sleep(seconds)
        for child in children:
            os.kill(child, signal.SIGKILL)
        ends = [os.waitpid(child, 0)[1] for child in children]
        assert all(os.WIFSIGNALED(end) for end in ends), ends
        for pipe in pipes:
            while text := os.read(pipe, 2**16):
                said[pipe] += text
        lines = b"".join(said.values()).decode().splitlines()
        return [line.split() for line in lines if line != "ready" and len(line.split()) == 3]

    checked = set()

    def check(acknowledged):
        store = LabelStore(root, Store(root.parent / "store.db"))
        wrong = []
        for case, version, number in acknowledged:
            path = root / "versions" / case / f"{int(version):04d}.nii.gz"
            if not path.exists() or not np.array_equal(nib.load(path).dataobj, label(int(number)).dataobj):
                wrong.append(f"{case} {version} is not what was acknowledged")
        for case in store.labelled():
            for version in store.history(case):
                if (case, version.number) in checked:
                    continue
                checked.add((case, version.number))
                expected = np.asarray(label(int(version.record["who"])).dataobj)
                for path in (version.path, version.as_drawn):
                    if not np.array_equal(nib.load(path).dataobj, expected):
                        wrong.append(f"{case} {version.number} is half-written")
            final, newest = root / "final" / f"{case}.nii.gz", store.current(case)
            if final.read_bytes() != newest.path.read_bytes():
                wrong.append(f"final of {case} is not version {newest.number}")
            files = {path.name for path in (root / "versions" / case).iterdir()}
            whole = {f"{n}{end}" for v in store.history(case) for n in [f"{v.number:04d}"]
                     for end in (".nii.gz", "_as_drawn.nii.gz")}
            if files != whole:
                wrong.append(f"leftovers of {case}: {sorted(files ^ whole)}")
        wrong += [f"leftover {path.name}" for path in root.rglob(".tmp-*")]
        if store.unimported_files():
            wrong.append(f"taken for files that people brought: {store.unimported_files()}")
        return wrong

    chance = random.Random(seed)
    acknowledged, wrong, left, kill = [], [], 0, 0
    # Where most of a save is waiting for the disk, few kills come while a file is being written: go on until one has.
    while kill < kills or (not left and kill < most_kills):
        new = life(kill * 10**5, chance.uniform(0.0, 0.1), 1 + kill % 2)
        left += len(list(root.rglob(".tmp-*")))
        wrong += check(new)
        acknowledged += new
        kill += 1
    checked.clear()
    wrong += check(acknowledged)
    print(json.dumps({"acknowledged": len(acknowledged), "interrupted": left, "wrong": wrong}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_acknowledged_labels_survive_sigkill(tmp_path):
    arguments = map(str, (tmp_path / "labels", KILLS, MOST_KILLS, SEED))
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments]
    path = os.pathsep.join([str(APP), str(APP.parent / "bundle")])
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["wrong"] == []
    assert result["acknowledged"] >= KILLS, "too slow to tell"
    assert result["interrupted"], "no kill came in the middle of a save"
