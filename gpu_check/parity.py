"""One step on the device against the same step on the CPU: outputs, losses, gradients."""

from collections.abc import Iterator

import torch

from gpu_check.answers import Answer
from gpu_check.material import Material
from model.auxsegnet import AuxSegNet
from model.backbones import BACKBONES
from model.designs import DESIGNS
from model.losses import stage_losses, weighted_sum
from wsss.compute.devices import autocast
from wsss.method.cam import normalise, refine

# Largest difference over the largest value. Both sides compute in float32 and add in other orders,
# through forty layers; a layer that is wrong differs by far more than a thousandth.
TOLERANCE = 1e-3
MAPS = ("class_logits", "cams", "saliency", "refined_saliency", "segmentation")
OUTPUTS = (*MAPS, "refined_segmentation", "affinity")


def answers(material: Material) -> Iterator[Answer]:
    """Each backbone with the network of the paper and the released one."""
    for backbone in BACKBONES:
        for design in DESIGNS:
            yield from _of_network(material, material.network(backbone, design), backbone, design)


def _of_network(
    material: Material, network: AuxSegNet, backbone: str, design: str
) -> Iterator[Answer]:
    name = f"{backbone}, {design}"
    weights = dict(material.settings.stage.loss_weights)
    batch = material.batch(material.size.parity_batch, material.size.parity_crop)
    on_cpu = _step(network, batch, torch.device("cpu"), weights)
    here = _step(network, batch, material.device, weights)
    differences = {part: _furthest(here[part], on_cpu[part]) for part in on_cpu}
    worst = {part: max(found.values()) for part, found in differences.items()}
    yield Answer(
        f"{name}: {material.device.type} against CPU",
        ", ".join(f"{part} {error:.1e}" for part, error in worst.items()),
        all(error < TOLERANCE for error in worst.values()),
        differences,
    )
    blocks = _blocks_against_whole(network, batch["image"].to(material.device))
    yield Answer(
        f"{name}: affinity in blocks against whole",
        ", ".join(f"{part} {error:.1e}" for part, error in blocks.items()),
        all(error < TOLERANCE for error in blocks.values()),
        blocks,
    )


def _step(network: AuxSegNet, batch: dict, device: torch.device, weights: dict) -> dict:
    """Outputs, losses and gradients by name, on the CPU. Without dropout, which differs by seed."""
    network = network.to(device).eval()
    network.zero_grad(set_to_none=True)
    batch = {name: value.to(device) for name, value in batch.items()}
    with autocast(device, "fp32"):
        output = network(batch["image"])
        losses = stage_losses(
            output,
            batch["labels"],
            batch["segmentation"],
            batch["saliency"],
            network.design.refine_probabilities,
        )
    weighted_sum(losses, weights).backward()
    gradients = {
        name: parameter.grad.cpu()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
    return {
        "outputs": {name: getattr(output, name).detach().cpu() for name in OUTPUTS},
        "losses": {name: loss.detach().cpu() for name, loss in losses.items()},
        "gradients": gradients,
    }


def _furthest(found: dict, expected: dict) -> dict[str, float]:
    return {name: _difference(found[name], expected[name]) for name in expected}


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    scale = expected.abs().max().clamp(min=1e-12)
    return float((found - expected).abs().max() / scale)


@torch.inference_mode()
def _blocks_against_whole(network: AuxSegNet, images: torch.Tensor) -> dict[str, float]:
    """What large photographs take: refined maps and CAMs without a whole affinity."""
    with autocast(images.device, "fp32"):
        whole, blocks = network(images), network(images, affinity="blocks")
    refined = [refine(normalise(whole.cams), output.affinity) for output in (blocks, whole)]
    names = ("refined_saliency", "refined_segmentation")
    return {
        **{name: _difference(getattr(blocks, name), getattr(whole, name)) for name in names},
        "refined CAMs": _difference(*refined),
    }
