"""The training loop, for the classifier and for every stage; resumable to the bit."""

import csv
import hashlib
import json
import logging
import shutil
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch

from model.backbones import freeze
from model.losses import classification_loss, stage_losses, weighted_sum
from wsss.batches import BatchPlan, TrainingImages, batch_loader
from wsss.devices import autocast
from wsss.errors import InputError, listed
from wsss.files import atomic_path
from wsss.progress import progress

log = logging.getLogger(__name__)

SAVE_EVERY_SECONDS = 600
LOG_ROWS_PER_EPOCH = 10
# Released code: these parameters learn `head_multiplier` times as fast as the rest.
HEAD_NAMES = ("seg", "sal", "fc8")


@dataclass(frozen=True)
class Hardware:
    """Where and how the loop runs; nothing here is a setting of the method."""

    device: torch.device
    channels_last: bool = False
    workers: int = 0


def parameter_groups(network, learning_rate, head_multiplier):
    """Backbone and cross-task attention at the learning rate, heads at a multiple of it."""
    groups = {1.0: [], float(head_multiplier): []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            is_head = not name.startswith("backbone.") and any(h in name for h in HEAD_NAMES)
            groups[float(head_multiplier) if is_head else 1.0].append(parameter)
    return [
        {"params": parameters, "lr": learning_rate * factor, "initial_lr": learning_rate * factor}
        for factor, parameters in groups.items()
        if parameters
    ]


def poly_factor(step, steps, power):
    """Polynomial decay: (1 - step / steps) ** power."""
    return (1 - step / steps) ** power


def classifier_loss(network, batch, settings):
    """Losses of the classification pre-training."""
    logits = network(batch["image"], affinity=None).class_logits
    losses = {"classification": classification_loss(logits, batch["labels"])}
    return losses["classification"], losses


def stage_loss(network, batch, settings):
    """Losses of a stage (paper, equation 8)."""
    losses = stage_losses(
        network(batch["image"]),
        batch["labels"],
        batch["segmentation"],
        batch["saliency"],
        network.recipe.refine_probabilities,
    )
    return weighted_sum(losses, settings["loss_weights"]), losses


class Trainer:
    """Everything that changes during a run, and its way to disk and back.

    Args:
        network: with its starting weights, and frozen where it is not to learn.
        loss: `classifier_loss` or `stage_loss`.
        settings: section `classifier` or `stage`.
        hardware: `Hardware`.
        resume_folder: undeclared folder beside the output; its name holds what the run is.
    """

    def __init__(self, network, loss, settings, hardware, resume_folder):
        self.network = network.to(hardware.device)
        if hardware.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.loss, self.settings, self.hardware = loss, settings, hardware
        self.optimiser = torch.optim.SGD(
            parameter_groups(network, settings["learning_rate"], settings["head_multiplier"]),
            momentum=settings["momentum"],
            weight_decay=settings["weight_decay"],
        )
        self.scaler = torch.amp.GradScaler(
            hardware.device.type, enabled=settings["precision"] == "fp16"
        )
        self.state_file = Path(resume_folder) / "state.pt"
        self.step, self.rows = 0, []

    def run(self, images, seed):
        """Train to the end; returns the rows of the log."""
        self._restore()
        plan = self._plan(images, seed)
        loader = batch_loader(
            images, plan, self.hardware.workers, self.hardware.device.type == "cuda"
        )
        every = max(1, plan.steps_per_epoch // LOG_ROWS_PER_EPOCH)
        meter, saved_at = _Meter(), time.monotonic()
        self.network.train()
        bar = progress(loader, initial=self.step, total=plan.steps, desc="steps", unit="step")
        for batch in bar:
            learning_rate = self._set_learning_rate(plan.steps)
            meter.add(self._optimise(batch))
            self.step += 1
            position = self.step % plan.steps_per_epoch  # 0 at the end of an epoch
            if position % every == 0:
                epoch = self.step / plan.steps_per_epoch
                self.rows.append(meter.row(self.step, epoch, learning_rate))
                bar.set_postfix(loss=f"{self.rows[-1]['loss']:.3f}", refresh=False)
                due = time.monotonic() - saved_at > SAVE_EVERY_SECONDS
                if due or position == 0:
                    self._save()
                    saved_at = time.monotonic()
        return self.rows

    def _plan(self, images, seed):
        settings = self.settings
        plan = BatchPlan(len(images), settings["batch_size"], settings["epochs"], seed, self.step)
        log.info(
            "%d steps (%d an epoch), from step %d", plan.steps, plan.steps_per_epoch, self.step
        )
        return plan

    def _set_learning_rate(self, steps):
        factor = poly_factor(self.step, steps, self.settings["poly_power"])
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return self.settings["learning_rate"] * factor

    def _optimise(self, batch):
        batch = {
            key: value.to(self.hardware.device, non_blocking=True) for key, value in batch.items()
        }
        if self.hardware.channels_last:
            batch["image"] = batch["image"].to(memory_format=torch.channels_last)
        with autocast(self.hardware.device, self.settings["precision"]):
            total, losses = self.loss(self.network, batch, self.settings)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        self._clip_gradient()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return {"loss": total.detach(), **{name: value.detach() for name, value in losses.items()}}

    def _clip_gradient(self):
        if self.settings["gradient_clip"] is not None:
            self.scaler.unscale_(self.optimiser)
            trained = (p for group in self.optimiser.param_groups for p in group["params"])
            torch.nn.utils.clip_grad_norm_(trained, self.settings["gradient_clip"])

    def _save(self):
        cuda = self.hardware.device.type == "cuda"
        with atomic_path(self.state_file) as temporary:
            torch.save(
                {
                    "step": self.step,
                    "rows": self.rows,
                    "model": self.network.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "rng": torch.get_rng_state(),
                    "cuda_rng": torch.cuda.get_rng_state() if cuda else None,
                },
                temporary,
            )

    def _restore(self):
        if not self.state_file.exists():
            return
        state = torch.load(self.state_file, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None and self.hardware.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"])
        self.step, self.rows = state["step"], state["rows"]
        log.info("continuing an interrupted run at step %d", self.step)


class _Meter:
    """Means of the losses since the last row; on the device until a row is due."""

    def __init__(self):
        self._sums, self._count = defaultdict(float), 0

    def add(self, losses):
        for name, value in losses.items():
            self._sums[name] = self._sums[name] + value
        self._count += 1

    def row(self, step, epoch, learning_rate):
        means = {name: float(value) / self._count for name, value in self._sums.items()}
        self.__init__()
        if not all(-float("inf") < value < float("inf") for value in means.values()):
            raise InputError(
                f"the loss is not finite at step {step}; lower the learning rate, "
                "or set precision: fp32"
            )
        return {"step": step, "epoch": round(epoch, 4), "learning_rate": learning_rate, **means}


def run_key(*parts):
    """Short hash of configuration and inputs: names the resume folder of a run."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def train(
    network,
    loss,
    settings,
    index,
    seed,
    hardware,
    *,
    long_side,
    output,
    key,
    section,
    pseudo_labels=None,
):
    """Train a network on the train split.

    Args:
        network: `AuxSegNet` with its starting weights.
        loss: `classifier_loss` or `stage_loss`.
        settings: section `classifier` or `stage` of the configuration.
        index: `DatasetIndex`.
        seed: of this run.
        hardware: `Hardware`.
        long_side: see `TrainingImages`.
        output: path of the checkpoint to be; the resume state lies beside it until success.
        key: `run_key` of the run: a state of another configuration is never picked up.
        section: name of the section that `settings` is, for what is wrong in it.
        pseudo_labels: reader, for `stage_loss`.

    Returns:
        rows of the log, and a function that removes the resume state.
    """
    images = TrainingImages(
        index, network.backbone.mean, network.backbone.std, settings, long_side, pseudo_labels
    )
    if len(images) == 0:
        raise InputError("no image in split train; check the lists and labels of the data set")
    _freeze(network.backbone, settings["frozen"], section)
    folder = Path(output).parent / f".resume-{key}"
    rows = Trainer(network, loss, settings, hardware, folder).run(images, seed)
    return rows, lambda: shutil.rmtree(folder, ignore_errors=True)


def _freeze(backbone, names, section):
    """`freeze`; a name that the backbone does not have is an error of the configuration."""
    try:
        freeze(backbone, names)
    except ValueError as error:
        known = listed(name for name, _ in backbone.named_children())
        raise InputError(
            f"{section}.frozen: {error}; known are {known}, and parts of them"
        ) from error


def write_log(path, rows):
    """Losses and learning rate as CSV."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
