"""One step on the device and on the CPU, both against float64: outputs, losses, gradients."""

from collections.abc import Iterator

import torch

from gpu_check.answers import Answer
from gpu_check.material import Material
from model.auxsegnet import AuxSegNet
from model.designs import DESIGNS
from model.losses import stage_losses, weighted_sum
from wsss.compute.devices import autocast
from wsss.method.cam import normalise, refine

# Float32 on a CPU is off float64 itself, by little in the outputs and by some percent in gradients
# deep in a network of many ReLU6. A device that computes rightly is as near as that, within a
# factor, for it adds in another order; a layer that is wrong is off by far more.
FACTOR = 5
ROUNDING = 1e-6
# Largest difference over the largest value of two ways on one device.
TOLERANCE = 1e-3
MAPS = ("class_logits", "cams", "saliency", "refined_saliency", "segmentation")
OUTPUTS = (*MAPS, "refined_segmentation", "affinity")


def answers(material: Material) -> Iterator[Answer]:
    """A backbone of each kind with the network of the paper and the released one."""
    for backbone in ("resnet38", "efficientnet_lite0"):
        for design in DESIGNS:
            yield from _of_network(material, material.network(backbone, design), backbone, design)


def _of_network(
    material: Material, network: AuxSegNet, backbone: str, design: str
) -> Iterator[Answer]:
    name = f"{backbone}, {design}"
    weights = dict(material.settings.stage.loss_weights)
    batch = material.batch(material.size.parity_batch, material.size.parity_crop)
    cpu = torch.device("cpu")
    exact = _step(network, batch, cpu, weights, torch.float64)
    there = _errors(_step(network, batch, cpu, weights), exact)
    here = _errors(_step(network, batch, material.device, weights), exact)
    yield Answer(
        f"{name}: errors of {material.device.type} (of the CPU)",
        ", ".join(f"{part} {here[part]:.1e} ({there[part]:.1e})" for part in exact),
        all(here[part] < FACTOR * there[part] + ROUNDING for part in exact),
        {"here": here, "cpu": there},
    )
    blocks = _blocks_against_whole(network, batch["image"].to(material.device))
    yield Answer(
        f"{name}: affinity in blocks against whole",
        ", ".join(f"{part} {error:.1e}" for part, error in blocks.items()),
        all(error < TOLERANCE for error in blocks.values()),
        blocks,
    )


def _step(
    network: AuxSegNet,
    batch: dict[str, torch.Tensor],
    device: torch.device,
    weights: dict[str, float],
    dtype: torch.dtype = torch.float32,
) -> dict[str, dict[str, torch.Tensor]]:
    """Outputs, losses and gradients by name, on the CPU. Without dropout, which differs by seed."""
    network.zero_grad(set_to_none=True)  # first: `to` would take along gradients already handed out
    network = network.to(device, dtype).eval()
    batch = {
        name: value.to(device, dtype if value.is_floating_point() else None)
        for name, value in batch.items()
    }
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


def _errors(found: dict, exact: dict) -> dict[str, float]:
    """The worst output and loss, each over its own largest value; the worst gradient over that of
    all, for some are zero but for rounding (a constant added to all keys changes no softmax)."""
    steepest = max(float(gradient.abs().max()) for gradient in exact["gradients"].values())
    scales = {"outputs": None, "losses": None, "gradients": steepest}
    return {
        part: max(_difference(found[part][name], exact[part][name], scale) for name in exact[part])
        for part, scale in scales.items()
    }


def _difference(found: torch.Tensor, expected: torch.Tensor, scale: float | None = None) -> float:
    scale = scale or max(float(expected.abs().max()), 1e-12)
    return float((found - expected).abs().max()) / scale


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
