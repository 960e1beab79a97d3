"""The configuration of a run: schema defaults < recipe < the user's files.

Every value has one home. Method and machine settings have their default in `config/schema.yaml`;
what a training recipe decides has none there and stands in every file of `config/recipes`.
"""

import difflib
import math
import os
import re
from functools import cache
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, validators

from wsss.errors import InputError, listed, printable
from wsss.yaml_files import read_yaml, refuse_tangles

CONFIG_FOLDER = Path(__file__).resolve().parents[1] / "config"
VARIANT_SECTIONS = (
    "network",
    "pseudo_labels",
    "stage",
    "refinement",
    "prediction",
    "evaluation",
    "stages",
)
VOC_FILES = ("train_list", "val_list", "test_list", "scored_list", "labels")
# Names beside which `results/` and `results/<dataset>/` keep their own folders and files.
RESERVED_DATASETS = ("benchmarks", "logs")
RESERVED_VARIANTS = ("classifier", "figures", "masks", "saliency", "submission", "tables")
LONGEST_SHOWN = 120  # letters of a wrong value in a message
TYPE_NAMES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "a section (indented key: value lines)",
    "string": "text",
}


def load(paths):
    """Merge configuration files in order, later ones over earlier ones, and `resolve` them.

    Raises:
        InputError: a file that cannot be read, or whatever `resolve` finds wrong.
    """
    user = {}
    for path in paths:
        user = merge(user, read_yaml(path))
    return resolve(user)


def resolve(user):
    """Complete and check a configuration.

    Args:
        user: what the user set, as nested mappings (the merged configuration files).

    Returns:
        The whole configuration as plain nested dicts: every key of the schema is there, `$NAME`
        and `~` in paths are expanded. The argument is left as it was.

    Raises:
        InputError: one line that names the dotted keys that are wrong, and the remedy.
    """
    refuse_tangles(user)
    schema = read_schema()
    defaults = schema_defaults(schema)
    if "variants" in user:  # a list of variants replaces the default one
        del defaults["variants"]
    config = merge(merge(defaults, read_recipe(user.get("recipe"))), user)
    _refuse_problems(config)
    config = _expand_paths(config)
    _refuse_problems(config)  # of what the variables held
    for variant in config["variants"]:
        _expand_label_files(config, variant)
    return config


def variant_config(config, variant):
    """Return the configuration of one variant: its overrides merged into a resolved `config`.

    Raises:
        InputError: no such variant, an override of what variants share, or a value that is wrong;
            keys are named as `variants.<variant>.<key>`.
    """
    if variant not in config["variants"]:
        raise InputError(f"variants: no variant {variant!r} (known: {listed(config['variants'])})")
    overrides = config["variants"][variant]
    known = read_schema()["properties"]
    for key in overrides:
        if key in known and key not in VARIANT_SECTIONS:
            raise InputError(
                f"variants.{variant}.{key}: a variant cannot change this, since variants share one "
                f"data set, saliency, classifier and CAMs; it may set {', '.join(VARIANT_SECTIONS)}"
            )
    merged = merge(config, overrides)
    _refuse_problems(merged, prefix=f"variants.{variant}.")
    return merged


def merge(base, overlay):
    """Return `overlay` over `base` as new plain dicts; mappings merge, all else replaces."""
    merged = {key: _copy(value) for key, value in base.items()}
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else _copy(value)
    return merged


def _copy(value):
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


# --- files -------------------------------------------------------------------------------------


@cache
def read_schema():
    """The JSON schema of the configuration (shared: not to be changed)."""
    return yaml.safe_load((CONFIG_FOLDER / "schema.yaml").read_text(encoding="utf-8"))


def recipe_names():
    """Names of the recipes: the files of `config/recipes`."""
    return sorted(path.stem for path in (CONFIG_FOLDER / "recipes").glob("*.yaml"))


def read_recipe(name):
    """The values of a recipe.

    Raises:
        InputError: no such recipe.
    """
    names = recipe_names()
    if name is None:
        raise InputError(f"recipe: missing; choose one of {', '.join(names)}")
    if name not in names:
        raise InputError(f"recipe: there is no {name!r}{_suggest(name, names)}")
    return read_yaml(CONFIG_FOLDER / "recipes" / f"{name}.yaml")


def schema_defaults(schema):
    """Nested defaults of an object schema; keys without a default are left out."""
    defaults = {}
    for key, part in schema["properties"].items():
        if "default" in part:
            defaults[key] = _copy(part["default"])
        elif "properties" in part:
            defaults[key] = schema_defaults(part)
    return defaults


# --- paths -------------------------------------------------------------------------------------


