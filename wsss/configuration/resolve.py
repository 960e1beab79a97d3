"""The configuration of a run: defaults < recipe < the user's files."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wsss.configuration.paths import expanded_path
from wsss.configuration.problems import contradictions, did_you_mean, problems_of, refuse
from wsss.configuration.sections import Configuration, Section
from wsss.configuration.yaml_files import read_yaml
from wsss.errors import InputError, listed

RECIPES = Path(__file__).resolve().parents[2] / "config" / "recipes"
# What variants do not share.
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


def load(paths: Iterable[str | Path]) -> Configuration:
    """Merge configuration files in order, later ones over earlier ones, and `resolve` them.

    Raises:
        InputError: a file that cannot be read, or whatever `resolve` finds wrong.
    """
    user: dict = {}
    for path in paths:
        user = merge(user, read_yaml(path))
    return resolve(user)


def resolve(user: dict) -> Configuration:
    """Complete and check a configuration.

    Args:
        user: what the user set, as nested dicts (the merged configuration files).

    Raises:
        InputError: one line that names the dotted keys that are wrong, and the remedy.
    """
    base = merge(defaults(Configuration), read_recipe(user.get("recipe")))
    if "variants" in user:  # a list of variants replaces the default one
        del base["variants"]
    config = _checked(merge(base, user))
    for name in config.variants:
        variant_config(config, name)
    return config


def variant_config(config: Configuration, variant: str) -> Configuration:
    """The configuration of one variant: its overrides merged into a resolved one.

    Raises:
        InputError: no such variant, an override of what variants share, or a value that is wrong;
            keys are named as `variants.<variant>.<key>`.
    """
    if variant not in config.variants:
        raise InputError(f"variants: no variant {variant!r} (known: {listed(config.variants)})")
    overrides = config.variants[variant]
    for key in overrides:
        if key in Configuration.model_fields and key not in VARIANT_SECTIONS:
            raise InputError(
                f"variants.{variant}.{key}: a variant cannot change this, since variants share one "
                f"data set, saliency, classifier and CAMs; it may set {', '.join(VARIANT_SECTIONS)}"
            )
    return _checked(merge(plain(config), overrides), prefix=f"variants.{variant}.")


def merge(base: dict, overlay: dict) -> dict:
    """`overlay` over `base` as new dicts; mappings merge, all else replaces."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def plain(section: Section) -> dict:
    """A section as nested dicts and lists, as in a file."""
    return section.model_dump(mode="json")


def defaults(section: type[Section]) -> dict:
    """Nested defaults of a section; keys without one are left out."""
    found = {}
    for key, field in section.model_fields.items():
        if not field.is_required():
            default = field.get_default()
            found[key] = plain(default) if isinstance(default, Section) else default
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found[key] = defaults(field.annotation)
    return found


def read_recipe(name: Any) -> dict:
    """The values of a recipe of `config/recipes`.

    Raises:
        InputError: no such recipe.
    """
    names = recipe_names()
    if name is None:
        raise InputError(f"recipe: missing; choose one of {', '.join(names)}")
    if name not in names:
        raise InputError(f"recipe: there is no {name!r}{did_you_mean(str(name), names)}")
    return read_yaml(RECIPES / f"{name}.yaml")


def recipe_names() -> list[str]:
    """Names of the recipes: the files of `config/recipes`."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def _checked(values: dict, prefix: str = "") -> Configuration:
    try:
        # As JSON, since there a list may stand for a tuple.
        config = Configuration.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        refuse(problems_of(error), prefix)
        raise
    refuse(contradictions(config), prefix)
    for key, path in paths_in_use(config).items():
        expanded_path(path, prefix + key)  # to hear of a variable that is not set at once
    return config


def paths_in_use(config: Configuration) -> dict[str, str]:
    """Dotted key -> path of what may hold `$NAME` and is read by the jobs of a run."""
    voc, source = config.dataset.voc, config.saliency.source
    paths = {"dataset.root": config.dataset.root, "backbone.weights": config.backbone.weights}
    if config.dataset.format == "voc":
        paths |= {f"dataset.voc.{key}": getattr(voc, key) for key in VOC_FILES}
    if source == "maps":
        paths["saliency.maps.folder"] = config.saliency.maps.folder
    else:
        paths["saliency.u2netp.weights"] = config.saliency.u2netp.weights
    if config.cam.source == "files":
        paths["cam.files.folder"] = config.cam.files.folder
    if config.pseudo_labels.initial == "files":
        paths["pseudo_labels.files.folder"] = config.pseudo_labels.files.folder
    return {key: path for key, path in paths.items() if path is not None}
