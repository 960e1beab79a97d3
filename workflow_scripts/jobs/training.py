"""What the commands that train have in common: one process, or one for each of several GPUs."""

import logging
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from workflow_scripts.jobs import arguments
from wsss.compute.devices import prepare_device
from wsss.compute.gpus import claim_gpus
from wsss.compute.ranks import joined, launch, rank_here
from wsss.errors import InputError
from wsss.training.loop import Hardware


def run_training(
    parser: ArgumentParser,
    module: str,
    train: Callable[[Namespace, Hardware], None],
    argv: list[str] | None,
) -> int | None:
    """Parse the command line of a training, and train, on as many GPUs as the job was given.

    Args:
        parser: with the command's own arguments.
        module: of the command.
        train: what each process does.
        argv: the command line; None: that of this process.

    Returns:
        the exit status, None if all is well.
    """
    arguments.add_hardware(parser)
    parser.add_argument("--output", required=True)
    parser.add_argument("--log-csv", required=True)
    args = parser.parse_args(argv)
    status = launched(module, args, argv)
    if status is None:
        with joined_hardware(args) as hardware:
            train(args, hardware)
    return status


def launched(module: str, args: Namespace, argv: list[str] | None) -> int | None:
    """Train on several GPUs, if the job has been given more than one, by a process for each.

    Args:
        module: of this command.
        args: what `argv` (None: the command line) was parsed to.

    Returns:
        the exit status of these processes; None if this one is to train.
    """
    if rank_here().several or args.gpus < 2 or args.device == "cpu":
        return None
    claim_gpus(args.gpus)  # for all of its processes, and before torch looks for them
    if not torch.cuda.is_available():
        return None
    if torch.cuda.device_count() < args.gpus:
        raise InputError(
            f"resources.train.gpu: {args.gpus}, but this job sees {torch.cuda.device_count()}; "
            "set it to what a node has"
        )
    return launch(module, sys.argv[1:] if argv is None else argv, args.gpus)


@contextmanager
def joined_hardware(args: Namespace) -> Iterator[Hardware]:
    """`Hardware` of this process, connected with the others that train along."""
    ranks = rank_here()
    if not ranks.leads:
        logging.getLogger().setLevel(logging.WARNING)
    device = prepare_device(args.device, args.gpus, args.seed, args.threads // ranks.count)
    if device.type == "cuda" and ranks.several:
        device = torch.device("cuda", ranks.number)
        torch.cuda.set_device(device)
    workers = -(-args.workers // ranks.count)
    with joined(device) as connected:
        yield Hardware(device, args.channels_last, workers, connected)
