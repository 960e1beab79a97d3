"""Sections of the network, and of how it is trained."""

from typing import Annotated, Literal

from pydantic import Field

from wsss.configuration.key_types import (
    PRECISION,
    Crop,
    Fraction,
    InputFile,
    NotNegative,
    Positive,
    Precision,
    Rate,
    Section,
    Text,
)


class Images(Section):
    """photographs before the network sees them"""

    long_side: Annotated[int, Field(ge=64)] | None = Field(
        description="photographs are shrunk to this; null = as they are"
    )


class Backbone(Section):
    """the feature extractor"""

    name: Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "resnet38"] = (
        Field(description="efficientnet_lite0, _lite1, _lite2 or resnet38 (the paper's)")
    )
    output_stride: Literal[8, 16] = Field(description="image pixels per feature, 8 or 16")
    weights: InputFile = Field(description="file of weights that classifier training starts from")


class Network(Section):
    """AuxSegNet and its ablations"""

    design: Literal["paper", "official"] = Field(
        description="paper (as the text says) or official (as released)"
    )
    attention_start: Literal["random", "similarity"] = Field(
        description="affinities start as random (released) or similarity (short training)"
    )
    branches: Literal["seg", "seg_cls", "seg_sal", "all"] = Field(
        "all", description="seg (segmentation only), seg_cls, seg_sal or all"
    )
    affinity: Literal["none", "segmentation", "cross_task_segmentation", "cross_task"] = Field(
        "cross_task", description="none, segmentation, cross_task_segmentation or cross_task"
    )
    decoder_channels: Positive = Field(128, description="channels of each dense branch")


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches of so many images; what is left over waits for another permutation."""
    return max(1, images // batch_size)


class Training(Section):
    """Keys of both trainings."""

    epochs: Positive = Field(description="passes over the training images in a stage")
    least_images: Positive = Field(
        description="fewer images are passed over more often, for as many steps as with so many"
    )
    batch_size: Positive = Field(description="images per step")
    learning_rate: Rate = Field(description="learning rate of the backbone")
    head_multiplier: Rate = Field(description="learning rate of new layers over the backbone's")
    poly_power: NotNegative = Field(description="learning rate x (1 - step / steps) ** power")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(description="momentum of SGD")
    weight_decay: NotNegative = Field(description="weight decay of SGD")
    gradient_clip: Rate | None = Field(description="largest norm of the whole gradient; null = any")
    averaged_steps: Fraction = Field(
        description="the weights are a mean over this share of the steps, the last; 0 = no mean"
    )
    crop: Crop = Field(description="side of the square training crop in pixels")
    flip: bool = Field(description="random horizontal flips")
    colour_jitter: tuple[Fraction, Fraction, Fraction, Annotated[float, Field(ge=0, le=0.5)]] = (
        Field(description="brightness, contrast, saturation, hue")
    )
    frozen: tuple[Text, ...] = Field(description="backbone modules that are not trained, by name")
    precision: Precision = Field("fp32", description=PRECISION)

    def steps_per_epoch(self, images: int) -> int:
        """`steps_per_epoch` with the batches of this training."""
        return steps_per_epoch(images, self.batch_size)

    def passes(self, images: int) -> int:
        """Epochs over so many training images: `epochs`, or more of fewer than `least_images`."""
        seen = self.steps_per_epoch(images) * self.batch_size
        return round(self.epochs * max(seen, self.least_images) / seen)


class Resize(Section):
    """random resizing before the crop"""

    long_side: tuple[Crop, Crop] = Field(description="lowest and highest long side in pixels")


class Classifier(Training):
    """classification training, the source of the CAMs of stage 0"""

    epochs: Annotated[int, Field(ge=0)] = Field(
        description="passes over the training images; 0 = take the classifier of backbone.weights"
    )
    resize: Resize


class LossWeights(Section):
    """weights of the losses of the three tasks"""

    classification: NotNegative = Field(1.0, description="weight of the classification loss")
    saliency: NotNegative = Field(1.0, description="weight of both saliency losses")
    segmentation: NotNegative = Field(1.0, description="weight of both segmentation losses")


class Stage(Training):
    """training of all branches, once a stage"""

    later_learning_rate: Rate | None = Field(
        description="learning rate of stages 1 and later; null = the same"
    )
    random_scale: tuple[Rate, Rate] = Field(description="lowest and highest scale before the crop")
    random_scale_per: Literal["batch", "image"] = Field(
        description="batch (one draw for all its images) or image"
    )
    label_padding: Literal[255, 0] = Field(description="label beyond the image: 255 (ignore) or 0")
    loss_weights: LossWeights = LossWeights()
