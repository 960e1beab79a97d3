"""What a trained network says of whole photographs: CAMs, refined maps, predictions."""

from collections.abc import Sequence

import numpy as np
import torch

from model.auxsegnet import AuxSegNet, AuxSegNetOutput
from wsss.compute.devices import autocast
from wsss.method.cam import normalise, refine, resize
from wsss.storage.images import shrink
from wsss.storage.pixels import normalise_pixels, resize_image, scaled_size

# Above this many tokens the affinity is made in row blocks: 4,096^2 floats are 64 MiB a copy.
FULL_AFFINITY_TOKENS = 4096
# Classes that nowhere exceed this probability and are nowhere the most probable are not stored.
STORED_PROBABILITY = 0.01


class Viewer:
    """Runs a network on views (scale, flip) of an image.

    Args:
        network: `AuxSegNet` in evaluation mode, on `device`.
        device: torch.device.
        long_side: photographs are shrunk to this long side first (None: not).
        precision: a key of `wsss.compute.devices.PRECISIONS`.
    """

    def __init__(
        self,
        network: AuxSegNet,
        device: torch.device,
        long_side: int | None = None,
        precision: str = "fp32",
    ):
        self.network, self.device = network, device
        self.long_side, self.precision = long_side, precision

    def tensor(self, image: np.ndarray, scale: float, flipped: bool) -> torch.Tensor:
        """uint8 RGB (H, W, 3) -> normalised (1, 3, scale * H, scale * W)."""
        image = shrink(image, self.long_side)
        image = resize_image(image, scaled_size(image.shape[:2], scale))
        backbone = self.network.backbone
        pixels = normalise_pixels(image, backbone.mean, backbone.std)
        pixels = pixels[:, ::-1] if flipped else pixels
        # A copy in any case: a mirrored axis of one pixel passes for contiguous, strides reversed.
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy(order="C"))[None]

    @torch.inference_mode()
    def run(
        self, image: np.ndarray, scale: float = 1.0, flipped: bool = False, affinity: bool = True
    ) -> AuxSegNetOutput:
        """`AuxSegNetOutput` of a view, as the network gives it (not un-flipped)."""
        tensor = self.tensor(image, scale, flipped).to(self.device)
        mode = self._affinity_mode(tensor) if affinity else None
        with autocast(self.device, self.precision):
            return self.network(tensor, affinity=mode)

    def _affinity_mode(self, tensor):
        stride = self.network.backbone.stride
        tokens = -(-tensor.shape[-2] // stride) * -(-tensor.shape[-1] // stride)
        return "full" if tokens <= FULL_AFFINITY_TOKENS else "blocks"


def _unflip(maps, flipped):
    return maps.flip(-1) if flipped else maps


def views(scales: Sequence[float], flip: bool) -> list[tuple[float, bool]]:
    """(scale, flipped) pairs."""
    return [
        (scale, flipped) for scale in scales for flipped in ((False, True) if flip else (False,))
    ]


@torch.inference_mode()
def initial_cams(
    viewer: Viewer, image: np.ndarray, keys: Sequence[int], scales: Sequence[float], flip: bool
) -> np.ndarray:
    """Stage-0 CAMs, summed over scales and flips and normalised (PSA, Ahn and Kwak, CVPR 2018).

    Args:
        viewer: of a network with a classifier.
        image: uint8 RGB (H, W, 3).
        keys: ids 0..C-1 of the classes that the image holds; the maps of others are left out.
        scales, flip: views; the first scale decides the grid of the result.

    Returns:
        float16 (K, h, w) in [0, 1).
    """
    total = None
    for scale, flipped in views(scales, flip):
        output = viewer.run(image, scale, flipped, affinity=False)
        cams = _unflip(output.cams.float().cpu(), flipped)[:, list(keys)].clamp(min=0)
        total = cams if total is None else total + resize(cams, total.shape[-2:])
    return _half(normalise(total)[0])


@torch.inference_mode()
def refined_maps(
    viewer: Viewer, image: np.ndarray, keys: Sequence[int], scales: Sequence[float], flip: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """CAMs refined by the cross-task affinity, and refined saliency.

    Paper, section 3.3, and equation 1: normalised CAMs of the same network, propagated by its
    affinity and not normalised again; averaged over the views (one in both recipes).

    Returns:
        float16 (K, h, w), and float16 (h, w) in [0, 1] or None where there is no saliency branch.
    """
    cams, saliency = [], []
    for scale, flipped in views(scales, flip):
        output = viewer.run(image, scale, flipped)
        present = normalise(output.cams.float()[:, list(keys)])
        cams.append(_unflip(refine(present, output.affinity), flipped).float())
        if output.saliency is not None:
            saliency.append(_unflip(saliency_probability(viewer.network, output), flipped))
    return _mean_of_views(cams), _mean_of_views(saliency)[0] if saliency else None


def saliency_probability(network: AuxSegNet, output: AuxSegNetOutput) -> torch.Tensor:
    """The best saliency that the network has, as probability (1, 1, h, w): refined, else plain."""
    if output.refined_saliency is None:
        return output.saliency.float().sigmoid()
    refined = output.refined_saliency.float()
    return refined if network.design.refine_probabilities else refined.sigmoid()


def class_probability(network: AuxSegNet, output: AuxSegNetOutput) -> torch.Tensor:
    """The best segmentation that the network has, as probabilities (1, C + 1, h, w)."""
    if output.refined_segmentation is None:
        return output.segmentation.float().softmax(dim=1)
    refined = output.refined_segmentation.float()
    return refined if network.design.refine_probabilities else refined.softmax(dim=1)


@torch.inference_mode()
def predict(
    viewer: Viewer, image: np.ndarray, scales: Sequence[float], flip: bool, merge: str
) -> tuple[dict[str, np.ndarray], list[int]]:
    """Segmentation of an image; image-level labels are not used.

    Args:
        viewer: `Viewer`.
        image: uint8 RGB (H, W, 3).
        scales, flip: views that are merged.
        merge: how, see `merge_views`.

    Returns:
        dict with `unrefined` and (where there is an affinity) `refined`, uint8 label maps (H, W)
        of the plain view (scale 1, no flip), and `probabilities`, float16 (K, h, w), merged over
        the configured views on the feature grid of scale 1; and what the maps of the
        latter are of, as in label maps: 0 is background (CAMs count their classes without it).
    """
    size = image.shape[:2]
    plain = viewer.run(image)
    arrays = {"unrefined": label_map(plain.segmentation, size)}
    if plain.refined_segmentation is not None:
        arrays["refined"] = label_map(plain.refined_segmentation, size)
    merged = merge_views(viewer, image, plain, scales, flip, merge)
    arrays["probabilities"], labels = sparse_probabilities(merged)
    return arrays, labels


def label_map(scores: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Argmax of scores (1, K, h, w), up-sampled to (height, width); uint8."""
    return resize(scores.float(), size)[0].argmax(dim=0).to(torch.uint8).cpu().numpy()


def merge_views(
    viewer: Viewer,
    image: np.ndarray,
    plain: AuxSegNetOutput,
    scales: Sequence[float],
    flip: bool,
    merge: str,
) -> np.ndarray:
    """Class probabilities merged over scales and flips, float32 (C + 1, h, w), summing to 1.

    `max` is what the released sibling code does, `mean` the other convention in the field.
    """
    grid = plain.segmentation.shape[-2:]
    maps = []
    for scale, flipped in views(scales, flip):
        output = plain if (scale, flipped) == (1.0, False) else viewer.run(image, scale, flipped)
        maps.append(resize(_unflip(class_probability(viewer.network, output), flipped), grid))
    stack = torch.stack(maps)
    merged = (stack.amax(dim=0) if merge == "max" else stack.mean(dim=0))[0]
    return (merged / merged.sum(dim=0, keepdim=True)).cpu().numpy()


def sparse_probabilities(probabilities: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Keep background and the classes that matter, as probabilities among these.

    What the others have is shared out in proportion: of 80 classes with half a percent each,
    background would win everything if it went there.

    Returns:
        float16 (K, h, w), and what they are of, ascending: 0 is background.
    """
    peaks = probabilities.reshape(len(probabilities), -1).max(axis=1)
    above = np.flatnonzero(peaks > STORED_PROBABILITY)
    kept = np.union1d([0], np.union1d(above, probabilities.argmax(axis=0)))
    sparse = probabilities[kept]
    return (sparse / sparse.sum(axis=0)).astype(np.float16), kept.tolist()


def _mean_of_views(maps):
    """Mean of maps (1, K, h, w) on the grid of the first: float16 (K, h, w)."""
    size = maps[0].shape[-2:]
    return _half(torch.stack([resize(m, size) for m in maps]).mean(dim=0)[0])


def _half(maps):
    return maps.cpu().numpy().astype(np.float16)
