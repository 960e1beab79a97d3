"""The training loop, for the classifier and for every stage; resumable to the bit."""

import csv
import hashlib
import json
import logging
import math
import signal
import time
import warnings
from contextlib import closing
from dataclasses import dataclass

import torch
from torch.nn.parallel import DistributedDataParallel

from model.backbones import freeze
from model.labels import IGNORE
from model.losses import classification_loss, stage_losses, weighted_sum
from wsss.artifacts import installed_versions
from wsss.batches import BatchPlan, TrainingImages, batch_loader, batches_of
from wsss.devices import autocast
from wsss.errors import InputError, StoppedError, listed
from wsss.files import atomic_path
from wsss.progress import progress
from wsss.ranks import ALONE, Ranks, peers
from wsss.resume import ResumeStates
from wsss.signals import StopRequest
from wsss.training_state import TrainingState

log = logging.getLogger(__name__)

SAVE_EVERY_SECONDS = 600
LOG_ROWS_PER_EPOCH = 10
LOG_COLUMNS = ("step", "epoch", "learning_rate", "loss")  # of every log; each has more losses
# Released code: these parameters learn `head_multiplier` times as fast as the rest.
HEAD_NAMES = ("seg", "sal", "fc8")


@dataclass(frozen=True)
class Hardware:
    """Where and how the loop runs; nothing here is a setting of the method."""

    device: torch.device
    channels_last: bool = False
    workers: int = 0
    ranks: Ranks = ALONE

    @property
    def kind(self):
        """What a run's bits depend on: a state of other hardware is not picked up."""
        return [self.device.type, self.ranks.count]


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


def classifier_loss(network, batch, settings, shares=None):
    """Losses of the classification pre-training; see `stage_loss`."""
    logits = network(batch["image"], affinity=None).class_logits
    losses = {"classification": classification_loss(logits, batch["labels"])}
    losses = _shared(losses, shares)
    return losses["classification"], losses


def stage_loss(network, batch, settings, shares=None):
    """Losses of a stage (paper, equation 8): their weighted sum, and each by name.

    Where several processes share a batch, each term is this process's part of the mean over the
    whole batch: `shares` has, by task, the share of the labelled pixels (or images) that are here.
    """
    design = getattr(network, "module", network).design
    losses = stage_losses(
        network(batch["image"]),
        batch["labels"],
        batch["segmentation"],
        batch["saliency"],
        design.refine_probabilities,
    )
    losses = _shared(losses, shares)
    return weighted_sum(losses, settings["loss_weights"]), losses


def _shared(losses, shares):
    if shares is None:
        return losses
    return {name: loss * shares[name.removeprefix("refined_")] for name, loss in losses.items()}


def labelled_counts(batch):
    """What the mean of each task's loss is over, in a batch: images, and labelled pixels."""
    counts = {"classification": len(batch["labels"])}
    for task in ("saliency", "segmentation"):
        if task in batch:
            counts[task] = int((batch[task] != IGNORE).sum())
    return counts


