"""One training on several processes of a node, a GPU each: who is who, sums, and a common end.

torchrun starts the processes ("ranks"). Rank 0 leads: it alone writes. Sums run over the CPU
(gloo), gradients over the device (NCCL between GPUs).
"""

import ctypes
import logging
import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

from wsss.errors import InputError

log = logging.getLogger(__name__)

PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl
SIGNALS_TO_PASS_ON = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"


@dataclass(frozen=True)
class Ranks:
    """This process among `count` that train together; without torchrun it is alone."""

    number: int = 0
    count: int = 1

    @property
    def leads(self):
        return self.number == 0

    @property
    def several(self):
        return self.count > 1

    def part(self, items):
        """This rank's part of the items of a batch: equal parts, in their order."""
        size = len(items) // self.count
        return items[self.number * size : (self.number + 1) * size]

    def total(self, tensor):
        """Sum over all ranks."""
        tensor = tensor.clone()
        if self.several:
            with peers():
                distributed.all_reduce(tensor)
        return tensor

    def gather(self, value):
        """The values of all ranks, by rank, on the leading one; None on the others."""
        if not self.several:
            return [value]
        values = [None] * self.count if self.leads else None
        with peers():
            distributed.gather_object(value, values)
        return values

    def spread(self, value):
        """The leading rank's value, on all ranks."""
        if not self.several:
            return value
        values = [value]
        with peers():
            distributed.broadcast_object_list(values)
        return values[0]

    def end(self, error):
        """Raise an error that all ranks have met at the same step; only the leading one says it."""
        if self.leads:
            raise error
        try:  # Who ends first is taken for the culprit, and the others are stopped.
            self.total(torch.zeros(1))
        finally:
            raise SystemExit(1)


ALONE = Ranks()


@contextmanager
def peers():
    """Wherever a rank waits for another one, which may have died: it says so in a line."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, distributed.DistError) or "gloo" in str(error)):
            raise
        raise InputError(
            f"process {distributed.get_rank()} of the training has lost another one "
            f"({str(error).splitlines()[0][:120]})"
        ) from error


def rank_here():
    """`Ranks` of this process, as torchrun says."""
    return Ranks(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


@contextmanager
def joined(device):
    """`Ranks` of this process while they are connected.

    Args:
        device: torch.device that this rank trains on.
    """
    ranks = rank_here()
    if not ranks.several:
        yield ranks
        return
    if sys.platform == "linux":  # If torchrun is killed, its ranks must not go on by themselves.
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    both = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(both if device.type == "cuda" else "gloo")
    yield ranks
    distributed.destroy_process_group()


def launch(module, arguments, count):
    """Run `python -m module arguments` as `count` ranks by torchrun; returns the exit status."""
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each rank sets its own; else there is a warning
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    words = ["--standalone", "--nproc-per-node", str(count)]
    words += ["--signals-to-handle", SIGNALS_TO_PASS_ON, "-m", module, *arguments]
    try:
        torchrun.run(torchrun.parse_args(words))
    except SignalException as error:
        return 128 + error.sigval
    except ChildFailedError as error:
        return _status(*error.get_first_failure(), count)
    return 0


def _status(number, failure, count):
    """Of a failed rank; one that was killed could not say so itself."""
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        raise InputError(
            f"process {number} of {count} of the training was ended by {name}; run it again: "
            "it goes on from its last saved state"
        )
    return failure.exitcode
