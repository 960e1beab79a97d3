"""One training on several processes of a node, a GPU each: who is who, sums, and a common end.

torchrun starts the processes ("ranks"). Rank 0 leads: it alone writes. Sums run over the CPU
(gloo), gradients over the device (NCCL between GPUs).
"""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import torch
from torch import Tensor, distributed

from wsss.errors import InputError

T = TypeVar("T")

PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl
SIGNALS_TO_PASS_ON = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"


@dataclass(frozen=True)
class Ranks:
    """This process among `count` that train together; without torchrun it is alone."""

    number: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes, and says what all have met."""
        return self.number == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    def part(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of the items of a batch: equal parts, in their order."""
        size = len(items) // self.count
        return items[self.number * size : (self.number + 1) * size]

    def total(self, tensor: Tensor) -> Tensor:
        """Sum over all ranks."""
        return _reduced(tensor, distributed.ReduceOp.SUM)

    def largest(self, tensor: Tensor) -> Tensor:
        """Maximum over all ranks of each element."""
        return _reduced(tensor, distributed.ReduceOp.MAX)

    def gather(self, value: T) -> list[T] | None:
        """The values of all ranks, by rank, on the leading one; None on the others."""
        values = [None] * self.count if self.leads else None
        with peers():
            distributed.gather_object(value, values)
        return values

    def spread(self, value: T) -> T:
        """The leading rank's value, on all ranks."""
        values = [value]
        with peers():
            distributed.broadcast_object_list(values)
        return values[0]

    def end(self, error: Exception) -> NoReturn:
        """Raise an error that all ranks have met at the same step; only the leading one says it."""
        if self.leads:
            raise error
        try:  # Who ends first is taken for the culprit, and the others are stopped.
            self.total(torch.zeros(1))
        finally:
            raise SystemExit(1)


ALONE = Ranks()


def _reduced(tensor: Tensor, operation: distributed.ReduceOp) -> Tensor:
    tensor = tensor.clone()
    with peers():
        distributed.all_reduce(tensor, operation)
    return tensor


@contextmanager
def peers() -> Iterator[None]:
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


def rank_here() -> Ranks:
    """`Ranks` of this process, as torchrun says."""
    return Ranks(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """`Ranks` of this process, which trains on a device, while they are connected."""
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


def launch(module: str, arguments: Sequence[str], count: int) -> int:
    """Run `python -m module arguments` as `count` ranks by torchrun; returns the exit status.

    Raises:
        InputError: one of them was ended by a signal.
    """
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
        number, failure = error.get_first_failure()
        return _status(number, failure.exitcode, count)
    return 0


def _status(number: int, exit_code: int, count: int) -> int:
    """Of a failed rank; one that was killed could not say so itself."""
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        raise InputError(
            f"process {number} of {count} of the training was ended by {name}; run it again: "
            "it goes on from its last saved state"
        )
    return exit_code
