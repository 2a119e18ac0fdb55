"""Clicks simulated during training: placed on errors, with the true label, over several rounds."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset, MetaTensor
from torch import distributed, nn

from brats_clip.clicks import KINDS
from brats_clip.engines import BrainInferer, ClickRounds, EpochSeed, FusionLoss
from brats_clip.errors import InputError
from brats_clip.networks import Decoded, ReportGuidedUNet

SIZE = (32, 32, 32)
CORE, TUMOUR = (slice(12, 20),) * 3, (slice(6, 26),) * 3


def truth_of(batch: int = 1) -> torch.Tensor:
    """Return the regions of nested blocks: oedema around NCR around ET."""
    truth = torch.zeros(batch, 3, *SIZE)
    truth[(slice(None), 0, *TUMOUR)] = 1
    truth[(slice(None), 1, *CORE)] = 1
    truth[:, 2, 14:18, 14:18, 14:18] = 1
    return truth


def decoded_as(regions: torch.Tensor) -> Decoded:
    logits = 8 * regions - 4
    return Decoded(logits, logits[:, :0], [], [], logits, logits)


class FakeNetwork:
    """Stand-in for the network: record the calls, and correct a block around each clicked voxel."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.gradients = False

    def refine(self, decoded: Decoded, clicks: torch.Tensor, targets: torch.Tensor) -> Decoded:
        self.asked.append((clicks.clone(), targets.clone()))
        self.gradients |= torch.is_grad_enabled()
        refined = decoded.logits.clone()
        for n in range(len(clicks)):
            for (x, y, z), said in zip(clicks[n].long().tolist(), targets[n], strict=True):
                block = refined[n, :, max(x - 6, 0) : x + 6, max(y - 6, 0) : y + 6, max(z - 6, 0) : z + 6]
                block[said > 0], block[said < 0] = 4, -4
        return decoded._replace(refined=refined)


def run(rounds: int = 4, answer: torch.Tensor | None = None, seed: int = 0, batch: int = 1, **options):
    truth = truth_of(batch)
    network = FakeNetwork()
    annotate = ClickRounds(rounds, seed=seed, **options)
    clicks, targets = annotate(network, decoded_as(torch.zeros_like(truth) if answer is None else answer), truth)
    return clicks, targets, network


def kind_of(target: torch.Tensor) -> str:
    return next(kind for kind, said in KINDS.items() if list(said) == target.int().tolist())


def test_number_of_clicks_is_uniform_from_1_to_rounds():
    annotate, truth = ClickRounds(3), truth_of()
    counts = Counter(annotate(FakeNetwork(), decoded_as(1 - truth), truth)[0].shape[1] for _ in range(90))
    assert set(counts) == {1, 2, 3} and min(counts.values()) > 15


def test_clicks_and_targets_have_the_shapes_of_refine():
    clicks, targets, _ = run(rounds=4, batch=2)
    assert clicks.shape == targets.shape == (2, clicks.shape[1], 3)
    assert clicks.dtype == targets.dtype == torch.float32


def test_every_click_states_the_true_label_of_its_voxel():
    for seed in range(12):
        clicks, targets, _ = run(seed=seed, batch=2)
        truth = truth_of(2)
        for n in range(2):
            for voxel, said in zip(clicks[n].long().tolist(), targets[n], strict=True):
                regions = 2 * truth[(n, slice(None), *voxel)] - 1
                assert (said == regions)[said != 0].all() and said.any()


def test_first_click_is_on_a_wrong_voxel():
    for seed in range(12):
        clicks, _, _ = run(seed=seed)
        assert truth_of()[(0, 0, *clicks[0, 0].long().tolist())] == 1


def test_each_round_clicks_an_error_left_by_the_previous_rounds():
    answer = torch.zeros(1, 3, *SIZE)
    clicks, targets, network = next(r for r in (run(4, answer, seed) for seed in range(20)) if r[0].shape[1] == 4)
    assert [asked[0].shape[1] for asked in network.asked] == [1, 2, 3]
    for i, (asked, said) in enumerate(network.asked):
        assert torch.equal(asked, clicks[:, : i + 1]) and torch.equal(said, targets[:, : i + 1])
        after = FakeNetwork().refine(decoded_as(answer), asked, said).refined > 0
        at = (0, slice(None), *clicks[0, i + 1].long().tolist())
        assert not torch.equal(after[at], truth_of()[at] > 0)


def test_refinement_between_rounds_runs_without_gradients():
    with torch.enable_grad():
        *_, network = next(r for r in (run(seed=seed) for seed in range(20)) if r[0].shape[1] > 1)
        assert torch.is_grad_enabled()
    assert not network.gradients


