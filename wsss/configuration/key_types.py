"""What sections of the configuration are made of: their base, and types that several keys share."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class Section(BaseModel):
    """Values that do not change, of exactly the types that they are declared with."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


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
