"""ResNet38 through the real workflow: stages 0 to 4 of two steps each, on eight photographs.

What it learns is worth nothing; that every job of the paper's network works, and with finite
numbers, is seen. Minutes, 4 GB of memory and as much disk, so only `make test-resnet38` runs it.
The weights are written here, in the format and with the names and shapes of the ImageNet ones;
photographs are those of the fixture, or the demo's own where they are absent.
"""

import json
import re
import shutil
import struct
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from mxnet_files import V2, array_bytes
from repository import ROOT
from workspace import Workspace

from model.auxsegnet import AuxSegNet
from model.backbones.resnet38 import ResNet38
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.checkpoint import read_checkpoint
from wsss.storage.images import read_mask
from wsss.storage.palette import write_palette_png
from wsss.training.loop import parameter_groups

pytestmark = pytest.mark.slow

WEIGHTS = "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
TRAIN, VAL, STAGES = 8, 2, 5
LONG_SIDE = 128
CLASSES = {"cat": 8, "dog": 12, "horse": 13}  # with their values in VOC's masks

# Only what makes it short: training values stay those of the recipe.
SHORT = {
    "stages": STAGES,
    "seeds": [0],
    "device": "cpu",
    "images": {"long_side": LONG_SIDE},
    "classifier": {
        "epochs": 1,
        "batch_size": 4,
        "crop": 97,
        "resize": {"long_side": [96, LONG_SIDE]},
    },
    "cam": {"scales": [1.0], "flip": False},
    "stage": {"epochs": 1, "batch_size": 4, "crop": 97},
    "prediction": {"scales": [1.0], "flip": False},
    "compute": {"workers": 0},
    "resources": {kind: {"threads": 2} for kind in ("train", "infer", "crf")},
}


def in_mxnet_names(name):
    """`b4_2.bn_branch2a.running_mean` -> `aux:bn4b2_branch2a_moving_mean`, and so on."""
    fields = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_var",
    }
    if name == "conv1a.weight":
        return "arg:conv1a_weight"
    layer, _, field = name.rpartition(".")
    kind = "aux" if field.startswith("running") else "arg"
    if layer == "bn7":
        return f"{kind}:bn7_{fields[field]}"
    level, repeat, norm, branch = re.fullmatch(
        r"b(\d)(?:_(\d))?\.(conv|bn)_branch(\w+)", layer
    ).groups()
    place = f"{level}b{repeat}" if repeat else f"{level}a"
    if norm == "conv":
        return f"{kind}:res{place}_branch{branch}_weight"
    return f"{kind}:bn{place}_branch{branch}_{fields[field]}"


@cache
def imagenet_like_weights():
    """Arrays with the names and shapes of the published file: scaled so that nothing explodes.

    He's scale keeps activations through a convolution and a ReLU. What a block adds to its input
    is small, since fixed norms with statistics 0 and 1 do not hold a sum of blocks down, and the
    last norm makes features as small as a learning rate of 1 on the classifier needs.
    """
    rng = np.random.default_rng(0)
    arrays = {}
    for name, value in ResNet38().state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        shape = tuple(value.shape)
        if len(shape) == 4:
            scale = np.sqrt(2 / np.prod(shape[1:]))
            last = re.search(r"branch2b1\.weight$", name) and not name.startswith(("b6", "b7"))
            scale *= 0.1 if last or name.endswith("branch2b2.weight") else 1.0
            array = scale * rng.standard_normal(shape, dtype=np.float32)
        else:
            array = np.full(shape, name.endswith(("running_var", "weight")), np.float32)
        arrays[in_mxnet_names(name)] = array.astype(np.float32)
    arrays["arg:bn7_gamma"] *= np.float32(0.02)
    arrays["arg:linear1000_weight"] = np.zeros((1000, 4096), np.float32)
    arrays["arg:linear1000_bias"] = np.zeros(1000, np.float32)
    return arrays


