"""Metrics of contrastive pretraining, and the handler that saves the CLIP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from os import PathLike

import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.engines import Evaluator

from .attributes import attribute_slices
from .contrastive import ContrastiveClip
from .embedded import save_clip, zero_unseen_embeddings


class MatchRate(Metric):
    """Retrieval accuracy among ``group`` cases: slices to their own text, and text to its own slices, averaged.

    Chance is ``1 / group``. Cases are grouped in order; an incomplete last group is left out.

    Args:
        group: cases to choose from.
        output_transform: gives ``(image, text)``, both ``(N, E)``, from the engine's output.
    """

    def __init__(self, group: int = 16, output_transform: Callable = lambda output: output):
        self.group = group
        super().__init__(output_transform)

    def reset(self) -> None:
        self._images: list[torch.Tensor] = []
        self._texts: list[torch.Tensor] = []

    def update(self, output: Sequence[torch.Tensor]) -> None:
        image, text = output
        self._images.append(image.detach().cpu())
        self._texts.append(text.detach().cpu())

    def compute(self) -> float:
        images, texts = torch.cat(self._images), torch.cat(self._texts)
        group = min(self.group, len(images))
        right = []
        for start in range(0, len(images) - group + 1, group):
            similarity = images[start : start + group] @ texts[start : start + group].T
            own = torch.arange(group)
            right += [(similarity.argmax(dim) == own).float().mean() for dim in (0, 1)]
        return float(torch.stack(right).mean())


class StatementRate(Metric):
    """Zero-shot accuracy: how often the statement of ``attribute`` nearest to a case's slices or text is true.

    Args:
        attribute: a key of ``ATTRIBUTES``.
        output_transform: gives features ``(N, E)``, prompts ``(V, E)`` and targets ``(N, V)`` from the engine's output.
    """

    def __init__(self, attribute: str, output_transform: Callable = lambda output: output):
        self.place = attribute_slices()[attribute]
        super().__init__(output_transform)

    def reset(self) -> None:
        self._right = self._known = 0

    def update(self, output: Sequence[torch.Tensor]) -> None:
        features, prompts, targets = output
        targets = targets[:, self.place]
        known = targets.sum(dim=1) > 0
        nearest = (features @ prompts[self.place].T).argmax(dim=1, keepdim=True)
        self._right += int((targets.gather(1, nearest).squeeze(1)[known] > 0).sum())
        self._known += int(known.sum())

    def compute(self) -> float:
        return self._right / max(self._known, 1)


class SaveEmbeddedClip:
    """Handler that saves the CLIP whenever validation improves, with the embeddings of unseen tokens set to zero.

    Attach it to the trainer, whose batches show which tokens have been seen.

    Args:
        network: the CLIP in training.
        evaluator: its ``key_val_metric`` decides when to save.
        folder: where to save it, in open_clip's local-dir format.
        origin: what it is trained on, in a few words.
    """

    def __init__(self, network: ContrastiveClip, evaluator: Evaluator, folder: str | PathLike, origin: str):
        self.network = network
        self.evaluator = evaluator
        self.folder = folder
        self.origin = origin
        self.seen = set(network.prompt_ids.unique().tolist())

    def attach(self, engine: Engine) -> None:
        """Register with the trainer and the evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note_tokens)
        self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._save_if_best)

    def _note_tokens(self, engine: Engine) -> None:
        self.seen.update(engine.state.batch["token_ids"].unique().tolist())

    def _save_if_best(self, evaluator: Engine) -> None:
        if evaluator.state.best_metric_epoch == evaluator.state.epoch:
            self.save()

    def save(self) -> None:
        """Save the CLIP now."""
        clip = deepcopy(self.network.clip)
        zero_unseen_embeddings(clip, {token for token in self.seen if token >= 0})
        save_clip(clip, self.folder, self.origin, self.network.config)
