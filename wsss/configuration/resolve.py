"""The configuration of a run: defaults < recipe < the user's files."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wsss.configuration.data_sections import SOURCE_KINDS, Source, source_key
from wsss.configuration.key_types import Section
from wsss.configuration.paths import expanded_path
from wsss.configuration.problems import contradictions, did_you_mean, problems_of, refuse, shown
from wsss.configuration.sections import Configuration
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
# What a classifier may have of its own; of the network its design.
CLASSIFIER_SECTIONS = ("backbone", "classifier", "cam", "network")
DEFAULT_CLASSIFIER = "default"  # the sections as they are
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
    for name in config.classifiers:
        classifier_config(config, name)
    for name in config.variants:
        variant_config(config, name)
    for name, source in picked_sources(config).items():
        _check_source(source, source_key(name, source.kind))
    return config


def variant_config(config: Configuration, variant: str) -> Configuration:
    """The configuration of one variant: a resolved one with what it picks, and its overrides.

    `saliency.source` is the source that it picks; backbone, classifier and cam are those of the
    classifier that it picks.

    Raises:
        InputError: no such variant, an override of what variants share, or a value that is wrong;
            keys are named as `variants.<variant>.<key>`.
    """
    if variant not in config.variants:
        raise InputError(f"variants: no variant {variant!r} (known: {listed(config.variants)})")
    where, overrides = f"variants.{variant}.", dict(config.variants[variant])
    source = overrides.pop("saliency", config.saliency.source)
    _require_name(source, (*SOURCE_KINDS, *config.saliency.sources), f"{where}saliency", "source")
    classifier = overrides.pop("classifier", DEFAULT_CLASSIFIER)
    _require_name(classifier, config.classifiers, f"{where}classifier", "classifier")
    may = f"{', '.join(VARIANT_SECTIONS)}; saliency and classifier pick others by name"
    _refuse_others(overrides, VARIANT_SECTIONS, where, f"variants share it; one may set {may}")
    base = merge(plain(classifier_config(config, classifier)), {"saliency": {"source": source}})
    return _checked(merge(base, overrides), where)


def classifier_config(config: Configuration, classifier: str) -> Configuration:
    """The configuration with one of its classifiers: backbone, training, CAMs, design.

    Raises:
        InputError: an override of something else, or a value that is wrong; keys are named as
            `classifiers.<classifier>.<key>`.
    """
    where, overrides = f"classifiers.{classifier}.", config.classifiers[classifier]
    may = "backbone, classifier, cam and network.design"
    _refuse_others(overrides, CLASSIFIER_SECTIONS, where, f"a classifier may set {may}")
    network = overrides.get("network")
    for key in network if isinstance(network, dict) else ():
        if key != "design":
            raise InputError(
                f"{where}network.{key}: cannot be changed here: a classifier may set {may}"
            )
    return _checked(merge(plain(config), overrides), where)


def picked_sources(config: Configuration) -> dict[str, Source]:
    """The sources of saliency that variants pick, each once, by name."""
    picked = (
        overrides.get("saliency", config.saliency.source) for overrides in config.variants.values()
    )
    return {name: config.saliency.named(name) for name in picked}


def classifier_of(config: Configuration, variant: str) -> str:
    """The name of the classifier that a variant picks."""
    return config.variants[variant].get("classifier", DEFAULT_CLASSIFIER)


def picked_classifiers(config: Configuration) -> dict[str, Configuration]:
    """The classifiers that variants pick, each once: name -> `classifier_config`."""
    return {
        name: classifier_config(config, name)
        for name in (classifier_of(config, variant) for variant in config.variants)
    }


def trained_as(config: Configuration, classifier: str) -> str:
    """The classifier whose model this one has: the first that is trained in the same way.

    So those that differ in their CAMs alone, such as CAMs of several tools, are trained once.
    """

    def training(name):
        own = classifier_config(config, name)
        return own.backbone, own.classifier, own.network.design

    return next(name for name in config.classifiers if training(name) == training(classifier))


def _check_source(source: Source, key: str) -> None:
    if source.kind == "maps" and source.maps.folder is None:
        raise InputError(f"{key}.folder: the source maps needs the folder of the saliency maps")
    for name, value in source.settings:
        if name in ("folder", "weights"):
            expanded_path(value, f"{key}.{name}")


def _require_name(value: Any, known: Iterable[str], key: str, what: str) -> None:
    if not isinstance(value, str):
        raise InputError(
            f"{key}: must be the name of a {what} (known: {listed(known)}), not {shown(value)}"
        )
    if value not in known:
        raise InputError(f"{key}: no {what} {value!r}{did_you_mean(value, known)}")


def _refuse_others(overrides: dict, allowed: Iterable[str], where: str, reason: str) -> None:
    for key in overrides:
        if key in Configuration.model_fields and key not in allowed:
            raise InputError(f"{where}{key}: cannot be changed here: {reason}")


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
    voc = config.dataset.voc
    paths = {"dataset.root": config.dataset.root, "backbone.weights": config.backbone.weights}
    if config.dataset.format == "voc":
        paths |= {f"dataset.voc.{key}": getattr(voc, key) for key in VOC_FILES}
    if config.cam.source == "files":
        paths["cam.files.folder"] = config.cam.files.folder
    if config.pseudo_labels.initial == "files":
        paths["pseudo_labels.files.folder"] = config.pseudo_labels.files.folder
    paths["pseudo_labels.corrected"] = config.pseudo_labels.corrected
    return {key: path for key, path in paths.items() if path is not None}
