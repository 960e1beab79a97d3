"""What is wrong with a configuration, as lines `dotted.key: what is wrong and what to do`."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from types import UnionType
from typing import Any, get_args

from pydantic import ValidationError

from wsss.configuration.data_sections import SOURCE_KINDS, Saliency
from wsss.configuration.key_types import Section
from wsss.configuration.sections import Configuration
from wsss.errors import InputError, listed, printable

# Names beside which `results/` and `results/<dataset>/` keep their own folders and files.
RESERVED_DATASETS = ("benchmarks", "logs")
RESERVED_VARIANTS = ("classifier", "figures", "masks", "saliency", "submission", "tables")
SHOWN = 3  # problems in one message
LONGEST_SHOWN = 120  # letters of a wrong value
# What a number or a name must be, where pydantic says it in terms of a programming language.
KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a section (indented key: value lines)",
    "model_type": "a section (indented key: value lines)",
    "model_attributes_type": "a section (indented key: value lines)",
}


def refuse(problems: Sequence[str], prefix: str = "") -> None:
    """Raise an InputError of the first few problems, if there are any."""
    if problems:
        raise InputError(printable(listed([prefix + line for line in problems], SHOWN, "; ")))


def problems_of(error: ValidationError) -> list[str]:
    """A line for each error that pydantic found."""
    return [_line(found) for found in error.errors(include_url=False)]


def _line(found: dict) -> str:
    kind, value, context = found["type"], found["input"], found.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{dotted(found['loc'])}: unknown key{suggestion(found['loc'])}"
    if kind == "missing":
        return f"{dotted(found['loc'])}: missing; give it a value"
    if kind == "value_error":
        return f"{dotted(found['loc'])}: {context['error']}"
    if kind in KINDS:
        return f"{dotted(found['loc'])}: {_wrong_kind(kind, value)}"
    if kind == "literal_error":
        choices = context["expected"].replace(" or ", ", ").replace("'", "")
        return f"{dotted(found['loc'])}: must be one of {choices}, not {shown(value)}"
    if kind == "string_pattern_mismatch":
        return f"{dotted(found['loc'])}: {shown(value)} does not fit: {described(found['loc'])}"
    said = re.sub(r"^\w+ should ", "must ", found["msg"])
    return f"{dotted(found['loc'])}: {said}, not {shown(value)}"


def _wrong_kind(kind: str, value: Any) -> str:
    wanted = KINDS[kind]
    if value is None:
        return f"has no value; write {wanted}, or remove the line"
    number = _number_in(value) if "number" in wanted else None
    if number:
        return f"{shown(value)} is text in YAML; write {number}"
    if kind == "string_type":
        return f"must be text, not {shown(value)}; put it in quotes"
    return f"must be {wanted}, not {shown(value)}"


def _number_in(value: Any) -> str | None:
    """How to write a number so that YAML reads it as one (`1e-3` -> `1.0e-3`); else None."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    mantissa, e, exponent = value.strip().lower().partition("e")
    return f"{float(mantissa)}e{int(exponent):+d}" if e else value.strip()


def dotted(path: Sequence[str | int]) -> str:
    """Dotted key of a path of keys and list positions: `cam.scales[1]`."""
    path = [part for part in path if part != "[key]"]  # pydantic's word for the key of a dict
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).lstrip(".")


def suggestion(path: Sequence[str | int]) -> str:
    """` (did you mean x?)` for an unknown key, or the keys of its section."""
    return did_you_mean(str(path[-1]), _section_of(path).model_fields)


def described(path: Sequence[str | int]) -> str:
    """What a key is; for a name that the user gave, what names are like."""
    if path[-1] == "[key]":
        return "a name of letters, digits, - and _, at most 64"
    return _section_of(path).model_fields[path[-1]].description


