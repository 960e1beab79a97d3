"""What the commands that look at whole photographs with a network have in common."""

from argparse import Namespace
from typing import Any

from wsss.compute.devices import prepare_device, return_large_memory
from wsss.configuration.key_types import Precision, Scales, Section
from wsss.method.inference import Viewer
from wsss.storage.checkpoint import load_network


class Views(Section):
    """How a network sees a photograph: scales, mirrored or not, and in which precision."""

    scales: Scales
    flip: bool
    long_side: int | None
    precision: Precision


def load_viewer(args: Namespace, **identity: Any) -> tuple[Viewer, str]:
    """A `Viewer` of the network in `args.model`, and the digest of its weights."""
    return_large_memory()
    device = prepare_device(args.device, args.gpus, args.seed, args.threads)
    network, checkpoint = load_network(args.model, device, **identity)
    viewer = Viewer(network, device, args.settings.long_side, args.settings.precision)
    return viewer, checkpoint["digest"]
