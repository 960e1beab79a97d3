"""What the commands that look at whole photographs with a network have in common."""

from wsss.checkpoint import load_network
from wsss.devices import prepare_device, return_large_memory
from wsss.inference import Viewer


def load_viewer(args, **identity):
    """A `Viewer` of the network in `args.model`, and the digest of its weights."""
    return_large_memory()
    device = prepare_device(args.device, args.gpus, args.seed, args.threads)
    network, checkpoint = load_network(args.model, device, **identity)
    viewer = Viewer(network, device, args.settings["long_side"], args.settings["precision"])
    return viewer, checkpoint["digest"]
