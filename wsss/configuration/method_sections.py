"""Sections of what is made of maps: CAMs, CRF, pseudo labels, predictions and scores."""

from typing import Annotated, Literal

from pydantic import Field

from wsss.configuration.key_types import (
    MIRRORED,
    PATTERN,
    Fraction,
    ImageFile,
    NotNegative,
    Reach,
    Scales,
    Section,
    Text,
)


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
    regions: Literal["pixels", "objects"] = Field(
        description="pixels (the paper's: each by itself) or objects (a salient object is labelled"
        " as a whole)"
    )
    object_threshold: Fraction = Field(
        0.5, description="a salient object is where the saliency is above; for regions: objects"
    )
    doubt_threshold: Fraction = Field(
        0.6,
        description="what is not salient is unknown where a CAM is above; for regions: objects",
    )
    background: Literal["off_the_shelf", "updated"] = Field(
        description="saliency of later stages: off_the_shelf or updated"
    )
    saliency_crf: Crf = Field(
        SALIENCY_CRF, description="dense CRF on the mean of refined and off-the-shelf saliency"
    )


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