def test_clicks_confirm_a_correct_answer():
    kinds = Counter()
    for seed in range(20):
        clicks, targets, _ = run(answer=truth_of(), seed=seed)
        for voxel, said in zip(clicks[0].long().tolist(), targets[0], strict=True):
            regions = 2 * truth_of()[(0, slice(None), *voxel)] - 1
            assert (said == regions)[said != 0].all()
            kinds[kind_of(said)] += 1
    assert len(kinds) >= 3


@pytest.mark.parametrize(("share", "seen"), [(0.0, {"NCR", "ED", "ET"}), (1.0, {"TC", "WT", "ET"})])
def test_region_share_controls_clicks_on_regions(share, seen):
    kinds = set()
    for seed in range(25):
        kinds |= {kind_of(said) for said in run(seed=seed, region_share=share)[1][0]}
    assert kinds - {"background"} == seen


def test_clicks_are_reproducible_and_can_be_reseeded():
    def several(annotate: ClickRounds) -> list[list]:
        truth = truth_of()
        return [annotate(FakeNetwork(), decoded_as(1 - truth), truth)[0].tolist() for _ in range(5)]

    annotate = ClickRounds(4, seed=3)
    first = several(annotate)
    assert several(ClickRounds(4, seed=3)) == first and several(ClickRounds(4, seed=4)) != first
    assert several(annotate) != first
    annotate.set_random_state(3)
    assert several(annotate) == first


def test_epoch_seed_seeds_the_clicks():
    annotate, truth = ClickRounds(4), truth_of()

    def epochs(seed: int, rank: int = 0) -> list:
        trainer, found = Engine(lambda engine, batch: None), []
        EpochSeed(seed, Dataset([0]), annotator=annotate, rank=rank).attach(trainer)
        trainer.add_event_handler(
            Events.EPOCH_COMPLETED,
            lambda: found.append(annotate(FakeNetwork(), decoded_as(1 - truth), truth)[0].tolist()),
        )
        trainer.run([0], max_epochs=3)
        return found

    drawn = epochs(1)
    assert epochs(1) == drawn and drawn[0] != drawn[1]
    assert epochs(2) != drawn and epochs(1, rank=1) != drawn


@pytest.mark.parametrize("rounds", [0, -1])
def test_fewer_than_one_round_is_an_error(rounds):
    with pytest.raises(InputError, match="rounds"):
        ClickRounds(rounds)


@pytest.fixture
def network() -> ReportGuidedUNet:
    torch.manual_seed(0)
    return ReportGuidedUNet(
        widths=(4, 8, 8, 8),
        semantic_dim=8,
        region_embeddings=torch.randn(3, 8),
        bottleneck_blocks=1,
        head_width=8,
        bridge=False,
    )


def test_training_step_gives_gradients_to_the_click_parameters(network):
    image = torch.randn(2, 4, *SIZE)
    inferer = BrainInferer(annotator=ClickRounds(2), cpu_bf16=False)
    outputs = inferer(image, network.train(), truth=MetaTensor(truth_of(2)))
    assert not torch.equal(outputs.refined, outputs.logits)
    FusionLoss()(outputs, truth_of(2)).backward()
    assert [name for name, p in network.named_parameters() if name.startswith("clicks.") and p.grad is None] == []
    assert network.clicks.change.weight.grad.any()


def test_click_gradients_are_equal_under_distributed_data_parallel(network, tmp_path):
    """Clicks are simulated outside the wrapper's forward; its hooks must still see these gradients."""
    image, gradients = torch.randn(1, 4, *SIZE), []
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        for wrapped in (network, nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)):
            network.zero_grad()
            outputs = BrainInferer(annotator=ClickRounds(2), cpu_bf16=False)(image, wrapped.train(), truth=truth_of())
            FusionLoss()(outputs, truth_of()).backward()
            gradients.append({name: p.grad.clone() for name, p in network.named_parameters()})
    finally:
        distributed.destroy_process_group()
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())


def test_no_clicks_are_made_without_truth_or_in_evaluation(network):
    image = torch.randn(1, 4, *SIZE)
    inferer = BrainInferer(annotator=ClickRounds(2), cpu_bf16=False)
    outputs = inferer(image, network.train())
    assert outputs.refined is outputs.logits
    with torch.no_grad():
        network.eval()
        assert torch.equal(inferer(image, network, truth=truth_of()), network(image))


def test_network_without_clicks_trains_with_an_annotator():
    """This is the case in the ablation no_clicks: train.json creates the annotator for every network."""
    torch.manual_seed(0)
    network = ReportGuidedUNet(
        widths=(4, 8, 8, 8), semantic_dim=8, bottleneck_blocks=1, head_width=8,
        bridge=False, semantic_attention=False, clicks=False,
    )  # fmt: skip
    inferer = BrainInferer(annotator=ClickRounds(2), cpu_bf16=False)
    outputs = inferer(torch.randn(1, 4, *SIZE), network.train(), truth=truth_of())
    assert outputs.refined is outputs.logits
    FusionLoss()(outputs, truth_of()).backward()
