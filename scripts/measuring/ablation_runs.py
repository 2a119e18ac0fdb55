"""One network of the ablation with one seed: training, evaluation, and what it leaves in its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from brats_clip.errors import InputError

from .bundle_run import BUNDLE, CONFIGS, differing, hold, run_or_fail
from .json_files import read_json, write_json
from .region_dice import MEASURES

FULL = "full"


@dataclass(frozen=True)
class Run:
    """One network with one seed, in a folder of its own.

    Args:
        folder: holds run.json, log.txt, training/ and report_true/ or report_none/.
        options: what the commands of training and evaluation are given alike.
        settings: what the figures depend on, apart from network and seed; setting to value.
        reports: how it is evaluated: "true", each case with its own report, "none", or both.
    """

    variant: str
    seed: int
    folder: Path
    options: Sequence[str]
    settings: dict
    reports: Sequence[str]

    @property
    def name(self) -> str:
        return f"{self.variant}, seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether it is trained and evaluated; metrics.csv is written when every case has been seen."""
        return "parameters" in self.record() and all(self.metrics(report).is_file() for report in self.reports)

    def metrics(self, report: str) -> Path:
        return self.folder / f"report_{report}" / "metrics.csv"

    def record(self) -> dict:
        """What run.json holds: settings, code, and the number of parameters once it is trained."""
        path = self.folder / "run.json"
        return read_json(path) if path.is_file() else {}

    def check(self) -> None:
        """Make sure that what lies in the folder, if anything does, is this run.

        Raises:
            InputError: naming the settings that differ, or a metrics.csv that cannot be read.
        """
        if not list(self.folder.glob("[!.]*")):
            return
        expected = "the same settings; use another --output, or remove the folder"
        old = self.record().get("settings")
        if old is None:
            raise InputError(self.folder, "files of an unknown run", expected)
        if other := differing(old, self.settings):
            raise InputError(self.folder, f"a run with other settings ({other})", expected)
        for path in filter(Path.is_file, map(self.metrics, self.reports)):
            read_dice(path)

    def execute(self, watch: Callable[[], None]) -> None:
        """Train and evaluate, as far as that is not done; ``watch`` is called about once a second.

        Raises:
            RunFailed: if a command ends badly, or another process is at this run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with hold(self.folder) as lock:
            record = self.record()
            record |= {"settings": self.settings, "code": sorted({*record.get("code", ()), code_version()})}
            write_json(self.folder / "run.json", record)
            training = self.folder / "training"
            if "parameters" not in record:
                self._command(["training", *self._configs(), "--output_dir", training], lock, watch)
                write_json(self.folder / "run.json", record | {"parameters": self._count_parameters()})
            for report in self.reports:
                if not self.metrics(report).is_file():
                    command = ["evaluating", *self._configs("evaluate"), "--output_dir", self.metrics(report).parent]
                    command += ["--checkpoint", training / "checkpoints" / "model.pt"]
                    command += ["--curves_file", training / "curves.csv", "--use_reports", report == "true"]
                    self._command(command, lock, watch)

    def epochs_done(self) -> int:
        curves = self.folder / "training" / "curves.csv"
        return max(0, len(curves.read_text().splitlines()) - 1) if curves.is_file() else 0

    def _configs(self, *more: str) -> list[str]:
        names = ["train", *([] if self.variant == FULL else [f"ablations/{self.variant}"]), *more]
        return ["--config_file", repr([str(CONFIGS / f"{name}.json") for name in names])]

    def _count_parameters(self) -> int:
        """Trainable parameters; those of the frozen CLIP do not count."""
        parser = ConfigParser()
        parser.read_config(DefaultParseValue(self._configs()[1]))
        pairs = zip(self.options[::2], self.options[1::2], strict=True)
        parser.update({name.removeprefix("--"): DefaultParseValue(value) for name, value in pairs})
        network = parser.get_parsed_content("network_def")
        return sum(p.numel() for p in network.parameters() if p.requires_grad)

    def _command(self, arguments: Sequence, lock: int, watch: Callable[[], None]) -> None:
        log = self.folder / "log.txt"
        # The child holds the lock, too: it may outlive this process.
        run_or_fail([*arguments, *self.options], log, watch, keep_open=[lock])


def code_version() -> str:
    """A short hash of the package and its CLIP: runs of different ones do not belong in one table."""
    files = sorted([*(BUNDLE / "brats_clip").rglob("*.py"), *(BUNDLE / "models" / "clip").glob("*")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def read_dice(path: Path) -> pd.DataFrame:
    """Dice by case, in the columns WT, TC, ET and mean.

    Raises:
        InputError: if the file is no metrics.csv of an evaluation.
    """
    names = {f"dice_{column}": column for column in MEASURES}
    try:
        table = pd.read_csv(path, usecols=["case", *names], dtype={"case": str} | dict.fromkeys(names, float))
    except ValueError as reason:
        raise InputError(path, str(reason).splitlines()[0], "the metrics.csv of an evaluation") from reason
    return table.set_index("case").rename(columns=names)
