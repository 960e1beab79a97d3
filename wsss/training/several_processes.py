"""One training by several processes, each with its own device and its share of every batch."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from model.auxsegnet import AuxSegNet, AuxSegNetOutput
from model.labels import IGNORE
from wsss.compute.ranks import Ranks, peers
from wsss.configuration.training_sections import Classifier, Stage
from wsss.training.batches import Batch, Draw, TrainingImages
from wsss.training.loop import Hardware, Trainer
from wsss.training.resume import ResumeStates
from wsss.training.state import Losses

RANK_SEED = 1_000_003  # keeps the random numbers of ranks and of neighbouring seeds apart


class SharedTrainer(Trainer):
    """A `Trainer` that is one of several: each makes the same steps, and has the same weights."""

    def __init__(
        self,
        network: AuxSegNet,
        settings: Classifier | Stage,
        hardware: Hardware,
        states: "SharedStates",
    ):
        super().__init__(network, settings, hardware, states)
        self.ranks = hardware.ranks
        self.shares: dict[str, float] = {}
        if not self.ranks.leads:  # each has another dropout
            torch.manual_seed(torch.initial_seed() + RANK_SEED * self.ranks.number)

    @cached_property
    def parallel(self) -> DistributedDataParallel:
        """The network, whose gradients are means over all ranks; made where all wait for it."""
        # Depthwise weights have more than one way to be laid out; nothing is wrong with that.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view")
        return DistributedDataParallel(
            self.network,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
        )

    def batches(self, images: TrainingImages, plan: Iterable[list[Draw]]) -> Iterator[Batch]:
        """This rank's part of each batch."""
        return super().batches(images, map(self.ranks.part, plan))

    def step(self, batch: Batch) -> Losses:
        """One step on the whole batch; the losses are those of this rank's part of it."""
        here = labelled_counts(batch)
        everywhere = self.ranks.total(torch.tensor(list(here.values()))).tolist()
        # A mean of the ranks' means is that over all labelled pixels if they count by these.
        self.shares = {
            task: here[task] * self.ranks.count / max(1, count)
            for task, count in zip(here, everywhere, strict=True)
        }
        with peers():
            return super().step(batch)

    def forward(self, images: Tensor) -> AuxSegNetOutput:
        return self.parallel(images)

    def losses(self, output: AuxSegNetOutput, batch: Batch) -> Losses:
        losses = super().losses(output, batch)
        return {
            name: loss * self.shares[name.removeprefix("refined_")] for name, loss in losses.items()
        }

    def agreed(self, signal_number: int, due: int) -> Sequence[int]:
        return self.ranks.largest(torch.tensor([signal_number, due])).tolist()

    def averaged(self, losses: Tensor) -> Tensor:
        return self.ranks.total(losses) / self.ranks.count

    def end(self, error: Exception) -> NoReturn:
        self.ranks.end(error)


def labelled_counts(batch: Batch) -> dict[str, int]:
    """What the mean of each task's loss is over, in a batch: images, and labelled pixels."""
    counts = {"classification": len(batch["labels"])}
    for task in ("saliency", "segmentation"):
        if task in batch:
            counts[task] = int((batch[task] != IGNORE).sum())
    return counts


class SharedStates(ResumeStates):
    """States that all ranks save and load together; the leading one has the files."""

    def __init__(self, output: str | Path, key: str, ranks: Ranks):
        super().__init__(output, key)
        self.ranks = ranks

    def save(self, state: dict[str, Any]) -> None:
        own = self.ranks.gather(state["own"])
        if self.ranks.leads:
            super().save(state | {"own": own})

    def load(self) -> dict[str, Any] | None:
        state = self.ranks.spread(super().load() if self.ranks.leads else None)
        return state and state | {"own": state["own"][self.ranks.number]}