def write_params(path, arrays):
    """Write an MXNet file array by array: 420 MB are not held twice."""
    with open(path, "wb") as file:
        file.write(struct.pack("<QQQ", 0x112, 0, len(arrays)))
        file.writelines(array_bytes(array, V2) for array in arrays.values())
        file.write(struct.pack("<Q", len(arrays)))
        file.writelines(struct.pack("<Q", len(name)) + name.encode() for name in arrays)


def photographs(folder, real_data):
    """Section `dataset` and `saliency`: photographs in a folder with maps, or the demo's."""
    if not real_data.is_dir():
        demo = {"train_images": TRAIN, "val_images": VAL, "size": [128, 96]}
        return {"dataset": {"format": "demo", "name": "eight", "demo": demo}}
    source = real_data / "voc2012-animals"
    voc = source / "VOCdevkit/VOC2012"
    table = pd.read_csv(source / "image_labels.csv", index_col="image_id")[list(CLASSES)]
    chosen = []
    for split, count in (("train", TRAIN), ("val", VAL)):
        ids = (voc / f"ImageSets/Segmentation/{split}.txt").read_text().split()
        chosen += [i for i in ids if table.loc[i].sum() > 0][:count]
    for name in ("images", "masks", "saliency"):
        (folder / name).mkdir(parents=True)
    for image_id in chosen:
        shutil.copy(voc / "JPEGImages" / f"{image_id}.jpg", folder / "images")
        mask = read_mask(voc / "SegmentationClass" / f"{image_id}.png")
        values = np.full(256, 255, np.uint8)
        values[[0, *CLASSES.values()]] = range(len(CLASSES) + 1)
        write_palette_png(folder / "masks" / f"{image_id}.png", values[mask])
        saliency = source / "saliency_u2netp" / f"{image_id}.png"
        if saliency.is_file():
            shutil.copy(saliency, folder / "saliency")
    table.loc[chosen].to_csv(folder / "labels.csv")
    (folder / "val.txt").write_text("\n".join(chosen[TRAIN:]))
    return {
        "dataset": {
            "format": "folder",
            "name": "eight",
            "root": str(folder),
            "folder": {"masks": "masks", "val_list": "val.txt"},
        },
        "saliency": {"source": "maps", "maps": {"folder": str(folder / "saliency")}},
    }


@pytest.fixture(scope="module", params=["paper", "official"])
def run(request, tmp_path_factory):
    """A finished run: its workspace and its recipe; 3 GB of checkpoints are removed at the end."""
    folder = tmp_path_factory.mktemp(request.param)
    data = photographs(folder / "photographs", ROOT.parent / "shared" / "data")
    overlay = folder / "eight.json"
    overlay.write_text(json.dumps(SHORT | data | {"recipe": request.param}))
    workspace = Workspace.create(folder, [overlay])
    write_params(folder / WEIGHTS, imagenet_like_weights())
    workspace.make()
    yield workspace, request.param
    shutil.rmtree(folder)


def recipe_values(name):
    return yaml.safe_load((ROOT / "config/recipes" / f"{name}.yaml").read_text())


def checkpoints(workspace):
    """The classifier's, then those of the stages."""
    results = workspace.folder / "results/eight"
    stages = [results / f"auxsegnet/seed0/stage{s}/train/model.pt" for s in range(STAGES)]
    return [results / "classifier/default/seed0/model.pt", *stages]


def test_all_stages_end_and_nothing_is_left_to_do(run):
    workspace, _ = run
    assert all(path.is_file() for path in checkpoints(workspace))
    assert workspace.counts() == {}
    assert not list((workspace.folder / "results").rglob(".resume-*"))


