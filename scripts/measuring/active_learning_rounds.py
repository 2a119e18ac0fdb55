"""Rounds of simulated active learning: choose cases, label them, train on, and measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES, read_report
from brats_clip.evaluation.labelled import draws, read_truth
from brats_label.active.cache import ScoreCache
from brats_label.active.choose import ORDERS
from brats_label.active.measure import measure

from .bundle_run import BUNDLE, CONFIGS, RunFailed, as_words, run_or_fail
from .json_files import read_json, write_json
from .region_dice import MEASURES, dice_of

BASELINE = "random"


@dataclass(frozen=True)
class Setting:
    """What all runs share.

    Attributes:
        pool: the cases to choose from, by name.
        tests: the cases that Dice is measured on.
        overrides: of train.json.
        pretrained: weights that every start is trained on from; None for none.
        start, batch, steps: labelled cases at first, cases per choice, iterations per training.
        output: folder.
    """

    pool: Mapping[str, dict]
    tests: Sequence[dict]
    overrides: Mapping[str, object]
    pretrained: Path | None
    start: int
    batch: int
    steps: int
    output: Path

    @property
    def bundle(self) -> Path:
        """The bundle whose inference.json fits the network that is trained."""
        return self.output / "bundle"

    def epochs(self, cases: int) -> int:
        """So many that a training takes about ``steps`` iterations, however many cases there are."""
        batch = int(self.overrides.get("batch_size", 1))
        return max(1, round(self.steps / max(1, cases // batch)))


@dataclass(frozen=True)
class Round:
    """One training on the cases labelled so far, and what came of it; in a folder of its own."""

    setting: Setting
    seed: int
    strategy: str
    number: int

    @property
    def folder(self) -> Path:
        name = f"{self.strategy}/round{self.number:02d}" if self.number else "start"
        return self.setting.output / f"seed{self.seed}" / name

    @property
    def version(self) -> str:
        """Of the weights, for the cache of scores."""
        return self.folder.relative_to(self.setting.output).as_posix()

    @property
    def weights(self) -> Path:
        return self.folder / "training" / "checkpoints" / "model.pt"

    def record(self) -> dict | None:
        """``labelled``, ``chosen``, ``dice`` by test case and ``seconds``; None while it is not finished."""
        path = self.folder / "round.json"
        return read_json(path) if path.is_file() else None

    def run(self, before: Round | None, cache: ScoreCache, watch: Callable[[], None]) -> dict:
        """Choose, label, train and measure; what is finished is not done again.

        Raises:
            RunFailed: if the training ends badly.
        """
        if (record := self.record()) is not None:
            return record
        setting, started = self.setting, time.perf_counter()
        if before is None:
            order = draws(self.seed, "start").permutation(sorted(setting.pool))
            labelled, chosen, pretrained = [], [str(name) for name in order[: setting.start]], setting.pretrained
        else:
            labelled, pretrained = before.record()["labelled"], before.weights
            chosen = before.choose(self.strategy, labelled, cache, watch)
        chosen_at = time.perf_counter()
        self._train([*labelled, *chosen], pretrained, watch)
        trained_at = time.perf_counter()
        scores = self._evaluate(watch)
        record = {"labelled": [*labelled, *chosen], "chosen": chosen, "dice": scores}
        record["seconds"] = {"choose": chosen_at - started, "train": trained_at - chosen_at}
        record["seconds"]["measure"] = time.perf_counter() - trained_at
        write_json(self.folder / "round.json", record)
        for checkpoint in self.weights.parent.glob("checkpoint_*"):
            checkpoint.unlink()
        if before is not None and before.number:
            before.weights.unlink(missing_ok=True)
        return record

    def choose(self, strategy: str, labelled: Sequence[str], cache: ScoreCache, watch: Callable[[], None]) -> list[str]:
        """What a strategy would have labelled next, by the scores of this round's network."""
        pool, rng = self.setting.pool, draws(self.seed, strategy, f"round {self.number}")
        free = sorted(pool.keys() - set(labelled))
        if strategy == BASELINE:
            return [choice.case_id for choice in ORDERS[strategy](free, [], rng, self.setting.batch)]
        segmenter = None
        for name in sorted(pool) if self.number == 0 else free:  # the descriptor of the first ones is wanted, too
            if cache.get(self.version, name) is None:
                segmenter = segmenter or Segmenter(self.setting.bundle, self.weights)
                files = {s: pool[name][s] for s in SEQUENCES}
                cache.put(measure(segmenter, name, files, read_report(pool[name].get("report")), self.version))
                watch()
        scores = cache.scores(self.version)
        known = cache.latest(set(labelled), self.version)  # CLIP's view of a case does not change with the weights
        descriptors = [known[name].descriptor for name in labelled]
        chosen = ORDERS[strategy]({name: scores[name] for name in free}, descriptors, rng, self.setting.batch)
        return [choice.case_id for choice in chosen]

    def _train(self, labelled: Sequence[str], pretrained: Path | None, watch: Callable[[], None]) -> None:
        cases = [self.setting.pool[name] for name in labelled]
        epochs = self.setting.epochs(len(cases))
        # Validated once, after the last epoch, whose weights are taken: nothing is chosen by it, so that no labelled
        # case has to be spent on it.
        write_json(self.folder / "datalist.json", {"training": cases, "validation": cases[:1]})
        options = {"bundle_root": BUNDLE, "dataset_dir": "/", "datalist": self.folder / "datalist.json"}
        options |= {"output_dir": self.folder / "training", "cache_dir": self.setting.output / "cache"}
        options |= {"epochs": epochs, "val_interval": epochs, "seed": 1000 * self.seed + self.number}
        options |= {} if pretrained is None else {"pretrained": pretrained}
        options |= self.setting.overrides
        words, log = ["training", "--config_file", CONFIGS / "train.json", *as_words(options)], self.folder / "log.txt"
        run_or_fail(words, log, watch)
        if not self.weights.is_file():
            raise RunFailed(f"the training left no {self.weights} (see {log})")

    def _evaluate(self, watch: Callable[[], None]) -> dict[str, dict[str, float]]:
        segmenter, scores = Segmenter(self.setting.bundle, self.weights), {}
        for case in self.setting.tests:
            key = segmenter.set_case(**{s: case[s] for s in SEQUENCES})
            answer = segmenter.segment(report=read_report(case.get("report")))
            segmenter.forget(key)
            found = dice_of(answer.label, read_truth(case).label)
            scores[case["case"]] = {m: found[f"dice_{m}"] for m in MEASURES}
            watch()
        return scores
