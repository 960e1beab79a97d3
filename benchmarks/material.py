"""The demo's images as JPEGs of VOC's size, and what `gpu_check` makes of photographs."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from gpu_check.material import Material
from gpu_check.size import MINIATURE
from model.auxsegnet import AuxSegNet
from model.backbones import freeze
from wsss.configuration.resolve import resolve
from wsss.datasets.demo.build import build
from wsss.storage.artifacts import ArtifactReader


@dataclass(frozen=True)
class Size:
    """How much is timed; sizes of photographs are (width, height)."""

    rounds: int = 5
    slow_rounds: int = 3  # of what takes seconds
    images: int = 48
    photograph: tuple[int, int] = (500, 375)  # as VOC's
    camera: tuple[int, int] = (4000, 3000)
    large: tuple[int, int] = (2000, 1500)  # of the test CRF
    loader_crop: int = 321  # of the released code
    crop: int = 224  # of the recipe `compact`
    batch: int = 4
    updated: int = 4  # images of which the pseudo labels are updated
    matrix: int = 2048  # of a product that shows the machine's limit
    commands: tuple[str, ...] = ("make_pseudo_labels", "segment_crf", "train_stage")
    shards: int = 32  # of a dry run


TINY = Size(1, 1, 4, (72, 64), (720, 640), (96, 64), 65, 64, 2, 2, 64, ("segment_crf",), 2)


class Bench:
    """Photographs with pseudo labels, and networks, by `compact` but for stride and labels.

    Args:
        folder: where files are put.
        size: how much there is.
    """

    def __init__(self, folder: Path, size: Size):
        demo = {"train_images": size.images, "val_images": 1, "size": size.photograph}
        data = {"name": "bench", "format": "demo", "demo": demo}
        self.folder, self.size = folder, size
        # Stride and labels of the released code, which the plain ways are those of.
        released = {
            "backbone": {"output_stride": 8},
            "pseudo_labels": {"regions": "pixels"},
        }
        self.config = resolve({"dataset": data, "recipe": "compact", "stages": 1, **released})
        (folder / "photographs").mkdir()
        self.drawn = build(self.config.dataset, folder / "demo")  # with masks
        for record in self.drawn.split("train"):
            with Image.open(folder / "demo" / record.image) as image:
                image.save(folder / f"photographs/{record.image_id}.jpg", quality=92)
        sizes = {"recipe": "compact", "crop": size.crop, "batch": size.batch}
        cpu = torch.device("cpu")
        self.material = Material(cpu, replace(MINIATURE, **sizes), folder, folder / "photographs")
        self.material.prepare()
        self.index = self.material.index
        self.records = self.index.split("train")
        self.labels = ArtifactReader(self.material.pseudo_labels, "pseudo_labels")
        self.image = self.index.read_image(self.records[0])

    def network(self, plain: bool = False) -> AuxSegNet:
        """For 20 classes, with random weights.

        `plain`: dilated convolutions and the cross-task attention as one writes them.
        """
        torch.manual_seed(0)
        backbone = self.config.backbone
        network = AuxSegNet(20, backbone.name, output_stride=backbone.output_stride)
        freeze(network.backbone, self.config.stage.frozen)
        if plain:
            network.backbone.dilation = "plain"
            network.cross_attention.merge = network.cross_attention.forward
        return network
