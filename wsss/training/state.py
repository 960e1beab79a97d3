"""What changes while a network is trained, on its way to disk and back to the bit."""

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsss.compute.devices import random_state, set_random_state
from wsss.training.resume import ResumeStates

Losses = dict[str, Tensor]  # scalars; `loss` is their weighted sum
Row = dict[str, int | float]
Part = nn.Module | torch.optim.Optimizer | torch.amp.GradScaler


class TrainingState:
    """A network after `step` steps, with all that the next step depends on, and its log so far.

    Attributes:
        step: optimiser steps made.
        rows: of the log.
        recent: losses of the steps since the last row, by name; on the device until a row is due.

    Args:
        parts: the network and what else is changed by a step, by name.
        device: of the network.
    """

    def __init__(self, parts: Mapping[str, Part], device: torch.device):
        self.parts, self.device = parts, device
        self.step = 0
        self.rows: list[Row] = []
        self.recent: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, losses: Losses) -> None:
        """Count a step."""
        self.step += 1
        for name, value in losses.items():
            self.recent[name].append(value)

    def save(self, states: ResumeStates) -> None:
        """Write it; `own` is what differs between processes that train together."""
        recent = {name: torch.stack(values).cpu() for name, values in self.recent.items()}
        own = {"recent": recent, "random": random_state(self.device)}
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        states.save({"step": self.step, "rows": self.rows, **parts, "own": own})

    def restore(self, states: ResumeStates) -> bool:
        """Take the newest state; returns whether there was one.

        It fits: of `ResumeStates` comes none of another configuration, code or hardware.
        """
        state = states.load()
        if state is None:
            return False
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.step, self.rows = state["step"], state["rows"]
        recent = state["own"]["recent"]
        self.recent.update({name: [*values.to(self.device)] for name, values in recent.items()})
        set_random_state(state["own"]["random"], self.device)
        return True
