"""Set a case once, then prompt it with reports and clicks any number of times."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from .. import bundle_root
from ..cases import SEQUENCES, Preparation, looks_like_path, read_report
from ..clicks import Clicks
from ..engines import BrainInferer, ImageFacts, decode, encode, load_weights
from ..errors import CaseError, InputError, WeightsError
from ..geometry import Grid, find_placement
from ..labels import nest
from ..networks import Decoded
from ..quality import Geometry, QualityModel, error_map, load_quality
from ..reports import Consistency
from ..transforms import LogitsToLabeld, case_grids, click_tensors, report_inputs
from .allocator import keep_freed_memory
from .cache import CaseCache
from .device import usable_device
from .encoded_case import EncodedCase
from .known_case import KnownCase
from .native import ToNative
from .segmentation import Segmentation
from .sources import as_source, identity_of, path_of

logger = logging.getLogger(__name__)


class Segmenter:
    """Segments a case, guided by a report and corrected by clicks.

    ``set_case`` reads and encodes, which takes most of the time and happens once; ``segment`` decodes, and a click
    only refines. Preprocessing, network and postprocessing are those of the bundle's ``inference.json``, so the results
    are the same. One ``Segmenter`` serves several threads, each with its own current case.

    ::

        segmenter = Segmenter()
        segmenter.set_case(t1="t1.nii.gz", t1ce="t1ce.nii.gz", t2="t2.nii.gz", flair="flair.nii.gz")
        answer = segmenter.segment()
        answer = segmenter.segment(report="Ring-enhancing mass in the left frontal lobe.")
        answer = segmenter.segment(clicks={"ET": [(120, 80, 60)], "background": [(60, 90, 40)]})

    Args:
        bundle: folder with ``configs/inference.json``; None takes the bundle that this package is part of.
        checkpoint: weights; None takes those of the bundle.
        device: device that runs the network; None takes the GPU if there is one.
        cache_bytes: memory for encoded cases and images given in memory; the most recently used case is always kept.
            Encodings that do not fit are dropped first, and computed again on demand. Then images given in memory are
            dropped, and their case has to be set again. Cases from files can always be restored.
        preprocess: "auto", "always" or "never": whether raw images are registered, stripped and resampled; None takes
            the setting of the bundle's ``inference.json``.
        screen_reports: whether to ignore findings that the image contradicts, and a report that puts the tumour where
            the image does not show it; None takes the setting of the bundle's ``inference.json``.
        tta: average over the image and its mirror image; None takes the setting of ``inference.json``. Only the first
            segmentation of a case takes about twice as long.
        keep_memory: on a CPU, make the C library keep freed memory for the next segmentation, which saves a quarter of
            the decoding time. This affects the whole process and cannot be undone: see ``keep_freed_memory``.

    Raises:
        InputError: if the bundle or the device does not exist, or ``cache_bytes`` is not a number of bytes.
        WeightsError: if the weights are missing or do not match the network.
    """

    def __init__(
        self,
        bundle: str | os.PathLike | None = None,
        checkpoint: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        cache_bytes: int = 2 * 2**30,
        screen_reports: bool | None = None,
        tta: bool | None = None,
        keep_memory: bool = True,
        preprocess: str | None = None,
    ) -> None:
        self._cache = CaseCache(cache_bytes)
        usable = None if device is None else usable_device(device)
        root = Path(bundle) if bundle is not None else bundle_root()
        config = ConfigParser()
        if not (root / "configs" / "inference.json").is_file():
            raise InputError(root, "no configs/inference.json", "the folder of a bundle")
        config.read_config(root / "configs" / "inference.json")
        config["bundle_root"] = str(root)
        config["allow_missing_sequences"] = True
        if screen_reports is not None:
            config["screen_reports"] = screen_reports
        if preprocess is not None:
            config["preprocess"] = preprocess
        if tta is not None:
            config["tta"] = tta
        if usable is not None:
            config["device"] = usable
        self.checkpoint = str(checkpoint) if checkpoint is not None else config.get_parsed_content("checkpoint")
        self.device: torch.device = config.get_parsed_content("device")
        if keep_memory and self.device.type == "cpu":
            keep_freed_memory()
        self._amp: bool = config.get_parsed_content("amp")
        self._clip = config.get_parsed_content("clip")
        self._network = config.get_parsed_content("network").eval()
        try:
            self._network.load_state_dict(load_weights(self.checkpoint))
        except WeightsError as error:
            raise WeightsError(self.checkpoint, error.found, error.expected) from None
        self._preprocess = config.get_parsed_content("preprocessing")
        self._postprocess = config.get_parsed_content("postprocessing")
        inverts = [t.invert for t in self._postprocess.transforms if isinstance(t, LogitsToLabeld)]
        if not any(inverts):
            found = "postprocessing without LogitsToLabeld(invert=...)"
            raise InputError(root / "configs" / "inference.json", found, "the configuration of this version")
        self._invert = inverts[0]
        least = [config.get_parsed_content(f"min_{what}_ml") for what in ("lesion", "part", "et")]
        self._quality = load_quality(root / "models" / "quality.json", self.checkpoint, *least)
        self._screen_reports = config.get_parsed_content("screen_reports")
        self._tta = config.get_parsed_content("tta")
        self._inferer = BrainInferer()
        self._sentences: dict[str, torch.Tensor] = {}
        self._current = threading.local()

    def set_case(self, t1=None, t1ce=None, t2=None, flair=None, case: str | None = None, brain_mask=None) -> str:
        """Read, check and encode a case, and make it the current one of this thread.

        A case that is still cached, from the same unchanged files, is ready at once. After an error this thread has no
        current case, so that no result is returned for the previous patient.

        Args:
            t1, t1ce, t2, flair: the sequences, each a path, a nibabel image, a MetaTensor or ``(array, affine)``; a
                ``Volume`` avoids reading its file again. One to three may be missing.
                Raw images are prepared first, see ``cases.prepare``; the result is then on the working grid, and
                ``Segmentation.on`` returns it on the native grid of a sequence.
            case: a name for messages.
            brain_mask: path of a brain mask on the grid of one of the sequences, for raw images.

        Returns:
            A key for ``segment(case=...)``.

        Raises:
            CaseError: if no sequence is given, or one is unreadable, not 3D, not finite or constant, or the
                images cannot be prepared.
        """
        self._current.key = None
        given = {s: v for s, v in zip(SEQUENCES, (t1, t1ce, t2, flair), strict=True) if v is not None}
        if not given:
            raise CaseError(f"case {case or '(no name)'}", "no sequence", f"one or more of {', '.join(SEQUENCES)}")
        sources = {sequence: as_source(sequence, value) for sequence, value in given.items()}
        identities = {sequence: identity_of(source) for sequence, source in sources.items()}
        if brain_mask is not None:
            sources["brain_mask"] = str(brain_mask)
            identities["brain_mask"] = identity_of(str(brain_mask))
        key = hashlib.sha256(repr(list(identities.items())).encode()).hexdigest()[:16]
        encoded = self._cache.get(key)
        if encoded is None:
            encoded = self._encode(sources, case or key)
            self._cache.put(key, encoded)
        kept = {s: path_of(source) if Path(path_of(source)).is_file() else source for s, source in sources.items()}
        self._cache.remember(key, KnownCase(case or key, kept, identities))
        self._current.key = key
        return key

    def modules(self) -> Iterator[torch.nn.Module]:
        """Iterate over the network's modules; hooks on them are called many times while a case is encoded."""
        return self._network.modules()

    def forget(self, case: str) -> None:
        """Remove a case by its key, with its images given in memory."""
        self._cache.drop(case)

    def segment(
        self,
        report: str | None = None,
        clicks: Clicks | None = None,
        case: str | None = None,
        space: str = "voxel",
        report_path: str | os.PathLike | None = None,
    ) -> Segmentation:
        """Segment a case with the given prompts; prompts of earlier calls are not remembered.

        Args:
            report: text; None or "" for none. A text that looks like a path is still text, with a warning in the log.
            clicks: positions by kind, ``{"ET": [(120, 80, 60)]}``, or ``(kind, position)`` pairs in the order in which
                the clicks were made, ``[("ET", (120, 80, 60)), ("background", (60, 90, 40))]``. "WT", "TC", "ET" put a
                voxel into a region; "NCR", "ED" and "background" set its exact label. If clicks disagree, the later
                one counts.
            case: key from ``set_case``; None takes the current case of this thread.
            space: "voxel" (of the case; 0 is the centre of the first) or "world" (RAS mm), for the clicks.
            report_path: text file with the report, instead of ``report``.

        Raises:
            InputError: if no case is set, or for clicks of an unknown kind, outside the volume, or more than 1000.
            CaseError: if the case is no longer encoded and cannot be encoded again: its files have changed since
                ``set_case``, or its images were given in memory and have been dropped.
            ReportError: if the report file cannot be read, or the report is not text.
        """
        encoded, name, fresh = self._find(case)
        if looks_like_path(report):
            logger.warning("report: looks like a path but is used as text; give a path as report_path")
        text = read_report(report, report_path)
        native = encoded.native
        made = click_tensors(clicks, native.shape, native.affine, encoded.working_affine, space, name)
        seconds = dict(encoded.seconds) if fresh else dict.fromkeys(encoded.seconds, 0.0)
        with torch.inference_mode():
            consistency = self._screen(encoded, text, seconds)
            used = bool(text) and (not self._screen_reports or consistency.same_place)
            trusted = consistency.trusted if used and self._screen_reports else None
            decoded = self._decode(encoded, text if used else "", seconds, trusted)
            started = time.perf_counter()
            logits = decoded.logits
            if len(made["clicks"]):
                with self._precision():
                    points = [made[name].unsqueeze(0).to(self.device) for name in ("clicks", "click_targets")]
                    logits = self._network.refine(decoded, *points).refined
            seconds["clicks"] = time.perf_counter() - started
            label = self._finish(encoded, logits, made)
            seconds["finish"] = time.perf_counter() - started - seconds["clicks"]
        self._cache.trim()
        # Callers may keep a result for a long time: it must not hold references to its case or this segmenter.
        resampled = encoded.placement is None
        to_native = ToNative(
            native.shape,
            encoded.placement,
            encoded.stub if resampled else None,
            self._invert if resampled else None,
        )
        return Segmentation(
            case=name,
            label=label,
            affine=native.affine,
            sequences_used=encoded.sequences_used,
            sequences_missing=encoded.facts.missing,
            report_used=used,
            consistency=consistency,
            seconds={name: round(value, 4) for name, value in seconds.items()},
            notes=encoded.notes,
            preparation=encoded.preparation,
            descriptor=encoded.descriptor,
            probabilities=_probabilities(to_native, logits),
            attention=_attention(to_native, decoded.attention, tuple(logits.shape[2:])),
            assessment=encoded.facts.assessor(logits[0], self._quality, consistency, made["clicks"].numpy()),
            errors=_errors(to_native, logits, self._quality, encoded.working_affine),
        )

    def _find(self, case: str | None) -> tuple[EncodedCase, str, bool]:
        """Return the encoded case, its latest name, and whether this is its first segmentation."""
        key = case if case is not None else getattr(self._current, "key", None)
        if key is None:
            raise InputError("Segmenter", "no case", "set_case before segment, in the same thread, or case=KEY")
        known = self._cache.known(key)
        if known is None:
            raise InputError("case", repr(key), "a key from set_case")
        encoded = self._cache.get(key)
        if encoded is None:
            encoded = self._encode(known.unchanged_sources(), known.name)
            self._cache.put(key, encoded)
        fresh, encoded.answered = not encoded.answered, True
        return encoded, known.name, fresh

    def _precision(self) -> AbstractContextManager:
        if self.device.type == "cuda":
            return torch.autocast("cuda", enabled=self._amp)
        return self._inferer.precision(self.device)

    @torch.inference_mode()
    def _encode(self, sources: dict, name: str) -> EncodedCase:
        started = time.perf_counter()
        try:
            data = self._preprocess({"case": name, **sources})
        except RuntimeError as error:
            # MONAI wraps the errors of transforms; the helpful message is in a cause.
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, InputError):
                cause = cause.__cause__
            raise (cause or error) from None
        image = data["image"]
        batch = image.as_subclass(torch.Tensor).unsqueeze(0)
        working, native = case_grids(image)
        missing = [s for s in SEQUENCES if s not in sources]
        facts = ImageFacts.of(batch[0], Geometry(working.affine, native.affine, native.shape), missing)
        batch = batch.to(self.device)
        read = time.perf_counter()
        with self._precision():
            slices = {}
            if self._network.slice_encoder is not None:
                slices = dict(zip(("slice_tokens", "slice_positions"), self._network.slice_encoder(batch), strict=True))
            sliced = time.perf_counter()
            encoded = encode(self._network, batch, self._tta, **slices)
        self._synchronise()
        done = time.perf_counter()
        return EncodedCase(
            name=name,
            encoded=encoded,
            stub=MetaTensor(torch.zeros(image.shape[0], 1, 1, 1)).copy_meta_from(image, copy_attr=True),
            facts=facts,
            placement=find_placement(working, native),
            sequences_used=tuple(s for s in SEQUENCES if s in sources),
            notes=tuple(note for note in data["notes"].split("\n") if note),
            preparation=Preparation.from_json(data["preparation"]) if data["preparation"] else None,
            seconds={"read": read - started, "slices": sliced - read, "encode": done - sliced},
            descriptor=descriptor_of(slices.get("slice_tokens")),
        )

    def _screen(self, encoded: EncodedCase, text: str, seconds: dict[str, float]) -> Consistency | None:
        """Compare the report with what the image shows without it; None without a report."""
        started = time.perf_counter()
        consistency = None

        def compare() -> Consistency:
            if encoded.evidence is None:
                encoded.evidence = encoded.facts.evidence(self._decode(encoded, "").logits[0])
            return encoded.facts.compare(text, encoded.evidence)

        if text:
            consistency = encoded.compare(text, compare)
        seconds["screen"] = time.perf_counter() - started
        return consistency

    def _decode(
        self,
        encoded: EncodedCase,
        text: str,
        seconds: dict[str, float] | None = None,
        trusted: Sequence[bool] | None = None,
    ) -> Decoded:
        """Decode with a report; ``trusted`` is ``Consistency.trusted``, None to use all of its findings."""
        spent = {"report": 0.0, "decode": 0.0}

        def compute() -> Decoded:
            started = time.perf_counter()
            report = {}
            if text:
                report = report_inputs(text, self._clip, self._sentences)
                if trusted is not None:
                    report["report_findings"] *= torch.tensor(trusted).unsqueeze(1)
                report = {name: value.unsqueeze(0).to(self.device) for name, value in report.items()}
            spent["report"] = time.perf_counter() - started
            with self._precision():
                decoded = decode(self._network, encoded.encoded, report)
            self._synchronise()
            spent["decode"] = time.perf_counter() - started - spent["report"]
            return decoded

        decoded = encoded.decode(text, compute)
        if seconds is not None:
            seconds.update(spent)
        return decoded

    def _finish(self, encoded: EncodedCase, logits: torch.Tensor, made: dict) -> np.ndarray:
        """Convert logits on the working grid to the label map of the case."""
        pred = MetaTensor(logits[0].float().cpu()).copy_meta_from(encoded.stub, copy_attr=True)
        done = self._postprocess({"pred": pred, "image": encoded.stub, "case": encoded.name, **made})
        return np.ascontiguousarray(torch.as_tensor(done["pred"])[0].cpu().numpy())

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def descriptor_of(tokens: torch.Tensor | None) -> tuple[float, ...]:
    """Return the mean direction of slice tokens ``(1, S, E)``, with unit norm; empty if there are none."""
    return () if tokens is None else tuple(F.normalize(tokens[0].float().mean(dim=0), dim=0).tolist())


def _probabilities(to_native: ToNative, logits: torch.Tensor) -> Callable[[], np.ndarray]:
    """Return a function: nested probabilities of WT, TC, ET on the native grid, from ``logits`` ``(1, 3, D, H, W)``."""
    return lambda: to_native(torch.sigmoid(nest(logits[0].float(), dim=0)))


def _errors(to_native: ToNative, logits: torch.Tensor, model: QualityModel, affine: np.ndarray) -> Callable:
    """Return a function: probability of error on the native grid, from ``logits`` ``(1, 3, D, H, W)``."""
    voxel_ml = Grid(logits.shape[2:], affine).voxel_ml
    return lambda: to_native(error_map(logits[0], model, voxel_ml))


def _attention(to_native: ToNative, attention: torch.Tensor, size: tuple[int, ...]) -> Callable[[], np.ndarray]:
    """Return a function: attention maps on the native grid, from logits ``(1, R, d, h, w)``, resized to ``size``."""

    def compute() -> np.ndarray:
        maps = attention.float().sigmoid()
        if not maps.shape[1]:
            return np.zeros((0, *to_native.shape), np.float32)
        return to_native(F.interpolate(maps, size=size, mode="trilinear", align_corners=False)[0])

    return compute
