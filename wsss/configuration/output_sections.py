"""Sections of what is made for people, and of how jobs run. None of them changes a result."""

from typing import Annotated, Literal

from pydantic import Field

from wsss.configuration.key_types import Fraction, Point, Positive, Section, Text


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
