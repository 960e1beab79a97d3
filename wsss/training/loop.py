"""The training of a network, from step to step; of the classifier, and of every stage.

A `Trainer` is one process with one device. What several of them need that share each batch is in
`wsss.training.several_processes`, and what surrounds a training in `wsss.training.run`.
"""

import logging
import math
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from model.auxsegnet import AuxSegNet, AuxSegNetOutput
from model.losses import stage_losses, weighted_sum
from wsss.compute.devices import autocast
from wsss.compute.progress import progress
from wsss.compute.ranks import ALONE, Ranks
from wsss.compute.signals import StopRequest
from wsss.configuration.training_sections import Classifier, LossWeights, Stage
from wsss.errors import InputError, StoppedError
from wsss.training.batches import Batch, BatchPlan, Draw, TrainingImages, batch_loader, batches_of
from wsss.training.resume import ResumeStates
from wsss.training.state import Losses, Row, TrainingState

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
    ranks: Ranks = ALONE

    @property
    def kind(self) -> list[str | int]:
        """What a run's bits depend on: a state of other hardware is not picked up."""
        return [self.device.type, self.ranks.count]


def parameter_groups(
    network: nn.Module, learning_rate: float, head_multiplier: float
) -> list[dict[str, Any]]:
    """Backbone and cross-task attention at the learning rate, heads at a multiple of it."""
    groups: dict[float, list[nn.Parameter]] = {1.0: [], head_multiplier: []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            is_head = not name.startswith("backbone.") and any(h in name for h in HEAD_NAMES)
            groups[head_multiplier if is_head else 1.0].append(parameter)
    return [
        {"params": parameters, "lr": learning_rate * factor, "initial_lr": learning_rate * factor}
        for factor, parameters in groups.items()
        if parameters
    ]


def poly_factor(step: int, steps: int, power: float) -> float:
    """Polynomial decay of the learning rate: (1 - step / steps) ** power."""
    return (1 - step / steps) ** power


class Trainer:
    """The steps of a run, from its saved state if there is one, to the end.

    Args:
        network: with its starting weights, and frozen where it is not to learn.
        settings: section `classifier` or `stage`.
        hardware: where it runs.
        states: where its state is saved; None if it makes single steps only.
    """

    def __init__(
        self,
        network: AuxSegNet,
        settings: Classifier | Stage,
        hardware: Hardware,
        states: ResumeStates | None,
    ):
        self.settings, self.states = settings, states
        self.device, self.workers = hardware.device, hardware.workers
        self.layout = torch.channels_last if hardware.channels_last else torch.preserve_format
        self.network = network.to(self.device, memory_format=self.layout)
        weights = settings.loss_weights if isinstance(settings, Stage) else LossWeights()
        self.loss_weights = dict(weights)
        self.optimiser = torch.optim.SGD(
            parameter_groups(network, settings.learning_rate, settings.head_multiplier),
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "fp16")
        self.average = AveragedModel(self.network) if settings.averaged_steps else None
        parts = {"model": self.network, "optimiser": self.optimiser, "scaler": self.scaler}
        average = {"average": self.average} if self.average else {}
        self.state = TrainingState(parts | average, self.device)
        self.saved_at = time.monotonic()

    def run(self, images: TrainingImages, seed: int) -> list[Row]:
        """Train to the end; returns the rows of the log.

        Raises:
            StoppedError: a signal came; the state after the last whole step is saved.
            InputError: a loss or a weight is not finite; the last good state stays.
        """
        # First of all: of several processes none may still be deaf when another one stops.
        with StopRequest() as request:
            if self.state.restore(self.states):
                log.info("continuing an interrupted run at step %d", self.state.step)
            size, epochs = self.settings.batch_size, self.settings.passes(len(images))
            plan = BatchPlan(len(images), size, epochs, seed, self.state.step)
            steps = (plan.steps, plan.steps_per_epoch, plan.start)
            log.info("%d steps (%d an epoch), from step %d", *steps)
            self.network.train()
            with closing(self.batches(images, plan)) as batches:
                bar = self._bar(batches, plan)
                for batch in bar:
                    self._stop_or_save(request, plan)
                    learning_rate = self._set_learning_rate(plan)
                    self.state.add(self.step(batch))
                    self._average(plan)
                    self._log_and_save(plan, learning_rate, bar)
        if self.average:
            self.network.load_state_dict(self.average.module.state_dict())
        return self.state.rows

    def step(self, batch: Batch) -> Losses:
        """One step of SGD on a batch of `batch_loader`; its losses by name, detached."""
        batch = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        with autocast(self.device, self.settings.precision):
            output = self.forward(batch["image"].to(memory_format=self.layout))
        # In float32: CUDA refuses the cross entropy of probabilities in a mixed precision.
        losses = self.losses(output, batch)
        total = weighted_sum(losses, self.loss_weights)  # equation 8
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        if self.settings.gradient_clip is not None:
            self.scaler.unscale_(self.optimiser)
            trained = (p for group in self.optimiser.param_groups for p in group["params"])
            nn.utils.clip_grad_norm_(trained, self.settings.gradient_clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return {name: loss.detach() for name, loss in {"loss": total, **losses}.items()}

    def forward(self, images: Tensor) -> AuxSegNetOutput:
        """What the network says of normalised images (B, 3, crop, crop)."""
        return self.network(images)

    def losses(self, output: AuxSegNetOutput, batch: Batch) -> Losses:
        """The terms of the paper's equation 8 by name, of which a classifier has the first."""
        return stage_losses(
            output,
            batch["labels"],
            batch.get("segmentation"),
            batch.get("saliency"),
            self.network.design.refine_probabilities,
        )

    def _set_learning_rate(self, plan: BatchPlan) -> float:
        factor = poly_factor(self.state.step, plan.steps, self.settings.poly_power)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return self.settings.learning_rate * factor

    def _average(self, plan: BatchPlan) -> None:
        """After a step: its weights are part of the mean if it is one of the last.

        Stochastic weight averaging (Izmailov et al., UAI 2018), with the schedule as it is.
        """
        left = plan.steps - self.state.step
        if self.average and left < self.settings.averaged_steps * plan.steps:
            self.average.update_parameters(self.network)

    def _log_and_save(self, plan: BatchPlan, learning_rate: float, bar: tqdm) -> None:
        """After a step: a row of the log if it is due, and the state at the end of an epoch."""
        step, rows = self.state.step, self.state.rows
        position = step % plan.steps_per_epoch  # 0 at the end of an epoch
        if position % max(1, plan.steps_per_epoch // LOG_ROWS_PER_EPOCH) == 0:
            epoch = round(step / plan.steps_per_epoch, 4)
            row = {"step": step, "epoch": epoch, "learning_rate": learning_rate}
            rows.append(row | self._mean_losses())
            self.state.recent.clear()
            bar.set_postfix(loss=f"{rows[-1]['loss']:.3f}", refresh=False)
        if position == 0:
            self.save()

    def _mean_losses(self) -> dict[str, float]:
        """Means of the losses since the last row of the log.

        Raises:
            InputError: one of them is not finite.
        """
        recent = self.state.recent
        if not recent:
            return {}
        sums = [sum(values) for values in recent.values()]
        found = self.averaged(torch.stack([*sums, *recent["loss"]])).tolist()
        sums, totals = found[: len(sums)], found[len(sums) :]
        for step, total in enumerate(totals, self.state.step - len(totals) + 1):
            if not math.isfinite(total):
                self._refuse(f"the loss is not finite at step {step}")
        return {name: value / len(totals) for name, value in zip(recent, sums, strict=True)}

    def save(self) -> None:
        """Save the state.

        Raises:
            InputError: a loss or a weight is not finite; the state before stays.
        """
        self._mean_losses()
        if not all(bool(p.isfinite().all()) for p in self.network.parameters()):
            self._refuse(f"a weight is not finite after step {self.state.step}")
        self.state.save(self.states)
        self.saved_at = time.monotonic()

    def _stop_or_save(self, request: StopRequest, plan: BatchPlan) -> None:
        """Before a step: end if a signal has come, and save if that was long ago."""
        due = time.monotonic() - self.saved_at > SAVE_EVERY_SECONDS
        number, due = self.agreed(request.signal or 0, due)
        if number or due:
            self.save()
        if number:
            message = (
                f"stopped by {signal.Signals(number).name} after step {self.state.step} of "
                f"{plan.steps}; its state is saved, and the next run goes on there"
            )
            self.end(StoppedError(message, number))

    def _refuse(self, problem: str) -> None:
        advice = "lower the learning rate, or set precision: fp32"
        self.end(InputError(f"{problem}; {advice}"))

    def _bar(self, batches: Iterator[Batch], plan: BatchPlan) -> tqdm:
        quiet = not log.isEnabledFor(logging.INFO)
        range_ = {"initial": plan.start, "total": plan.steps}
        return progress(batches, desc="steps", unit="step", disable=quiet, **range_)

    # What follows is more than this where several processes train together.

    def batches(self, images: TrainingImages, plan: Iterable[list[Draw]]) -> Iterator[Batch]:
        """The batches of a plan; closing this generator ends the loader's processes."""
        on_gpu = self.device.type == "cuda"
        return batches_of(batch_loader(images, plan, self.workers, on_gpu))

    def agreed(self, signal_number: int, due: int) -> Sequence[int]:
        """The signal to end by (0: none), and whether to save."""
        return signal_number, due

    def averaged(self, losses: Tensor) -> Tensor:
        """Losses of whole batches."""
        return losses

    def end(self, error: Exception) -> NoReturn:
        """Give up."""
        raise error
