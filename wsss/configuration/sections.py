"""The sections of the configuration: each key with its type, range, default and description.

The one home of all four: what users are told of a key (config.yaml, docs/configuration.md, the
JSON schema for editors) is made from here. A field without a default is set by a recipe of
`config/recipes`, or by the user.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator


class Section(BaseModel):
    """Values that do not change, of exactly the types that they are declared with."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


# --- types that several keys share ---------------------------------------------------------------

Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
# A part of file names, and of Snakemake's wildcards.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
# Snakemake takes braces for wildcards of its own.
InputFile = Annotated[Text, StringConstraints(pattern=r"^[^{}]*$")]
# Below a folder: relative, and with the id of the image once.
ImageFile = Annotated[
    Text, StringConstraints(pattern=r"^[^{}/~][^{}]*\{image_id\}[^{}]*$|^\{image_id\}[^{}]*$")
]
# NumPy takes seeds below 2**32, and a stage adds 1000 times its number.
Seed = Annotated[int, Field(ge=0, le=4_000_000_000)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(ge=0.1, le=4)]
Scales = Annotated[tuple[Scale, ...], Field(min_length=1)]
Point = tuple[Fraction, Fraction]
# With a reach of 1.0e-6 pydensecrf writes to memory that is not its own.
Reach = Annotated[float, Field(ge=0.01)]
Crop = Annotated[int, Field(ge=32)]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]

PRECISION = "fp32, tf32 (faster convolutions on GPUs), or mixed with bf16 or fp16"
PATTERN = "path of an image's file in it, with {image_id} for the id"
MIRRORED = "add the mirrored image"


# --- what is learnt from -------------------------------------------------------------------------


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


class Images(Section):
    """photographs before the network sees them"""

    long_side: Annotated[int, Field(ge=64)] | None = Field(
        description="photographs are shrunk to this; null = as they are"
    )


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


# --- the network, and how it is trained ----------------------------------------------------------


