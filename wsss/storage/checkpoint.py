"""Checkpoints of this workflow: weights with what is needed to rebuild the network."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.auxsegnet import AuxSegNet
from model.weights import own_names, released_names
from wsss.configuration.training_sections import Backbone
from wsss.errors import InputError, reason_of
from wsss.storage.files import QuietFile, atomic_path
from wsss.storage.seals import check_parts

FORMAT = "auxsegnet-checkpoint-1"


def network_arguments(num_classes: int, backbone: Backbone, **network: Any) -> dict[str, Any]:
    """Arguments of `AuxSegNet`: object classes, and what the configuration says of it."""
    return {
        "num_classes": num_classes,
        "backbone": backbone.name,
        "output_stride": backbone.output_stride,
        **network,
    }


def save_checkpoint(
    path: str | Path,
    network: AuxSegNet,
    arguments: dict[str, Any],
    identity: dict[str, Any],
    parameters: dict[str, Any],
    *,
    sources: dict[str, str] | None = None,
) -> str:
    """Write weights with all that is known about them; returns the digest of the weights.

    Args:
        path: where the file will lie.
        network: with its weights.
        arguments: it was built with these.
        identity: as of an artifact: values for some of `IDENTITY_KEYS`.
        parameters: settings it was trained with.
        sources: name -> digest of what it was trained from.
    """
    state = {
        name: value.detach().cpu().contiguous()
        for name, value in released_names(network.state_dict()).items()
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


def state_digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def read_checkpoint(path: str | Path, **identity: Any) -> dict[str, Any]:
    """A checkpoint as a dict, after comparing it with `identity`.

    Raises:
        InputError: missing, damaged, of another program, or made for something else.
    """
    try:
        check_parts(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; make it with snakemake {path}") from error
    except Exception as error:  # of nearly any kind, for a file of another kind
        reason = reason_of(error)
        if isinstance(error, pickle.UnpicklingError):  # of many lines, and none for a user
            reason = "a file of another kind, or with more in it than weights and settings"
        raise InputError(
            f"{path}: not a readable checkpoint ({reason}); remake it with snakemake -f {path}"
        ) from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise InputError(f"{path}: no checkpoint of this workflow; remake it")
    for key, value in identity.items():
        found = checkpoint["identity"].get(key)
        if found != value:
            raise InputError(
                f"{path}: made for {key} {found!r}, needed is {value!r}; "
                f"remake it with snakemake -f {path}"
            )
    arguments = checkpoint["arguments"]
    if "recipe" in arguments:  # of an older checkpoint: what `design` was called then
        arguments["design"] = arguments.pop("recipe")
    return checkpoint


def load_network(
    path: str | Path, device: torch.device, **identity: Any
) -> tuple[AuxSegNet, dict[str, Any]]:
    """The network of a checkpoint in evaluation mode, and the checkpoint.

    Raises:
        InputError: as `read_checkpoint`, or it holds a network of another version.
    """
    checkpoint = read_checkpoint(path, **identity)
    try:
        with torch.device("meta"):  # no weights are made up that the file has
            network = AuxSegNet(**checkpoint["arguments"])
        network.load_state_dict(own_names(checkpoint["model"]), assign=True)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: a network that this version does not build; "
            f"remake it with snakemake -f {path}"
        ) from error
    return network.to(device).eval(), checkpoint


def load_shared_weights(network: AuxSegNet, path: str | Path, **identity: Any) -> dict[str, Any]:
    """Continue from a checkpoint with other branches: take what both networks have.

    Returns:
        the checkpoint.

    Raises:
        InputError: as `read_checkpoint`, or a backbone weight is missing, or shapes differ.
    """
    checkpoint = read_checkpoint(path, **identity)
    own = released_names(network.state_dict())
    shared = {name: value for name, value in checkpoint["model"].items() if name in own}
    missing = [name for name in own if name.startswith("backbone.") and name not in shared]
    differing = [name for name, value in shared.items() if value.shape != own[name].shape]
    if missing or differing:
        raise InputError(
            f"{path}: not the weights of this network "
            f"({(missing + differing)[0]} is missing or of another shape); remake it"
        )
    network.load_state_dict(own_names(shared), strict=False)
    return checkpoint
