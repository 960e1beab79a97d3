"""How much is computed: enough to tell something of a GPU, or a miniature for a machine without."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Numbers of a check.

    Attributes:
        recipe: the training values, a file of config/recipes.
        crop, batch: of the steps that are timed, in pixels and images.
        parity_crop, parity_batch: of the step that is compared with the CPU.
        precisions: of the steps that are timed; on a CPU fp16 takes a minute a step.
        warm_up, steps: before a clock starts, and under it.
        most_images: of a batch; memory ends before on any card of today.
        photographs: (height, width) of what is predicted and, the first, of what is trained on.
        training_images, epochs: of the training job that is killed.
        workers: processes that load images, each number tried.
    """

    recipe: str
    crop: int
    batch: int
    parity_crop: int
    parity_batch: int
    precisions: tuple[str, ...]
    warm_up: int
    steps: int
    most_images: int
    photographs: tuple[tuple[int, int], ...]
    training_images: int
    epochs: int
    workers: tuple[int, ...]


# The paper's setting: ResNet38, crops of 321, batches of 4; photographs as VOC and a camera have.
FULL = Size(
    recipe="paper",
    crop=321,
    batch=4,
    parity_crop=161,
    parity_batch=2,
    precisions=("fp32", "tf32", "bf16", "fp16"),
    warm_up=3,
    steps=10,
    most_images=128,
    photographs=((375, 500), (960, 1280)),
    training_images=80,
    epochs=3,
    workers=(0, 2, 4),
)
# The same questions with EfficientNet-Lite0 and little images: seconds on a CPU.
MINIATURE = Size(
    recipe="demo",
    crop=64,
    batch=2,
    parity_crop=33,
    parity_batch=1,
    precisions=("fp32", "bf16"),
    warm_up=1,
    steps=2,
    most_images=4,
    photographs=((48, 64), (64, 80)),
    training_images=8,
    epochs=3,
    workers=(0, 1),
)
