"""Training images: against the released code, against decoding alone, and from a camera."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from numpy.random import default_rng
from PIL import Image

from benchmarks.material import Bench
from benchmarks.timing import Row, Way, compare
from model.backbones.resnet38 import ResNet38
from wsss.storage.images import read_image, read_shrunk, shrink
from wsss.training.batches import BatchPlan, TrainingImages, batch_loader

VOC_LABELS = 12_031  # images in the label file that is passed around for VOC
MEAN, STD = ResNet38.mean, ResNet38.std


def rows(bench: Bench) -> Iterator[Row]:
    """Epochs of one process, with the crop of the released code."""
    size, count = bench.size, len(bench.records)
    stage = bench.config.stage.model_copy(update={"crop": size.loader_crop})
    images = TrainingImages(bench.index, MEAN, STD, stage, None, bench.labels)
    plan = BatchPlan(count, size.batch, 1, 0)
    ours = Way(
        "8-bit crops, then a table of normalised values; labels in HDF5",
        lambda: sum(len(batch["labels"]) for batch in batch_loader(images, plan, 0, False)),
        len(plan) * size.batch,
    )
    part, loader = f"training images, crop {size.loader_crop}", PlainLoader(bench)
    says = "the released code: float64, normalised whole; labels in PNG; label file read each batch"
    released = Way(says, loader.epoch, count)
    yield compare(part, "img/s", released, ours, size.rounds)
    decoding = Way(
        "decoding photographs alone",
        lambda: list(map(bench.index.read_image, bench.records)),
        count,
    )
    yield compare(part, "img/s", decoding, ours, size.rounds)
    path, side = bench.folder / "camera.jpg", size.camera[0] // 12
    cv2.imwrite(str(path), cv2.resize(bench.image, size.camera, interpolation=cv2.INTER_CUBIC))
    whole = Way("decoded whole", lambda: shrink(read_image(path), side))
    fraction = Way("decoded at a fraction", lambda: read_shrunk(path, side))
    part = f"a photograph of {size.camera[0]}x{size.camera[1]} at a long side of {side}"
    yield compare(part, "ms", whole, fraction, size.rounds)


class PlainLoader:
    """Batches as the released `tool/exutils.py` makes them: its order of steps, and its types."""

    def __init__(self, bench: Bench):
        self.crop, self.batch_size = bench.size.loader_crop, bench.size.batch
        self.ids = [record.image_id for record in bench.records]
        self.photographs, self.folder = bench.index.root, bench.folder / "plain"
        self.folder.mkdir()
        for image_id in self.ids:
            for name, array in bench.labels.read(image_id).array.items():
                Image.fromarray(array).save(self.folder / f"{image_id}_{name}.png")
        others = [f"2007_{number:06}" for number in range(VOC_LABELS)]
        np.save(
            self.folder / "labels.npy", {i: np.zeros(20, np.float32) for i in others + self.ids}
        )

    def epoch(self) -> None:
        """All images once."""
        for start in range(0, len(self.ids), self.batch_size):
            self.batch(self.ids[start : start + self.batch_size], default_rng(start))

    def batch(self, ids: Sequence[str], rng: np.random.Generator) -> list[torch.Tensor]:
        """Float32 images (B, 3, crop, crop), saliency and segmentation (B, crop, crop); labels."""
        known = np.load(self.folder / "labels.npy", allow_pickle=True).item()
        images = np.zeros((len(ids), self.crop, self.crop, 3))
        shown = np.zeros(images.shape, np.uint8)  # the 8-bit crops, which it makes in any case
        saliency, segmentation = np.zeros((2, len(ids), self.crop, self.crop))
        scale = rng.uniform(0.7, 1.3)
        for number, image_id in enumerate(ids):
            maps = [_scaled(*file, scale) for file in self._files(image_id)]
            if rng.uniform() > 0.5:
                maps = [np.fliplr(values) for values in maps]
            for channel in range(3):
                values = maps[0][:, :, channel]
                maps[0][:, :, channel] = (values / 255.0 - MEAN[channel]) / STD[channel]
            top, left = (int(rng.uniform() * max(0, s - self.crop)) for s in maps[0].shape[:2])
            crops = [values[top:, left:][: self.crop, : self.crop] for values in maps]
            height, width = crops[0].shape[:2]
            images[number, :height, :width] = crops[0]
            for channel in range(3):
                values = images[number, :, :, channel]
                shown[number, :, :, channel] = (values * STD[channel] + MEAN[channel]) * 255.0
            saliency[number, :height, :width] = crops[1] > 0.5
            segmentation[number, :height, :width] = crops[2]
        labels = np.array([known[image_id] for image_id in ids])
        arrays = (images.transpose(0, 3, 1, 2), saliency, segmentation, labels)
        return [torch.from_numpy(array).float() for array in arrays]

    def _files(self, image_id: str) -> Iterator[tuple[np.ndarray, int]]:
        """Image, saliency and segmentation, and how each is resized."""
        image = cv2.imread(str(self.photographs / f"{image_id}.jpg"))
        saliency, segmentation = (
            self.folder / f"{image_id}_{name}.png" for name in ("saliency", "segmentation")
        )
        yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(float), cv2.INTER_LINEAR
        yield cv2.imread(str(saliency), cv2.IMREAD_GRAYSCALE) / 255.0, cv2.INTER_LINEAR
        yield np.asarray(Image.open(segmentation)), cv2.INTER_NEAREST


def _scaled(values: np.ndarray, method: int, scale: float) -> np.ndarray:
    size = (int(values.shape[1] * scale), int(values.shape[0] * scale))
    return cv2.resize(values, size, interpolation=method).astype(float)
