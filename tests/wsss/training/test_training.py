"""The training loop: schedule, parameter groups, what stays frozen, and runs that are resumed."""

import csv
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from coordinate_images import ColumnLabels, map_index
from repository import program_environment
from tiny_network import classifying_network, tiny_network
from tiny_training import (
    CLASSIFIER,
    CPU,
    IMAGES,
    STAGE,
    InterruptedRunError,
    assert_same_weights,
    changed,
    counting,
    failing,
    interrupt,
    run,
)

from model.losses import stage_losses
from workflow_scripts.train_stage import settings_of_stage
from wsss.errors import InputError
from wsss.storage.artifacts import Record, installed_versions
from wsss.training import run as training_run
from wsss.training.loop import Hardware, parameter_groups, poly_factor
from wsss.training.run import run_key, train, write_log

pytestmark = pytest.mark.run


@pytest.fixture(autouse=True)
def setting(tiny_backbone):
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


# --- schedule and groups


def test_poly_schedule_by_hand():
    assert poly_factor(0, 40, 0.9) == 1
    assert poly_factor(20, 40, 0.9) == pytest.approx(0.535887)  # 0.5 ** 0.9
    assert poly_factor(39, 40, 0.9) == pytest.approx(0.036153, rel=1e-4)  # 0.025 ** 0.9
    assert poly_factor(10, 40, 1) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("later", "rates"), [(None, [0.01, 0.01, 0.01]), (0.004, [0.01, 0.004, 0.004])]
)
def test_every_stage_starts_at_its_configured_rate(later, rates):
    settings = changed(STAGE, later_learning_rate=later)
    assert [settings_of_stage(settings, stage).learning_rate for stage in range(3)] == rates


@pytest.mark.parametrize("design", ["paper", "official"])
def test_heads_learn_ten_times_as_fast(design):
    network = tiny_network(design=design)
    network.backbone.stem.requires_grad_(False)
    network.backbone.nasal = torch.nn.Linear(1, 1, bias=False)  # no head for its name
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    slow, fast = parameter_groups(network, 7e-4, 10)
    assert (slow["lr"], fast["lr"]) == (7e-4, pytest.approx(7e-3))
    assert {names[id(p)] for p in slow["params"]} == {
        "backbone.body.weight",
        "backbone.body.bias",
        "backbone.nasal.weight",
        "cross_attention.conv3x3.weight",
        "cross_attention.conv1x1.weight",
        "cross_attention.conv1x1.bias",
    }
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    found = {names[id(p)] for p in fast["params"]}
    assert found == {name for name in learning if name.startswith(("fc8.", "seg.", "sal."))}
    assert {"fc8.weight", "seg.attention.query.bias", "sal.classifier.weight"} <= found
    assert len(slow["params"]) + len(fast["params"]) == len(learning)


