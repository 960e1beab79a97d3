"""Checkpoints of this workflow: weights with what is needed to rebuild the network."""

import hashlib
import pickle

import torch

from model.auxsegnet import AuxSegNet
from wsss.errors import InputError, printable
from wsss.files import QuietFile, atomic_path
from wsss.seals import damaged_part

FORMAT = "auxsegnet-checkpoint-1"
# What building a network raises for arguments that are none.
UNFIT = (RuntimeError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
PARTS = {"arguments": dict, "identity": dict, "parameters": dict, "digest": str, "model": dict}


def network_arguments(num_classes, backbone, network):
    """Arguments of `AuxSegNet` from the configuration's sections `backbone` and `network`."""
    return {
        "num_classes": num_classes,
        "backbone": backbone["name"],
        "output_stride": backbone["output_stride"],
        **network,
    }


def save_checkpoint(path, network, arguments, identity, parameters, *, sources=None):
    """Write weights with all that is known about them; returns the digest of the weights.

    Args:
        path: where the file will lie.
        network: `AuxSegNet`.
        arguments: it was built with these.
        identity: as of an artifact: values for some of `IDENTITY_KEYS`.
        parameters: settings it was trained with.
        sources: name -> digest of what it was trained from.
    """
    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    digest = state_digest(state)
    with atomic_path(path, durable=True) as temporary, QuietFile(temporary, "w+") as file:
        torch.save(
            {
                "format": FORMAT,
                "arguments": arguments,
                "identity": identity,
                "parameters": parameters,
                "sources": sources or {},
                "digest": digest,
                "model": state,
            },
            file,
        )
    return digest


def state_digest(state):
    """SHA-256 over names, types, shapes and values of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def read_checkpoint(path, **identity):
    """A checkpoint as a dict, after comparing it with `identity`.

    Raises:
        InputError: missing, damaged, of another program, or made for something else.
    """
    try:
        damaged = damaged_part(path)
        checkpoint = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; make it with snakemake {path}") from error
    except Exception as error:
        reason = printable((str(error).splitlines() or [type(error).__name__])[0][:120])
        if isinstance(error, pickle.UnpicklingError):  # of many lines, and none for a user
            reason = "a file of another kind, or with more in it than weights and settings"
        raise InputError(
            f"{path}: not a readable checkpoint ({reason}); remake it with snakemake -f {path}"
        ) from error
    if damaged:
        raise InputError(
            f"{path}: damaged since it was written (in {damaged[:60]!r}); "
            f"remake it with snakemake -f {path}"
        )
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise InputError(f"{path}: no checkpoint of this workflow; remake it")
    for key, kind in PARTS.items():
        if not isinstance(checkpoint.get(key), kind):
            raise InputError(
                f"{path}: no checkpoint of this workflow (its {key} is no {kind.__name__}); "
                f"remake it with snakemake -f {path}"
            )
    for key, value in identity.items():
        found = checkpoint["identity"].get(key)
        if found != value:
            raise InputError(
                f"{path}: made for {key} {found!r}, needed is {value!r}; "
                f"remake it with snakemake -f {path}"
            )
    if not _is_whole(checkpoint):
        raise InputError(
            f"{path}: damaged since it was written (its digest differs); "
            f"remake it with snakemake -f {path}"
        )
    return checkpoint


def _is_whole(checkpoint):
    """Whether the weights are those that were saved."""
    try:
        return state_digest(checkpoint["model"]) == checkpoint["digest"]
    except (LookupError, TypeError, AttributeError, RuntimeError):
        return False


def load_network(path, device, **identity):
    """The network of a checkpoint in evaluation mode, and the checkpoint."""
    checkpoint = read_checkpoint(path, **identity)
    try:
        # Without memory until the weights are known to fit: a damaged file may ask for any size.
        with torch.device("meta"):
            network = AuxSegNet(**checkpoint["arguments"])
        _check_types(network, checkpoint["model"])
        network.load_state_dict(checkpoint["model"], assign=True)
    except UNFIT as error:
        raise InputError(
            f"{path}: weights of another network than its settings say; "
            f"remake it with snakemake -f {path}"
        ) from error
    return network.to(device).eval(), checkpoint


def _check_types(network, state):
    """Weights are taken as they are, so they must be of the network's own types."""
    for name, value in network.state_dict().items():
        if state[name].dtype != value.dtype:
            raise TypeError(f"{name} is {state[name].dtype}, not {value.dtype}")


def load_shared_weights(network, path, **identity):
    """Continue from a checkpoint with other branches: take what both networks have.

    Raises:
        InputError: the checkpoint lacks a backbone weight, or shapes differ.
    """
    checkpoint = read_checkpoint(path, **identity)
    own = network.state_dict()
    shared = {name: value for name, value in checkpoint["model"].items() if name in own}
    missing = [name for name in own if name.startswith("backbone.") and name not in shared]
    differing = [name for name, value in shared.items() if value.shape != own[name].shape]
    if missing or differing:
        raise InputError(
            f"{path}: not the weights of this network "
            f"({(missing + differing)[0]} is missing or of another shape); remake it"
        )
    network.load_state_dict(shared, strict=False)
    return checkpoint