def _section_of(path: Sequence[str | int]) -> type[Section]:
    found: Any = Configuration
    for part in path[:-1]:
        # What is no section holds some by name: dict[Name, Section].
        found = found.model_fields[part].annotation if _is_section(found) else get_args(found)[1]
        if isinstance(found, UnionType):  # Section | None
            found = get_args(found)[0]
    return found


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean x?)`, or the known names where none is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else f" (known here: {', '.join(known)})"


def shown(value: Any) -> str:
    """A value as it is written in Python, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


# --- values that do not go together ---------------------------------------------------------------


def contradictions(config: Configuration) -> list[str]:
    """Lines on values that are right by themselves."""
    return [
        *_unknown_source(config.saliency),
        *_missing_folders(config),
        *_names_in_use(config),
        *_impossible_networks(config),
        *_uneven_batches(config),
        *_reversed_ranges(config),
    ]


def _unknown_source(saliency: Saliency) -> Iterator[str]:
    known, name = (*SOURCE_KINDS, *saliency.sources), saliency.source
    if name not in known:
        yield f"saliency.source: no source {name!r}{did_you_mean(name, known)}"


def _missing_folders(config: Configuration) -> Iterator[str]:
    dataset, labels = config.dataset, config.pseudo_labels
    if dataset.format != "demo" and dataset.root is None:
        yield f"dataset.root: the format {dataset.format} needs the folder of the data set"
    if config.cam.source == "files" and config.cam.files.folder is None:
        yield "cam.files.folder: the source files needs the folder of the CAM files"
    if labels.initial == "files" and labels.files.folder is None:
        yield "pseudo_labels.files.folder: initial: files needs the folder of the label PNGs"


def _names_in_use(config: Configuration) -> Iterator[str]:
    if config.dataset.name in RESERVED_DATASETS:
        yield f"dataset.name: results/{config.dataset.name} has another use; choose another name"
    if "background" in (config.dataset.classes or ()):
        yield "dataset.classes: background is always there as class 0; leave it out"
    for name in config.variants:
        if name in RESERVED_VARIANTS:
            yield f"variants.{name}: the results folder {name} has another use; rename it"
    for name in config.saliency.sources:
        if name in SOURCE_KINDS:
            yield f"saliency.sources.{name}: the settings of {name} are saliency.{name}; rename it"
    for key, values in {
        "seeds": config.seeds,
        "dataset.classes": config.dataset.classes or (),
        "prediction.splits": config.prediction.splits,
    }.items():
        repeated = [value for i, value in enumerate(values) if value in values[:i]]
        if repeated:
            yield f"{key}: has {repeated[0]!r} more than once"


def _impossible_networks(config: Configuration) -> Iterator[str]:
    network, stages = config.network, config.stages
    if config.backbone.name == "resnet38" and config.backbone.output_stride != 8:
        yield "backbone.output_stride: resnet38 has output stride 8 only"
    if network.affinity.startswith("cross_task") and network.branches not in ("seg_sal", "all"):
        yield (
            f"network.affinity: {network.affinity} needs the saliency branch, which "
            f"network.branches: {network.branches} leaves out; set affinity to segmentation or none"
        )
    if stages > 1 and network.branches != "all":
        yield (
            f"stages: {stages} stages need all branches (refined CAMs and saliency make the labels "
            f"of the next stage), not network.branches: {network.branches}; set stages to 1"
        )
    if stages > 1 and network.affinity == "none":
        yield (
            f"stages: {stages} stages need an affinity (it refines the CAMs that make the labels "
            "of the next stage), but network.affinity is none; set stages to 1"
        )


def _uneven_batches(config: Configuration) -> Iterator[str]:
    gpus = max(1, config.resources.train.gpu)
    for key, section in {"classifier": config.classifier, "stage": config.stage}.items():
        if section.batch_size % gpus:
            yield (
                f"{key}.batch_size: {section.batch_size} images cannot be shared evenly by "
                f"resources.train.gpu: {gpus} GPUs; change one of the two"
            )


def _reversed_ranges(config: Configuration) -> Iterator[str]:
    for key, (low, high) in {
        "classifier.resize.long_side": config.classifier.resize.long_side,
        "stage.random_scale": config.stage.random_scale,
    }.items():
        if low > high:
            yield f"{key}: the first value ({low}) must not exceed the second ({high})"