def test_every_step_has_its_learning_rate(tmp_path, monkeypatch):
    used = []
    step = torch.optim.SGD.step

    def spy(optimiser, *arguments, **options):
        used.append(tuple(group["lr"] for group in optimiser.param_groups))
        return step(optimiser, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    _, rows, _ = run(tmp_path)
    rates = [0.01 * (1 - i / 12) ** 0.9 for i in range(12)]
    assert used == [(pytest.approx(rate), pytest.approx(10 * rate)) for rate in rates]
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[-1]["epoch"] == 3.0


@pytest.mark.parametrize("clip", [None, 1e-2, 1e6])
def test_a_step_is_that_of_sgd(tmp_path, clip):
    """One step written out: the gradient, clipped, plus weight decay, times the group's rate."""
    settings = changed(STAGE, epochs=1, batch_size=IMAGES, gradient_clip=clip)
    network = tiny_network(design="paper")
    network.backbone.dropout.p = 0.0
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    gradients = {}

    def losses(*arguments):
        found = stage_losses(*arguments)
        total = sum(found.values())
        names, learning = zip(
            *((n, p) for n, p in network.named_parameters() if p.requires_grad), strict=True
        )
        made = torch.autograd.grad(total, learning, retain_graph=True)
        gradients.update(zip(names, made, strict=True))
        return found

    run(tmp_path, losses=losses, network=network, settings=settings)
    assert len(gradients) > 10
    norm = sum(float((g.double() ** 2).sum()) for g in gradients.values()) ** 0.5
    assert 1e-2 < norm < 1e6
    scale = 1.0 if clip is None else min(1.0, clip / norm)
    for name, gradient in gradients.items():
        rate = 0.1 if name.startswith(("fc8", "seg", "sal")) else 0.01
        expected = before[name] - rate * (scale * gradient + 5e-4 * before[name])
        torch.testing.assert_close(network.get_parameter(name).detach(), expected)


@pytest.mark.parametrize(("share", "steps"), [(0.5, 6), (0.01, 1), (1.0, 12)])
def test_weights_are_a_mean_over_the_last_steps(tmp_path, monkeypatch, share, steps):
    seen = []
    step = torch.optim.SGD.step

    def spy(optimiser, *arguments, **options):
        made = step(optimiser, *arguments, **options)
        seen.append([p.detach().clone() for g in optimiser.param_groups for p in g["params"]])
        return made

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    settings = changed(STAGE, averaged_steps=share)
    network, _, _ = run(tmp_path, settings=settings)
    groups = parameter_groups(network, settings.learning_rate, settings.head_multiplier)
    found = [p for group in groups for p in group["params"]]
    assert len(seen) == 12
    for weight, values in zip(found, zip(*seen[-steps:], strict=True), strict=True):
        torch.testing.assert_close(weight.detach(), torch.stack(values).mean(dim=0))


# --- what changes and what does not


def test_frozen_parts_and_statistics_stay(tmp_path):
    before = {name: value.clone() for name, value in tiny_network().state_dict().items()}
    network, _, _ = run(tmp_path)
    changed = {
        name for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert not {name for name in changed if name.startswith(("backbone.stem", "backbone.bn"))}
    # With almost uniform affinities some gradients of theta and phi round to nothing.
    unchanged = {name for name in before if ".stem" not in name and ".bn." not in name} - changed
    assert unchanged <= {name for name in before if ".attention.key" in name}


class OneObject(ColumnLabels):
    """Class 2 everywhere."""

    def read(self, image_id):
        full = np.full(self.size, 2, np.uint8)
        return Record({"segmentation": full, "saliency": np.full_like(full, 255)}, {})


@pytest.mark.parametrize(
    ("precision", "hardware"),
    [
        ("fp32", CPU),
        ("bf16", CPU),
        ("fp16", CPU),
        ("fp32", Hardware(torch.device("cpu"), channels_last=True, workers=1)),
    ],
)
@pytest.mark.parametrize("design", ["paper", "official"])
def test_losses_fall_on_what_is_easily_learnt(tmp_path, design, precision, hardware):
    settings = changed(STAGE, epochs=10, precision=precision)
    network = tiny_network(design=design)
    options = {"settings": settings, "labels": OneObject(), "hardware": hardware}
    _, rows, _ = run(tmp_path, network=network, **options)
    for name in ("segmentation", "refined_segmentation", "saliency", "refined_saliency"):
        assert rows[-1][name] < 0.3 * rows[0][name], name
    parts = [name for name in rows[0] if name not in ("step", "epoch", "learning_rate", "loss")]
    assert len(parts) == 5
    assert rows[0]["loss"] == pytest.approx(sum(rows[0][name] for name in parts), rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_losses_are_computed_outside_of_a_mixed_precision(tmp_path, precision):
    """CUDA refuses the cross entropy of probabilities inside; a CPU computes it all the same."""
    inside = []

    def losses(*arguments):
        inside.append(torch.is_autocast_enabled("cpu"))
        return stage_losses(*arguments)

    settings = changed(STAGE, epochs=1, precision=precision)
    run(tmp_path, network=tiny_network(), losses=losses, settings=settings, labels=OneObject())
    assert inside
    assert not any(inside)


def test_rows_are_means_of_their_steps(tmp_path):
    """Twenty-one steps an epoch give a row every second step, and one at the end."""
    seen = []

    def losses(*arguments):
        found = stage_losses(*arguments)
        seen.append(found["classification"].item())
        return found

    settings = changed(CLASSIFIER, batch_size=1, epochs=1)
    options = {"network": classifying_network(), "losses": losses, "images": 21}
    _, rows, _ = run(tmp_path, settings=settings, **options)
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 21]
    means = [(seen[i] + seen[i + 1]) / 2 for i in range(0, 20, 2)] + [seen[20]]
    assert [row["loss"] for row in rows] == pytest.approx(means, rel=1e-5)


@pytest.mark.parametrize("learning_rate", [1e30, float("nan")])
def test_loss_that_is_not_finite_is_refused(tmp_path, learning_rate):
    settings = changed(STAGE, learning_rate=learning_rate)
    with pytest.raises(
        InputError, match=r"not finite at step \d+; lower the learning rate"
    ) as error:
        run(tmp_path, settings=settings)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("state.pt"))


def test_no_training_image_is_refused(tmp_path):
    with pytest.raises(InputError, match="no image in split train"):
        run(tmp_path, images=0)


def test_unknown_frozen_part_is_refused(tmp_path):
    said = r"^stage\.frozen: .*'blocks\.77'.*known are stem, bn, dropout, body"
    with pytest.raises(InputError, match=said):
        run(tmp_path, settings=changed(STAGE, frozen=("blocks.77",)))


# --- interrupted runs


@pytest.fixture
def whole(tmp_path):
    """A run without interruption."""
    (tmp_path / "whole").mkdir()
    return run(tmp_path / "whole")


@pytest.mark.parametrize("after", [0, 3, 4, 6, 11])
def test_interrupted_run_ends_as_if_it_had_not_been(tmp_path, whole, after):
    """To the bit, dropout and momentum included."""
    with pytest.raises(InterruptedRunError):
        run(tmp_path, losses=failing(after, interrupt))
    counted = []
    torch.manual_seed(99)  # another process has other random numbers
    network, rows, _ = run(tmp_path, losses=counting(counted))
    # The state is that of the last whole epoch.
    assert len(counted) == 12 - 4 * (after // 4)
    assert rows == whole[1]
    assert_same_weights(network, whole[0])


def test_a_mean_of_weights_goes_on_where_it_was(tmp_path):
    """Interrupted at step 9, after a save at step 8, the second of the six that count."""
    settings = changed(STAGE, averaged_steps=0.5)
    (tmp_path / "whole").mkdir()
    whole, _, _ = run(tmp_path / "whole", settings=settings)
    with pytest.raises(InterruptedRunError):
        run(tmp_path, losses=failing(9, interrupt), settings=settings)
    network, _, _ = run(tmp_path, settings=settings)
    assert_same_weights(network, whole)


def test_dropout_is_part_of_this(tmp_path, whole):
    """The test above would not see a lost random state if the runs had no randomness."""
    network = tiny_network()
    torch.manual_seed(99)
    network, rows, _ = run(tmp_path, network=network)
    assert rows != whole[1]


def test_interrupted_twice(tmp_path, whole):
    for after in (5, 2):  # at step 5, and at step 4 + 2
        with pytest.raises(InterruptedRunError):
            run(tmp_path, losses=failing(after, interrupt))
    network, rows, _ = run(tmp_path)
    assert rows == whole[1]
    assert_same_weights(network, whole[0])


# Train until killed at step 6.
KILLED = """
import os, signal, sys
from pathlib import Path
from tiny_network import TinyBackbone
from tiny_training import failing, run
from model.backbones import BACKBONES
BACKBONES["tiny"] = TinyBackbone
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
run(Path(sys.argv[1]), losses=failing(6, kill))
"""


def test_killed_run_ends_as_if_it_had_not_been(tmp_path, whole):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env=program_environment(),
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    network, rows, clean_up = run(tmp_path)
    assert rows == whole[1]
    assert_same_weights(network, whole[0])
    clean_up()


def test_state_of_another_configuration_is_left_alone(tmp_path, whole):
    with pytest.raises(InterruptedRunError):
        run(tmp_path, losses=failing(6, interrupt), key="other")
    counted = []
    network, _, _ = run(tmp_path, losses=counting(counted))
    assert len(counted) == 12
    assert_same_weights(network, whole[0])


def test_state_lies_beside_the_output_until_it_is_cleaned_up(tmp_path):
    _, _, clean_up = run(tmp_path)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("state.pt")] == [
        Path(".resume-key/state.pt")
    ]
    clean_up()
    assert not (tmp_path / ".resume-key").exists()
    clean_up()  # nothing left to do is no error


def test_run_key_follows_configuration_inputs_code_and_versions(monkeypatch):
    key = run_key({"a": 1, "b": [1.0, 2]}, {"seed": 3}, "12ab", "cpu", code="34")
    assert run_key({"b": [1.0, 2], "a": 1}, {"seed": 3}, "12ab", "cpu", code="34") == key
    others = {
        run_key({"a": 2, "b": [1.0, 2]}, {"seed": 3}, "12ab", "cpu", code="34"),
        run_key({"a": 1, "b": [1.0, 2]}, {"seed": 4}, "12ab", "cpu", code="34"),
        run_key({"a": 1, "b": [1.0, 2]}, {"seed": 3}, "12ac", "cpu", code="34"),
        run_key({"a": 1, "b": [1.0, 2]}, {"seed": 3}, "12ab", "cuda", code="34"),
        run_key({"a": 1, "b": [1.0, 2]}, {"seed": 3}, "12ab", "cpu", code="35"),
    }
    for name in ("torch", "numpy", "pillow", "opencv-python-headless"):
        newer = installed_versions() | {name: "99.0"}
        monkeypatch.setattr(training_run, "installed_versions", lambda newer=newer: newer)
        others.add(run_key({"a": 1, "b": [1.0, 2]}, {"seed": 3}, "12ab", "cpu", code="34"))
    assert len(others | {key}) == 10
    assert key.isalnum()  # it becomes a folder's name


# --- the rest


def test_classifier_learns_from_image_labels_alone(tmp_path):
    index = map_index(tmp_path, IMAGES)
    records = tuple(replace(record, labels=("cat", "cow")) for record in index.records)
    network = classifying_network()
    rows, _ = train(
        network,
        changed(CLASSIFIER, epochs=20),
        replace(index, records=records),
        0,
        CPU,
        long_side=None,
        output=tmp_path / "model.pt",
        key="k",
    )
    assert set(rows[0]) == {"step", "epoch", "learning_rate", "loss", "classification"}
    assert rows[0]["loss"] == rows[0]["classification"]
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    image = torch.zeros(1, 3, 24, 24)
    assert (network.eval()(image, affinity=None).class_logits > 0).tolist() == [[True, False, True]]


def test_log_is_a_table(tmp_path):
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    write_log(tmp_path / "log.csv", rows)
    with open(tmp_path / "log.csv", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"step": "1", "loss": "0.5"},
            {"step": "2", "loss": "0.25"},
        ]


def test_log_of_no_steps_is_a_header(tmp_path):
    write_log(tmp_path / "log.csv", [])
    assert (tmp_path / "log.csv").read_text() == "step,epoch,learning_rate,loss\n"
