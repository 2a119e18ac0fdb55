from __future__ import annotations

import inspect
import json
import re

import pytest
import torch
from monai.bundle import ConfigParser
from monai.bundle.properties import InferProperties, TrainProperties

from brats_clip.engines import plain_message
from brats_clip.networks import ReportGuidedUNet
from tests.networks.conftest import SWITCHES

WORKFLOWS = {
    "train": ["train"],
    "train_clicks": ["train", "train_clicks"],
    "train_findings": ["train", "train_findings"],
    "mix_phantoms": ["train", "mix_phantoms"],
    "evaluate": ["train", "evaluate"],
    "inference": ["inference"],
    "pretrain_clip": ["pretrain_clip"],
    "multi_gpu_train": ["train", "multi_gpu_train"],
    "train_clicks on several GPUs": ["train", "multi_gpu_train", "train_clicks"],
    "multi_gpu_evaluate": ["train", "evaluate", "multi_gpu_evaluate"],
}
# Keys that MONAI or a user refers to by name.
ENTRIES = {"imports", "initialize", "run", "finalize", "training", "evaluating", "inferring", "pretraining"}
PROPERTIES = {p["id"].split("#")[0] for p in {**TrainProperties, **InferProperties}.values()}


def merged(configs, name: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(configs / f"{part}.json") for part in WORKFLOWS[name]])
    return parser


def references(value) -> set[str]:
    """Return the top-level keys that a part of a config refers to."""
    if isinstance(value, dict):
        return set().union(*map(references, value.values()))
    if isinstance(value, list):
        return set().union(*map(references, value))
    if isinstance(value, str) and value.startswith(("$", "@")):
        return set(re.findall(r"@(\w+)", value))
    return set()


def test_evaluation_refuses_an_output_folder_inside_the_data_set(configs, tiny_data_set):
    parser = merged(configs, "evaluate")
    parser["datalist"], parser["dataset_dir"] = str(tiny_data_set.datalist), str(tiny_data_set.folder)
    parser["output_dir"] = str(tiny_data_set.folder)
    with pytest.raises(RuntimeError) as raised:  # MONAI wraps the package's error
        parser.get_parsed_content("validate#dataset#data")
    assert "outside the data set" in plain_message(raised.value)


def test_evaluation_preprocesses_raw_exams_like_inference(configs):
    assert merged(configs, "evaluate").get_parsed_content("prepare_case#0").preprocess == "auto"


def without(value, name: str):
    """Return an argument of a transform without the key ``name``."""
    if isinstance(value, list) and name in value:
        rest = [item for item in value if item != name]
        return rest[0] if len(rest) == 1 else rest
    return value


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_top_level_key_is_used(configs, name):
    content = merged(configs, name).get()
    last = WORKFLOWS[name][-1]
    own = {key.lstrip("+").split("#")[0] for key in json.loads((configs / f"{last}.json").read_text())}
    used = references({k: v for k, v in content.items() if k != "_meta_"})
    assert own - used - ENTRIES - PROPERTIES == set()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_reference_has_a_target(configs, name):
    content = merged(configs, name).get()
    assert references(content) - set(content) == set()


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("train", "training"),
        ("evaluate", "evaluating"),
        ("inference", "inferring"),
        ("pretrain_clip", "pretraining"),
    ],
)
def test_workflow_has_run_and_an_alias_of_its_own_name(configs, name, entry):
    content = merged(configs, name).get()
    assert content["run"] and content[entry] == "$@run"


def test_keys_shared_by_training_and_inference_are_equal(configs):
    train, inference = merged(configs, "train").get(), merged(configs, "inference").get()
    differ = {
        "imports",
        "dataset_dir",
        "output_dir",
        "prepare_batch",  # at inference the network encodes the slices, so that windows and exports need no tokens
        "switches",
        "run",
        "_meta_",
    }
    shared = (set(train) & set(inference)) - differ
    assert {"bundle_root", "clip", "network_def", "slices_per_plane", "spacing"} <= shared
    assert {key: train[key] for key in shared} == {key: inference[key] for key in shared}


def test_training_and_inference_use_the_same_preprocessing(configs):
    both = merged(configs, "train").get()["prepare_case"]
    train = [t for t in both if t.get("keys") != "label"]  # inference has no label to prepare
    inference = merged(configs, "inference").get()["preprocessing"]["transforms"]
    assert inference.pop()["_target_"] == "brats_clip.transforms.PlaceClicksd"  # training simulates its clicks
    assert [t["_target_"] for t in train] == [t["_target_"] for t in inference]
    for a, b in list(zip(train, inference, strict=True))[1:-1]:  # loading and encoding differ on purpose
        mode = {"mode": a["mode"][0]} if "mode" in a else {}
        assert {key: without(value, "label") for key, value in {**a, **mode}.items()} == b


