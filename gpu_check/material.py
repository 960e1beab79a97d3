"""What the questions are asked of: settings, networks, photographs with labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch

from gpu_check.size import Size
from model.auxsegnet import AuxSegNet
from model.backbones import freeze
from model.labels import IGNORE
from workflow_scripts.jobs.arguments import given
from workflow_scripts.train_stage import StageTraining
from wsss.configuration.resolve import resolve
from wsss.datasets.index import DatasetIndex, ImageRecord, measured, write_dataset
from wsss.storage.artifacts import ArtifactWriter
from wsss.storage.checkpoint import network_arguments, save_checkpoint
from wsss.storage.files import make_folder
from wsss.storage.image_folders import images_in
from wsss.storage.images import read_image

CLASSES = ("dark", "light")


@dataclass(frozen=True)
class Material:
    """Where a check runs, how much it computes and what on.

    Args:
        device: that is checked.
        size: `FULL` or `MINIATURE`.
        folder: for what is made here; it is filled by `prepare`.
        carried: folder of photographs; None: they are drawn.
    """

    device: torch.device
    size: Size
    folder: Path
    carried: Path | None = None

    @cached_property
    def settings(self) -> StageTraining:
        """What a stage is trained with: by the recipe, but for sizes."""
        data = {"name": "gpu_check", "format": "folder", "root": str(self.folder)}
        sizes = {"crop": self.size.crop, "batch_size": self.size.batch, "epochs": self.size.epochs}
        user = {"dataset": data, "recipe": self.size.recipe, "stages": 1, "stage": sizes}
        config = resolve(user)
        return StageTraining(**{name: getattr(config, name) for name in StageTraining.model_fields})

    @cached_property
    def index(self) -> DatasetIndex:
        """All photographs as a train split."""
        if self.carried:
            files = images_in(self.carried)
            root = self.carried.resolve()
        else:
            root = self.folder.resolve() / "photographs"
            files = draw_photographs(root, self.size.training_images, self.size.photographs[0])
        records = tuple(
            ImageRecord(file.stem, "train", True, file.name, None, 0, 0, CLASSES) for file in files
        )
        return measured(DatasetIndex(root, CLASSES, (1, 2), records))

    @property
    def pseudo_labels(self) -> Path:
        return self.folder / "pseudo_labels.h5"

    @property
    def model(self) -> Path:
        return self.folder / "model.pt"

    def identity(self, **more: str | int) -> dict:
        """Of an artifact of these photographs."""
        of_data = {"dataset": self.folder.name, "index_digest": self.index.digest}
        return of_data | {"classes": list(self.index.classes)} | more

    def prepare(self) -> None:
        """Write index, pseudo labels and a first model, as `train_stage` wants them."""
        write_dataset(self.index, self.folder)
        with ArtifactWriter(
            self.pseudo_labels,
            "pseudo_labels",
            identity=self.identity(variant="gpu_check", seed=0, stage=0, split="train"),
            parameters={},
            sources={},
            expected=[record.image_id for record in self.index.records],
        ) as artifact:
            for record in self.index.records:
                labels = labels_by_brightness(self.index.read_image(record))
                artifact.write(record.image_id, labels)
        arguments = network_arguments(
            len(CLASSES), self.settings.backbone, **given(self.settings.network)
        )
        save_checkpoint(
            self.model, self.network(), arguments, self.identity(seed=0), given(self.settings)
        )

    def network(self, backbone: str | None = None, design: str | None = None) -> AuxSegNet:
        """A network with random weights, always the same; as a stage begins to train it."""
        torch.manual_seed(0)
        network = AuxSegNet(
            len(CLASSES),
            backbone or self.settings.backbone.name,
            design or self.settings.network.design,
            attention_start="similarity",
        )
        if backbone in (None, self.settings.backbone.name):
            freeze(network.backbone, self.settings.stage.frozen)
        return network

    def batch(self, images: int, crop: int) -> dict[str, torch.Tensor]:
        """Noise as `TrainingImages` would give it; in pinned memory for a GPU, as the loader's."""
        generator = torch.Generator().manual_seed(1)
        size = (images, crop, crop)

        def draw(high: int, shape: Sequence[int] = size) -> torch.Tensor:
            return torch.randint(0, high, shape, generator=generator, dtype=torch.uint8)

        batch = {
            "image": torch.randn(images, 3, crop, crop, generator=generator),
            "labels": draw(2, (images, len(CLASSES))).float(),
            "segmentation": draw(len(CLASSES) + 1),
            "saliency": draw(2),
        }
        on_gpu = self.device.type == "cuda"
        return {name: value.pin_memory() if on_gpu else value for name, value in batch.items()}


def draw_photographs(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEG files of a dark and a light ellipse on noise; `size` is (height, width)."""
    make_folder(folder)
    random, files = np.random.default_rng(0), []
    height, width = size
    for number in range(count):
        image = random.normal(128, 20, (height, width, 3))
        for grey in (30.0, 225.0):
            centre = [int(random.uniform(0.2, 0.8) * side) for side in (width, height)]
            axes = [int(random.uniform(0.1, 0.25) * side) for side in (width, height)]
            angle = random.uniform(0, 180)
            cv2.ellipse(image, centre, axes, angle, 0, 360, [grey] * 3, cv2.FILLED)
        files.append(folder / f"drawn{number:03d}.jpg")
        cv2.imwrite(str(files[-1]), np.clip(image, 0, 255).astype(np.uint8))
    return files


def labels_by_brightness(image: np.ndarray) -> dict[str, np.ndarray]:
    """Pseudo labels that any photograph has: its dark parts, its light parts, and 255 between.

    Args:
        image: uint8 RGB (H, W, 3).

    Returns:
        saliency and segmentation, uint8 (H, W), as `make_pseudo_labels` writes them.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 3).astype(int)
    away = grey - int(np.median(grey))
    segmentation = np.zeros(grey.shape, np.uint8)
    segmentation[np.abs(away) > 25] = IGNORE
    segmentation[away < -40] = 1
    segmentation[away > 40] = 2
    saliency = np.where(segmentation == 0, 0, 255).astype(np.uint8)
    return {"saliency": saliency, "segmentation": segmentation}


def photographs(material: Material) -> list[np.ndarray]:
    """uint8 RGB images of the sizes that are predicted: the first training image, resized."""
    first = material.index.records[0]
    image = read_image(material.index.root / first.image)
    return [cv2.resize(image, (width, height)) for height, width in material.size.photographs]