def _expand_paths(config):
    """Expand `~` and environment variables in the paths that this configuration uses."""
    config = merge({}, config)
    source = config["saliency"]["source"]
    _expand(config["dataset"], "dataset.root")
    if config["dataset"]["format"] == "voc":
        for key in VOC_FILES:  # expanded by who reads them; here, to hear of a slip at once
            _expand(dict(config["dataset"]["voc"]), f"dataset.voc.{key}")
    _expand(config["backbone"], "backbone.weights")
    for key in config["saliency"][source]:
        _expand(config["saliency"][source], f"saliency.{source}.{key}")
    if config["cam"]["source"] == "files":
        _expand(config["cam"]["files"], "cam.files.folder")
    if config["pseudo_labels"]["initial"] == "files":
        _expand(config["pseudo_labels"]["files"], "pseudo_labels.files.folder")
    return config


def _expand_label_files(config, variant):
    """The same for a variant's pseudo labels, in place; the variant is checked with it."""
    section = variant_config(config, variant)["pseudo_labels"]
    before = section["files"]["folder"]
    if section["initial"] == "files":
        _expand(section["files"], f"variants.{variant}.pseudo_labels.files.folder")
    if section["files"]["folder"] != before:
        change = {"pseudo_labels": {"files": section["files"]}}
        config["variants"][variant] = merge(config["variants"][variant], change)


def _expand(section, dotted):
    def value_of(match):
        name = match[1] or match[2]
        if not os.environ.get(name):
            raise InputError(
                f"{dotted}: the environment variable {name} is not set; "
                f"export {name}=/path/to/folder, or write the path into the configuration"
            )
        return os.environ[name]

    key = dotted.rpartition(".")[2]
    if isinstance(section[key], str):
        variable = r"\$(?:(\w+)|\{(\w+)\})"
        section[key] = os.path.expanduser(re.sub(variable, value_of, section[key]))


# --- checks ------------------------------------------------------------------------------------


def _is_integer(_checker, value):
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(checker, value):
    return _is_integer(checker, value) or (isinstance(value, float) and math.isfinite(value))


_Validator = validators.extend(
    Draft202012Validator,
    # 4.0 is no number of epochs, and nothing is compared with "not a number"
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": _is_integer, "number": _is_number}
    ),
)


def _refuse_problems(config, prefix=""):
    """Raise an InputError that names the first few problems of a merged configuration."""
    errors = sorted(
        _Validator(read_schema()).iter_errors(config),
        key=lambda error: [str(part) for part in error.absolute_path],
    )
    problems = [problem for error in errors for problem in _schema_problems(error)]
    problems = list(dict.fromkeys(problems)) or _contradictions(config)
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        line = "; ".join(prefix + problem for problem in problems[:3]) + more
        raise InputError(printable(line))


def _contradictions(config):
    """Lines on values that do not go together, which no schema can say: `dotted.key: problem`."""
    return [*_data_contradictions(config), *_method_contradictions(config)]


def _data_contradictions(config):
    dataset, saliency = config["dataset"], config["saliency"]
    if dataset["format"] != "demo" and dataset["root"] is None:
        yield f"dataset.root: the format {dataset['format']} needs the folder of the data set"
    if dataset["name"] in RESERVED_DATASETS:
        yield f"dataset.name: results/{dataset['name']} has another use; choose another name"
    if "background" in (dataset["classes"] or ()):
        yield "dataset.classes: background is always there as class 0; leave it out"
    if saliency["source"] == "maps" and saliency["maps"]["folder"] is None:
        yield "saliency.maps.folder: the source maps needs the folder of the saliency maps"
    if config["cam"]["source"] == "files" and config["cam"]["files"]["folder"] is None:
        yield "cam.files.folder: the source files needs the folder of the CAM files"
    labels = config["pseudo_labels"]
    if labels["initial"] == "files" and labels["files"]["folder"] is None:
        yield "pseudo_labels.files.folder: initial: files needs the folder of the label PNGs"
    for name in config["variants"]:
        if name in RESERVED_VARIANTS:
            yield f"variants.{name}: the results folder {name} has another use; rename it"