class Backbone(Section):
    """the feature extractor"""

    name: Literal["efficientnet_lite0", "resnet38"] = Field(
        description="efficientnet_lite0 (small) or resnet38 (the paper's)"
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


class Training(Section):
    """Keys of both trainings."""

    epochs: Positive = Field(description="passes over the training images in a stage")
    batch_size: Positive = Field(description="images per step")
    learning_rate: Rate = Field(description="learning rate of the backbone")
    head_multiplier: Rate = Field(description="learning rate of new layers over the backbone's")
    poly_power: NotNegative = Field(description="learning rate x (1 - step / steps) ** power")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(description="momentum of SGD")
    weight_decay: NotNegative = Field(description="weight decay of SGD")
    gradient_clip: Rate | None = Field(description="largest norm of the whole gradient; null = any")
    crop: Crop = Field(description="side of the square training crop in pixels")
    flip: bool = Field(description="random horizontal flips")
    colour_jitter: tuple[Fraction, Fraction, Fraction, Annotated[float, Field(ge=0, le=0.5)]] = (
        Field(description="brightness, contrast, saturation, hue")
    )
    frozen: tuple[Text, ...] = Field(description="backbone modules that are not trained, by name")
    precision: Precision = Field("fp32", description=PRECISION)


class Resize(Section):
    """random resizing before the crop"""

    long_side: tuple[Crop, Crop] = Field(description="lowest and highest long side in pixels")


class Classifier(Training):
    """classification training, the source of the CAMs of stage 0"""

    epochs: Annotated[int, Field(ge=0)] = Field(
        description="passes over the training images; 0 = take the classifier of backbone.weights"
    )
    resize: Resize


class CamFiles(Section):
    """settings of the source files (.npy of PSA's or IRN's kind)"""

    folder: Text | None = Field(
        None, description="the folder of the CAM files; may hold $VARIABLES"
    )
    pattern: ImageFile = Field("{image_id}.npy", description=PATTERN)
    normalise: Literal["auto", "always", "never"] = Field(
        "auto",
        description="divide maps by their maxima; auto = those of an image where one exceeds 1",
    )


class Cam(Section):
    """the CAMs of stage 0"""

    source: Literal["classifier", "files"] = Field(
        "classifier", description="classifier, or files (CAMs that another tool made)"
    )
    files: CamFiles = CamFiles()
    scales: Scales = Field(description="image scales that are summed")
    flip: bool = Field(description=MIRRORED)


class Crf(Section):
    """A dense CRF (Krähenbühl and Koltun, 2011): iterations, and two pairwise terms."""

    iterations: Annotated[int, Field(ge=0)] = Field(description="mean-field iterations")
    gaussian_sxy: Reach = Field(description="reach of the smoothness term in pixels")
    gaussian_compat: NotNegative = Field(description="weight of the smoothness term")
    bilateral_sxy: Reach = Field(description="reach of the colour term in pixels")
    bilateral_srgb: Reach = Field(description="colour distance of the colour term")
    bilateral_compat: NotNegative = Field(description="weight of the colour term")
    # Photographs of the benchmarks are smaller.
    long_side: Annotated[int, Field(ge=64)] | None = Field(
        1500, description="longer photographs are shrunk to this for the CRF; null = none are"
    )


# The CRF of DSS (Hou et al., TPAMI 2019), on which the paper's CRF_d rests.
SALIENCY_CRF = Crf(
    iterations=1,
    gaussian_sxy=3,
    gaussian_compat=3,
    bilateral_sxy=60,
    bilateral_srgb=5,
    bilateral_compat=5,
)
# The test CRF of the field, from DeepLab (Chen et al., ICLR 2015).
SEGMENTATION_CRF = Crf(
    iterations=10,
    gaussian_sxy=4,
    gaussian_compat=3,
    bilateral_sxy=83,
    bilateral_srgb=5,
    bilateral_compat=3,
)


class LabelFiles(Section):
    """settings of initial: files (PNGs in the values of the masks)"""

    folder: Text | None = Field(
        None, description="the folder of the label PNGs; may hold $VARIABLES"
    )
    pattern: ImageFile = Field("{image_id}.png", description=PATTERN)


class PseudoLabels(Section):
    """fusion of CAMs and saliency"""

    initial: Literal["fusion", "files"] = Field(
        "fusion", description="labels of stage 0: fusion, or files (another tool's PNGs)"
    )
    files: LabelFiles = LabelFiles()
    corrected: Text | None = Field(
        None,
        description="corrected masks of some training images: a folder of PNGs, a COCO .json or"
        " CVAT's .zip; null = none",
    )
    cam_threshold: Fraction = Field(
        0.2, description="a pixel is an object where its largest CAM is above"
    )
    saliency_threshold: Fraction = Field(
        0.06, description="a pixel is salient where its saliency is above"
    )
    background: Literal["off_the_shelf", "updated"] = Field(
        description="saliency of later stages: off_the_shelf or updated"
    )
    saliency_crf: Crf = Field(
        SALIENCY_CRF, description="dense CRF on the mean of refined and off-the-shelf saliency"
    )


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


class Refinement(Section):
    """refined CAMs and saliency for the next stage"""

    scales: Scales = Field((1.0,), description="image scales that are merged")
    flip: bool = Field(False, description=MIRRORED)


class Prediction(Section):
    """segmentation without image labels"""

    splits: Annotated[tuple[Literal["train", "val", "test"], ...], Field(min_length=1)] = Field(
        ("val",), description="what is predicted, of train, val and test"
    )
    scales: Scales = Field(description="image scales that are merged before the CRF")
    flip: bool = Field(description=MIRRORED)
    merge: Literal["max", "mean"] = Field(description="max or mean over scales")
    crf: Crf = Field(SEGMENTATION_CRF, description="dense CRF on the merged probabilities")


class Evaluation(Section):
    """the scores"""

    ignore_prediction: Literal["miss", "drop", "background"] = Field(
        "miss", description="255 in a pseudo label: miss, drop or background"
    )


# --- what is made for people, and how jobs run ---------------------------------------------------


class Masks(Section):
    """finished files for people, in results/<name>/masks"""

    export: bool = Field(False, description="write a palette PNG and an overlay per image")
    alpha: Fraction = Field(0.5, description="opacity of the colours in the overlay")


class Figures(Section):
    """pictures of chosen images, in results/<name>/figures"""

    images: tuple[Text, ...] = Field(
        (), description="ids of the images to show; none = those that show most classes"
    )
    points: dict[Text, Annotated[tuple[Point, ...], Field(min_length=1, max_length=4)]] = Field(
        {},
        description="points (x, y) by image id, in widths and heights, whose affinity is drawn,"
        " such as {train_0000: [[0.5, 0.4], [0.1, 0.9]]}; none = chosen",
    )


class Gallery(Section):
    """a page to look at images with what all runs made of them, in results/<name>/gallery"""

    images: Positive = Field(
        500, description="images of each split at most, evenly spaced; its size grows with them"
    )
    long_side: Annotated[int, Field(ge=64)] = Field(
        640, description="longer side of its photographs and label maps in pixels, at most"
    )


class Compute(Section):
    """how training and prediction run"""

    channels_last: bool = Field(False, description="memory format for tensor cores")
    workers: Annotated[int, Field(ge=0)] = Field(
        2, description="processes that read images beside the main one"
    )


class Job(Section):
    """What a job asks a cluster for."""

    threads: Positive = Field(description="threads, capped by the cores given to Snakemake")
    mem_mb: Annotated[int, Field(ge=100)] = Field(description="memory in MB")
    runtime: Positive = Field(description="time limit in minutes")


class TrainingJob(Job):
    """What a training asks for."""

    gpu: Annotated[int, Field(ge=0)] = Field(
        description="GPUs of one node that share a training's batches"
    )


class InferenceJob(Job):
    """What a job asks for that runs a trained network."""

    gpu: Literal[0, 1] = Field(description="GPUs that a job asks for, 0 or 1")


class Most(Section):
    """the most that a retry asks for, at two or three times the above"""

    mem_mb: Annotated[int, Field(ge=100)] | None = Field(
        None, description="memory in MB; null = no limit"
    )
    runtime: Positive | None = Field(None, description="minutes; null = no limit")


class Resources(Section):
    """what a job asks a cluster for; never changes a result"""

    train: TrainingJob = Field(
        TrainingJob(threads=8, gpu=1, mem_mb=32000, runtime=1440),
        description="classifier and stage training",
    )
    infer: InferenceJob = Field(
        InferenceJob(threads=4, gpu=1, mem_mb=16000, runtime=240),
        description="saliency, CAMs, refinement and prediction, per shard",
    )
    crf: Job = Field(
        Job(threads=16, mem_mb=16000, runtime=480),
        description="pseudo labels and the test CRF, per shard, without a GPU",
    )
    index: Job = Field(
        Job(threads=16, mem_mb=16000, runtime=240),
        description="the index of the data set, and COCO's masks",
    )
    small: Job = Field(
        Job(threads=1, mem_mb=4000, runtime=60), description="evaluation, tables and figures"
    )
    most: Most = Most()


class Configuration(Section):
    """AuxSegNet workflow"""

    dataset: Dataset
    recipe: str = Field(description="the training values, a file of config/recipes")
    stages: Annotated[int, Field(ge=1, le=5)] = Field(
        description="number of training stages; 5 means stages 0..4"
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = Field(
        (0,), description="training is repeated for each; tables show the mean"
    )
    variants: Annotated[dict[Name, dict], Field(min_length=1)] = Field(
        {"auxsegnet": {}},
        description="named overrides of network, stage, prediction and so on; saliency and"
        " classifier are names",
    )
    classifiers: dict[Name, dict] = Field(
        {"default": {}}, description="named overrides of backbone, classifier, cam, network.design"
    )
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="auto (a GPU if there is one), cuda (else fail) or cpu"
    )
    keep: Literal["all", "final"] = Field(
        "all", description="all, or final (intermediate maps are removed once used)"
    )
    shards: Positive = Field(1, description="files, and so jobs, per artifact and split")
    images: Images
    saliency: Saliency = Saliency()
    backbone: Backbone
    network: Network
    classifier: Classifier
    cam: Cam
    pseudo_labels: PseudoLabels
    stage: Stage
    refinement: Refinement = Refinement()
    prediction: Prediction
    evaluation: Evaluation = Evaluation()
    masks: Masks = Masks()
    figures: Figures = Figures()
    gallery: Gallery = Gallery()
    compute: Compute = Compute()
    resources: Resources = Resources()