def test_losses_are_finite_and_the_learning_rate_is_the_recipes(run):
    workspace, name = run
    recipe = recipe_values(name)
    for section, model in zip(
        ["classifier", *["stage"] * STAGES], checkpoints(workspace), strict=True
    ):
        log = pd.read_csv(model.with_name("log.csv"))
        assert list(log["step"]) == [1, 2]  # eight photographs, batches of four
        losses = log.drop(columns=["step", "epoch", "learning_rate"])
        assert losses.shape[1] == (2 if section == "classifier" else 6)
        assert np.isfinite(losses.to_numpy()).all() and (losses.to_numpy() > 0).all()
        first = recipe[section]["learning_rate"]
        expected = [first, first * 0.5 ** recipe[section]["poly_power"]]
        np.testing.assert_allclose(log["learning_rate"], expected)


def test_the_weights_of_the_file_are_learnt_from_and_the_frozen_ones_kept(run):
    workspace, name = run
    recipe = recipe_values(name)
    given = imagenet_like_weights()
    before = {name: torch.from_numpy(given[in_mxnet_names(name)]) for name in resnet38_names()}
    frozen = tuple(f"{layer}." for layer in recipe["classifier"]["frozen"])
    digests = set()
    for number, path in enumerate(checkpoints(workspace)):
        checkpoint = read_checkpoint(path)
        digests.add(checkpoint["digest"])
        now = {
            name.removeprefix("backbone."): value
            for name, value in checkpoint["model"].items()
            if name.startswith("backbone.") and not name.endswith("num_batches_tracked")
        }
        assert now.keys() == before.keys()
        still = {name for name, value in now.items() if torch.equal(value, before[name])}
        norms = {name for name in now if ".bn_" in name or name.startswith("bn7")}
        assert norms <= still
        expected = frozen if number == 0 else ("conv1a.",)
        assert still - norms == {n for n in now if n.startswith(expected)} - norms
        before = now
    assert len(digests) == 1 + STAGES


def resnet38_names():
    with torch.device("meta"):
        return [n for n in ResNet38().state_dict() if not n.endswith("num_batches_tracked")]


def test_new_layers_learn_at_ten_times_the_rate(run):
    workspace, name = run
    checkpoint = read_checkpoint(checkpoints(workspace)[-1])
    recipe = recipe_values(name)["stage"]
    for key in ("learning_rate", "head_multiplier", "momentum", "weight_decay"):
        assert checkpoint["parameters"]["stage"][key] == recipe[key]
    with torch.device("meta"):
        network = AuxSegNet(**checkpoint["arguments"])
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, recipe["learning_rate"], recipe["head_multiplier"])
    rates = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
    assert rates.keys() == {n for n, p in network.named_parameters() if p.requires_grad}
    for parameter, rate in rates.items():
        slow = parameter.startswith(("backbone.", "cross_attention."))
        assert rate == pytest.approx(recipe["learning_rate"] * (1 if slow else 10)), parameter


def test_tables_have_the_scores_of_every_stage(run):
    workspace, _ = run
    folder = workspace.folder / "results/eight/auxsegnet"
    summary = pd.read_csv(folder / "summary.csv")
    assert list(summary["stage"]) == list(range(STAGES))
    assert summary["pseudo_miou"].notna().all() and summary["val_miou_crf"].notna().all()
    for stage in range(STAGES):
        for table in ("pseudo_labels", "segmentation"):
            scores = pd.read_csv(folder / f"seed0/stage{stage}/evaluation/{table}.csv")
            assert scores["iou"].dropna().between(0, 100).all() and scores["iou"].notna().any()


def test_maps_of_every_stage_are_those_of_resnet38(run):
    workspace, _ = run
    folder = workspace.folder / "results/eight/auxsegnet/seed0"
    for stage in range(1, STAGES):
        cams = ArtifactReader(folder / f"stage{stage}/cams/shard0.h5", "cams")
        assert len(cams.ids) == TRAIN
        record = cams.read(cams.ids[0])
        height, width = record.attributes["size"]
        scale = LONG_SIDE / max(height, width)
        assert record.array.shape[1:] == tuple(-(-round(s * scale) // 8) for s in (height, width))