@pytest.mark.parametrize("base", ["train", "multi_gpu_train"])
def test_train_clicks_freezes_all_but_the_click_parameters(configs, tiny_network, base):
    class Wrapped(torch.nn.Module):  # stands in for DistributedDataParallel, which needs a process group
        def __init__(self, module: torch.nn.Module) -> None:
            super().__init__()
            self.module = module
            self.trained = {name.split(".")[0] for name, p in module.named_parameters() if p.requires_grad}

    parser = ConfigParser()
    parser.read_config([str(configs / f"{name}.json") for name in dict.fromkeys(["train", base, "train_clicks"])])
    steps = parser.get("run")
    # Before any step that needs the network: DistributedDataParallel reads requires_grad once, when it wraps.
    assert not references(steps[: steps.index("@freeze")]) & {"network", "train", "ema", "checkpoints"}
    wrapped = {"_target_": Wrapped, "module": "$@network_def.to(@device)"}
    parser.update(
        {**tiny_network, "bundle_root": str(configs.parent), "device": torch.device("cpu"), "network": wrapped}
    )
    parser.get_parsed_content("freeze")
    network, optimizer = parser.get_parsed_content("network"), parser.get_parsed_content("optimizer")
    assert network.trained == {"clicks"}
    of_part = {id(p) for p in network.module.clicks.parameters()}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == of_part


@pytest.mark.parametrize("name", ["train", "evaluate", "inference", "pretrain_clip"])
def test_every_switch_accepts_booleans_and_words(configs, name):
    content = merged(configs, name).get()
    switches = {key for key, value in content.items() if isinstance(value, bool)} | ({"amp"} & set(content))
    assert switches == set(content["switches"]) - {"_target_"}
    rest = {key: value for key, value in content.items() if key not in ("switches", "_meta_")}
    assert references(rest) & switches <= {"allow_missing_sequences"}  # parsed by its consumers
    for written, read in (("true", True), ("True", True), (True, True), ("false", False), (False, False)):
        parser = merged(configs, name)
        parser.update(dict.fromkeys(switches, written))
        assert parser.get_parsed_content("switches") == dict.fromkeys(switches, read)
    parser.update(dict.fromkeys(switches, "perhaps"))
    with pytest.raises(RuntimeError) as error:
        parser.get_parsed_content("switches")
    assert re.search("--.*: found 'perhaps'; expected True or False", plain_message(error.value))


@pytest.mark.parametrize("switch", SWITCHES)
def test_network_switches_accept_words(build_network, tiny_network, switch):
    def parts(value) -> set[str]:
        return set(build_network(**tiny_network, **{f"network_def#{switch}": value}).state_dict())

    assert parts("false") == parts(False) and parts("True") == parts(True)
    with pytest.raises(RuntimeError) as error:
        parts("off")
    assert f"--network_def#{switch}" in plain_message(error.value)


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_ablation_file_sets_one_switch(configs, switch):
    assert json.loads((configs / "ablations" / f"no_{switch}.json").read_text()) == {f"network_def#{switch}": False}


def test_ablation_files_turn_off_existing_switches(configs):
    train = merged(configs, "train").get()
    files = sorted((configs / "ablations").glob("*.json"))
    assert {f.stem for f in files} == {f"no_{switch}" for switch in SWITCHES} | {"plain_unet"}
    for file in files:
        for key, value in json.loads(file.read_text()).items():
            part, switch = key.split("#")
            assert (part, value) == ("network_def", False)
            assert train["network_def"][switch] is True
            assert switch in inspect.signature(ReportGuidedUNet).parameters


def test_plain_unet_turns_off_every_switch(configs):
    off = json.loads((configs / "ablations" / "plain_unet.json").read_text())
    assert set(off) == {f"network_def#{switch}" for switch in SWITCHES}


def test_metadata_versions_match_requirements(configs):
    metadata = json.loads((configs / "metadata.json").read_text())
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (configs.parents[1] / "requirements.txt").read_text(), re.MULTILINE))
    assert metadata["monai_version"] == pins["monai"]
    assert metadata["pytorch_version"] == pins["torch"]
    assert metadata["numpy_version"] == pins["numpy"]
    required = metadata["required_packages_version"]
    assert required == {name: pins[name] for name in required}
    assert metadata["version"] in metadata["changelog"]