def _method_contradictions(config):
    network, stages = config["network"], config["stages"]
    branches, affinity = network["branches"], network["affinity"]
    without = f"which network.branches: {branches} leaves out"
    if config["backbone"]["name"] == "resnet38" and config["backbone"]["output_stride"] != 8:
        yield "backbone.output_stride: resnet38 has output stride 8 only"
    saliency_branch = branches in ("seg_sal", "all")
    if affinity.startswith("cross_task") and not saliency_branch:
        yield (
            f"network.affinity: {affinity} needs the saliency branch, {without}; "
            "set affinity to segmentation or none"
        )
    if stages > 1 and branches != "all":
        yield (
            f"stages: {stages} stages need all branches (refined CAMs and saliency make the labels "
            f"of the next stage), not network.branches: {branches}; set stages to 1"
        )
    if stages > 1 and affinity == "none":
        yield (
            f"stages: {stages} stages need an affinity (it refines the CAMs that make the labels "
            "of the next stage), but network.affinity is none; set stages to 1"
        )
    gpus = max(1, config["resources"]["train"]["gpu"])
    for section in ("classifier", "stage"):
        size = config[section]["batch_size"]
        if size % gpus:
            yield (
                f"{section}.batch_size: {size} images cannot be shared evenly by "
                f"resources.train.gpu: {gpus} GPUs; change one of the two"
            )
    for key, (low, high) in {
        "classifier.resize.long_side": config["classifier"]["resize"]["long_side"],
        "stage.random_scale": config["stage"]["random_scale"],
    }.items():
        if low > high:
            yield f"{key}: the first value ({low}) must not exceed the second ({high})"


# --- messages ----------------------------------------------------------------------------------


def _dotted(path):
    """Dotted key of a path of mapping keys and list positions: `cam.scales[1]`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).lstrip(".")


def _schema_problems(error):
    """The problem lines (`dotted.key: what is wrong`) of one jsonschema error."""
    key, value, limit = _dotted(error.absolute_path), error.instance, error.validator_value
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        within = f"{key}." if key else ""
        extra = [name for name in value if name not in known]
        return [f"{within}{name}: unknown key{_suggest(name, known)}" for name in extra]
    if error.validator == "required":
        within = f"{key}." if key else ""
        return [f"{within}{name}: missing; give it a value" for name in limit if name not in value]
    texts = {
        "enum": lambda: f"must be one of {_choices(limit)}, not {_shown(value)}",
        "minimum": lambda: f"must be at least {limit}, not {value}",
        "maximum": lambda: f"must be at most {limit}, not {value}",
        "exclusiveMinimum": lambda: f"must be above {limit}, not {value}",
        "exclusiveMaximum": lambda: f"must be below {limit}, not {value}",
        "minItems": lambda: f"must have at least {limit} values, not {len(value)}",
        "maxItems": lambda: f"must have at most {limit} values, not {len(value)}",
        "minProperties": lambda: "must not be empty; remove the line to have the default",
        "uniqueItems": lambda: f"has {_repeated(value)!r} more than once",
        "minLength": lambda: "must not be an empty text",
        "maxLength": lambda: f"must have at most {limit} letters, not {len(value)}",
        "pattern": lambda: f"{_shown(value)} does not fit: {_rule_of(error.schema)}",
        "type": lambda: _type_problem(value, limit),
    }
    return [f"{key}: {texts[error.validator]()}"]


def _type_problem(value, types):
    types = [types] if isinstance(types, str) else types
    wanted = " or ".join(TYPE_NAMES[name] for name in types)
    if value is None:
        what = "is an empty section" if types == ["object"] else "has no value"
        return f"{what}; write {wanted}, or remove the line"
    if isinstance(value, str) and {"number", "integer"} & set(types):
        number = _number_in(value, whole="number" not in types)
        if number is not None:
            return f"{_shown(value)} is text in YAML; write {number}"
    if "string" in types and isinstance(value, bool | int | float):
        return f"must be text, not {str(value).lower()}; put it in quotes"
    return f"must be {wanted}, not {_shown(value)}"


def _shown(value):
    """A value as it is written in Python, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _rule_of(schema):
    """What a text has to be like."""
    return schema.get("title") or schema["description"]


def _number_in(text, whole):
    """How to write a number so that YAML reads it as one (`1e-3` -> `1.0e-3`); else None."""
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number) or (whole and number != int(number)):
        return None
    if whole:
        return str(int(number))
    if "e" not in text.lower():
        return text.strip()
    mantissa, exponent = f"{number:.9e}".split("e")
    mantissa = mantissa.rstrip("0")
    return f"{mantissa}{'0' if mantissa.endswith('.') else ''}e{int(exponent):+d}"


def _suggest(name, known):
    """` (did you mean x?)`, or the known names where none is close."""
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f" (did you mean {close[0]}?)" if close else f" (known here: {', '.join(known)})"


def _choices(values):
    return ", ".join("null" if value is None else str(value) for value in values)


def _repeated(values):
    return next(value for position, value in enumerate(values) if value in values[:position])