class Trainer:
    """The steps of a run, from its saved state if there is one, to the end.

    Args:
        network: with its starting weights, and frozen where it is not to learn.
        loss: `classifier_loss` or `stage_loss`.
        settings: section `classifier` or `stage`.
        hardware: `Hardware`.
        states: `ResumeStates`.
    """

    def __init__(self, network, loss, settings, hardware, states):
        self.network = network.to(hardware.device)
        if hardware.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.loss, self.settings, self.hardware, self.states = loss, settings, hardware, states
        self.ranks = hardware.ranks
        self.optimiser = torch.optim.SGD(
            parameter_groups(network, settings["learning_rate"], settings["head_multiplier"]),
            momentum=settings["momentum"],
            weight_decay=settings["weight_decay"],
        )
        self.scaler = torch.amp.GradScaler(
            hardware.device.type, enabled=settings["precision"] == "fp16"
        )
        self.state = TrainingState(self.network, self.optimiser, self.scaler, hardware)
        self.saved_at = time.monotonic()

    def run(self, images, seed):
        """Train to the end; returns the rows of the log.

        Raises:
            StoppedError: a signal came; the state after the last whole step is saved.
            InputError: a loss or a weight is not finite; the last good state stays.
        """
        # From before the ranks meet: none of them may still be deaf when another one stops.
        with StopRequest() as request:
            if self.state.restore(self.states):
                log.info("continuing an interrupted run at step %d", self.state.step)
            self._steps(self._parallel(), images, self._plan(images, seed), request)
        return self.state.rows

    def _steps(self, network, images, plan, request):
        every = max(1, plan.steps_per_epoch // LOG_ROWS_PER_EPOCH)
        network.train()
        with closing(self._batches(images, plan)) as batches:
            bar = progress(
                batches,
                initial=self.state.step,
                total=plan.steps,
                desc="steps",
                unit="step",
                disable=not self.ranks.leads,
            )
            for batch in bar:
                shares = self._agree(batch, request, plan.steps)
                learning_rate = self._set_learning_rate(plan.steps)
                self.state.meter.add(self.optimise(network, batch, shares))
                self.state.step += 1
                position = self.state.step % plan.steps_per_epoch  # 0 at the end of an epoch
                if position % every == 0:
                    self._add_row(self.state.step / plan.steps_per_epoch, learning_rate)
                    bar.set_postfix(loss=f"{self.state.rows[-1]['loss']:.3f}", refresh=False)
                if position == 0:
                    self._save()

    def _parallel(self):
        """The network, with gradients that are means over all ranks."""
        if not self.ranks.several:
            return self.network
        # Depthwise weights have more than one way to be laid out; nothing is wrong with that.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view")
        devices = [self.hardware.device] if self.hardware.device.type == "cuda" else None
        return DistributedDataParallel(
            self.network,
            device_ids=devices,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
        )

    def _plan(self, images, seed):
        settings = self.settings
        plan = BatchPlan(
            len(images),
            settings["batch_size"],
            settings["epochs"],
            seed,
            self.state.step,
            self.ranks.part,
        )
        steps = (plan.steps, plan.steps_per_epoch, plan.start)
        log.info("%d steps (%d an epoch), from step %d", *steps)
        return plan

    def _batches(self, images, plan):
        """Closing this generator ends the loader's processes."""
        on_gpu = self.hardware.device.type == "cuda"
        yield from batches_of(batch_loader(images, plan, self.hardware.workers, on_gpu))

    def _agree(self, batch, request, steps):
        """What all ranks must know before a step: stop, save, and the whole batch's counts."""
        due = time.monotonic() - self.saved_at > SAVE_EVERY_SECONDS
        mine = labelled_counts(batch) if self.ranks.several else {}
        here = [request.signal is not None, due, *mine.values()]
        stop, due, *counts = self.ranks.total(torch.tensor(here, dtype=torch.int64)).tolist()
        if stop:
            self._stop(request.signal, steps)
        if due:
            self._save()
        if self.ranks.several:
            # A mean of the ranks' means would not be that over all labelled pixels.
            return {task: mine[task] / max(1, n) for task, n in zip(mine, counts, strict=True)}
        return None

    def _stop(self, number, steps):
        self._save()
        name = "a signal" if number is None else number.name
        message = (
            f"stopped by {name} after step {self.state.step} of {steps}; "
            "its state is saved, and the next run goes on there"
        )
        self.ranks.end(StoppedError(message, number or signal.SIGTERM))

    def _set_learning_rate(self, steps):
        factor = poly_factor(self.state.step, steps, self.settings["poly_power"])
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return self.settings["learning_rate"] * factor

    def optimise(self, network, batch, shares=None):
        """One step of the optimiser; the detached losses by name.

        Args:
            network: this trainer's, wrapped where several processes train together.
            batch: of `batch_loader`.
            shares: see `stage_loss`.
        """
        batch = {
            key: value.to(self.hardware.device, non_blocking=True) for key, value in batch.items()
        }
        if self.hardware.channels_last:
            batch["image"] = batch["image"].to(memory_format=torch.channels_last)
        with autocast(self.hardware.device, self.settings["precision"]):
            total, losses = self.loss(network, batch, self.settings, shares)
        self.optimiser.zero_grad(set_to_none=True)
        # Gradients are averaged over the ranks; the loss is their sum.
        with peers():
            self.scaler.scale(total if shares is None else total * self.ranks.count).backward()
        self._clip_gradient()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return {"loss": total.detach(), **{name: value.detach() for name, value in losses.items()}}

    def _clip_gradient(self):
        if self.settings["gradient_clip"] is not None:
            self.scaler.unscale_(self.optimiser)
            trained = (p for group in self.optimiser.param_groups for p in group["params"])
            torch.nn.utils.clip_grad_norm_(trained, self.settings["gradient_clip"])

    def _add_row(self, epoch, learning_rate):
        means = self._means()
        row = {"step": self.state.step, "epoch": round(epoch, 4), "learning_rate": learning_rate}
        self.state.rows.append(row | means)
        self.state.meter.clear()

    def _means(self):
        """Means of the losses since the last row.

        Raises:
            InputError: one of them is not finite.
        """
        means, totals = self.state.meter.means(self.ranks)
        for i, total in enumerate(totals):
            if not math.isfinite(total):
                step = self.state.step - len(totals) + i + 1
                self._refuse(f"the loss is not finite at step {step}")
        return means

    def _refuse(self, problem):
        advice = "lower the learning rate, or set precision: fp32"
        self.ranks.end(InputError(f"{problem}; {advice}"))

    def _save(self):
        """Save the state, unless there is something wrong with it."""
        self._means()
        if not all(bool(p.isfinite().all()) for p in self.network.parameters()):
            self._refuse(f"a weight is not finite after step {self.state.step}")
        self.state.save(self.states)
        self.saved_at = time.monotonic()


def run_key(*parts, code):
    """Short hash of all that a run's weights follow from: names its resume folder.

    Weights of which some steps were made by other code belong to neither version.

    Args:
        parts: configuration and inputs (JSON-able).
        code: digest of the source files that the command uses.
    """
    everything = [*parts, code, installed_versions()]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:16]


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
    if settings["batch_size"] % hardware.ranks.count:
        raise InputError(
            f"{section}.batch_size: {settings['batch_size']} images cannot be shared evenly by "
            f"{hardware.ranks.count} GPUs (resources.train.gpu); change one of the two"
        )
    _freeze(network.backbone, settings["frozen"], section)
    states = ResumeStates(output, key)
    rows = Trainer(network, loss, settings, hardware, states).run(images, seed)
    return rows, states.remove


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
    """Losses and learning rate as CSV; a run of no steps has a header and no rows."""
    with (
        atomic_path(path, durable=True) as temporary,
        open(temporary, "w", newline="") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=rows[0] if rows else LOG_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
