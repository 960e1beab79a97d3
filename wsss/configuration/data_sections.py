"""Sections of what is learnt from: the data set, and sources of saliency."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wsss.configuration.key_types import (
    ImageFile,
    InputFile,
    Name,
    Positive,
    Rate,
    Section,
    Seed,
    Text,
)


class Counts(Section):
    """ids that each list must have; null = any number"""

    train: Positive | None = Field(None, description="ids in train_list")
    val: Positive | None = Field(None, description="ids in val_list")
    test: Positive | None = Field(None, description="ids in test_list")
    scored: Positive | None = Field(None, description="ids in scored_list")


class Voc(Section):
    """where things are below root, for the format voc"""

    devkit: Text = Field(
        "VOCdevkit/VOC2012", description="the folder with JPEGImages and ImageSets"
    )
    train_list: Text = Field(
        "ImageSets/Segmentation/train_aug.txt",
        description="ids to train on, below devkit or absolute",
    )
    val_list: Text = Field(
        "ImageSets/Segmentation/val.txt", description="ids to validate on, likewise"
    )
    test_list: Text | None = Field(None, description="ids without ground truth; null = none")
    scored_list: Text | None = Field(
        "ImageSets/Segmentation/train.txt",
        description="training ids that are scored; null = all",
    )
    labels: Text = Field(
        "annotations", description="annotations (VOC's XML), or a .csv or .npy file"
    )
    masks: Text | None = Field(
        "SegmentationClass", description="ground truth, below devkit; null = none"
    )
    counts: Counts = Counts()


class Coco(Section):
    """where things are below root, for the format coco"""

    train_images: Text = Field("train2014", description="the folder of training photographs")
    val_images: Text = Field("val2014", description="the folder of validation photographs")
    test_images: Text | None = Field(
        None, description="a folder of photographs that are only predicted; null = none"
    )
    train_annotations: Text = Field(
        "annotations/instances_train2014.json",
        description="COCO's outlines and labels of training images",
    )
    val_annotations: Text = Field(
        "annotations/instances_val2014.json",
        description="the same of validation images; may be the same file",
    )
    train_list: Text | None = Field(
        None, description="a text file of ids or file stems to train on; null = all"
    )
    val_list: Text | None = Field(
        None, description="a text file of ids or file stems to validate on; null = all"
    )
    test_list: Text | None = Field(
        None, description="a text file of file stems to predict; null = all of test_images"
    )
    masks: Literal["smallest_on_top", "annotation_order"] = Field(
        "smallest_on_top",
        description="how outlines become ground truth: smallest_on_top or annotation_order",
    )
    masks_folder: Text = Field("masks", description="where the masks are painted to")
    unannotated: Literal["drop", "keep"] = Field(
        "drop", description="validation images without annotations: drop, or keep as background"
    )


class Folder(Section):
    """where things are below root, for the format folder"""

    images: Text = Field("images", description="the folder of photographs")
    labels: Text = Field(
        "labels.csv",
        description="CSV: image_id,labels (joined by ;) or a 0/1 column a class; folders = the"
        " photographs lie in a folder for each class",
    )
    masks: Text | None = Field(None, description="the folder of ground-truth PNGs; null = none")
    val_list: Text | None = Field(
        None, description="a text file of ids kept for validation; null = none"
    )
    test_list: Text | None = Field(
        None, description="a text file of ids that are only predicted; null = none"
    )


class Demo(Section):
    """the data set that the format demo makes"""

    train_images: Positive = Field(160, description="number of training images")
    val_images: Positive = Field(48, description="number of validation images")
    size: tuple[Annotated[int, Field(ge=64, le=1024)], Annotated[int, Field(ge=64, le=1024)]] = (
        Field((256, 192), description="width and height in pixels")
    )
    seed: Seed = Field(0, description="the seed that the images are made from")


class Dataset(Section):
    """what is segmented"""

    name: Name = Field(description="letters, digits, - and _; names the folder in results/")
    format: Literal["demo", "voc", "coco", "folder"] = Field(
        description="demo (made here), voc (VOCdevkit), coco or folder (images and a CSV)"
    )
    root: Text | None = Field(
        None, description="folder of the data set, may hold $VARIABLES; not for demo"
    )
    classes: Annotated[tuple[Text, ...], Field(min_length=1, max_length=254)] | None = Field(
        None, description="object classes to learn, without background; null = all"
    )
    voc: Voc = Voc()
    coco: Coco = Coco()
    folder: Folder = Folder()
    demo: Demo = Demo()


class UnnamedDataset(Dataset):
    """Section `dataset` as the commands that index it get it: whatever its name, it is the same."""

    name: None = None


class U2netp(Section):
    """settings of the source u2netp"""

    weights: InputFile = Field("weights/u2netp.onnx", description="the ONNX file of U^2-Netp")


class U2net(Section):
    """settings of the source u2net"""

    weights: InputFile = Field(
        "weights/u2net.onnx",
        description="the ONNX file of U^2-Net; make setup WEIGHTS=u2net.onnx fetches it",
    )


class Maps(Section):
    """settings of the source maps"""

    folder: Text | None = Field(None, description="the folder of the maps; may hold $VARIABLES")
    pattern: ImageFile = Field(
        "{image_id}.png", description="a path below folder, such as DSS/{image_id}.png"
    )


class CentrePrior(Section):
    """settings of the source centre_prior, a deliberately weak one"""

    # With 0.17, half of the image is above the threshold of saliency, 0.06.
    spread: Rate = Field(
        0.17, description="standard deviation of the Gaussian, in widths and heights of the image"
    )


class Source(Section):
    """A source of saliency: the settings of the one kind that it is of."""

    u2netp: U2netp | None = None
    u2net: U2net | None = None
    maps: Maps | None = None
    centre_prior: CentrePrior | None = None

    @model_validator(mode="after")
    def _of_one_kind(self):
        if sum(settings is not None for _, settings in self) != 1:
            raise ValueError(f"must have one of {', '.join(SOURCE_KINDS)}")
        return self

    @property
    def kind(self) -> str:
        """The one kind that has settings."""
        return next(kind for kind, settings in self if settings is not None)

    @property
    def settings(self) -> U2netp | U2net | Maps | CentrePrior:
        """The settings of that kind."""
        return getattr(self, self.kind)


SOURCE_KINDS = tuple(Source.model_fields)


def source_key(name: str, kind: str) -> str:
    """Dotted key of the settings of a source; the four that are always there are no `sources`."""
    return f"saliency.{kind}" if name == kind else f"saliency.sources.{name}.{kind}"


class Saliency(Section):
    """off-the-shelf saliency of the training images"""

    source: Name = Field(
        "u2netp",
        description="u2netp, u2net (computed), maps (ready 8-bit PNGs), centre_prior, or the name"
        " of one of sources",
    )
    u2netp: U2netp = U2netp()
    u2net: U2net = U2net()
    maps: Maps = Maps()
    centre_prior: CentrePrior = CentrePrior()
    sources: dict[Name, Source] = Field(
        {}, description="more sources by name, such as {poolnet: {maps: {folder: $POOLNET}}}"
    )

    def named(self, name: str) -> Source:
        """A source by its name: that of a kind, or one of `sources`."""
        return self.sources.get(name) or Source(**{name: getattr(self, name)})
