"""What changes while a network is trained, on its way to disk and back to the bit."""

from collections import defaultdict

import torch

from wsss.devices import random_state, set_random_state

RANK_SEED = 1_000_003  # keeps the random numbers of ranks and of neighbouring seeds apart


class TrainingState:
    """A network after `step` steps, with all that the next step depends on, and its log so far.

    Attributes:
        step: optimiser steps made.
        rows: of the log, as dicts.
        meter: `LossMeter` of the steps since the last row.

    Args:
        network: with its starting weights, on its device.
        optimiser, scaler: of the network.
        hardware: `Hardware` of the run.
    """

    def __init__(self, network, optimiser, scaler, hardware):
        self.network, self.optimiser, self.scaler = network, optimiser, scaler
        self.device, self.ranks = hardware.device, hardware.ranks
        self.step, self.rows, self.meter = 0, [], LossMeter()

    def save(self, states):
        """Write it, as `ResumeStates`; all ranks take part, and the leading one writes."""
        own = self.ranks.gather(self._own())
        if self.ranks.leads:
            states.save(
                {
                    "step": self.step,
                    "rows": self.rows,
                    "model": self.network.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "ranks": own,
                }
            )

    def restore(self, states):
        """Take the newest state; returns whether there was one.

        It fits: of `ResumeStates` comes none of another configuration, code or number of ranks.
        Without one each rank gets random numbers of its own, from the seed that is set.
        """
        state = self.ranks.spread(states.load() if self.ranks.leads else None)
        if state is None:
            if self.ranks.number > 0:  # each rank has another dropout
                torch.manual_seed(torch.initial_seed() + RANK_SEED * self.ranks.number)
            return False
        self.network.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        own = state["ranks"][self.ranks.number]
        self.meter.load(own["meter"], self.device)
        set_random_state(own["random"], self.device)
        self.step, self.rows = state["step"], state["rows"]
        return True

    def _own(self):
        """What differs between ranks: random numbers, and losses since the last row."""
        return {"meter": self.meter.state(), "random": random_state(self.device)}


class LossMeter:
    """The losses since the last row of the log; on the device until a row is due."""

    def __init__(self):
        self._sums, self._totals = defaultdict(float), []

    clear = __init__

    def add(self, losses):
        """Losses of a step; `loss` is their weighted sum."""
        for name, value in losses.items():
            self._sums[name] = self._sums[name] + value
        self._totals.append(losses["loss"])

    def means(self, ranks):
        """Means by name, and the `loss` of every step, over all ranks' parts of the batches."""
        if not self._totals:
            return {}, []
        values = ranks.total(torch.stack([*self._sums.values(), *self._totals])).tolist()
        sums, totals = values[: len(self._sums)], values[len(self._sums) :]
        return {n: v / len(totals) for n, v in zip(self._sums, sums, strict=True)}, totals

    def state(self):
        """As plain values and tensors on the CPU."""
        return {
            "sums": {name: value.cpu() for name, value in self._sums.items()},
            "totals": [value.cpu() for value in self._totals],
        }

    def load(self, state, device):
        """Put back what `state` returned."""
        self._sums.update({name: value.to(device) for name, value in state["sums"].items()})
        self._totals = [value.to(device) for value in state["totals"]]
