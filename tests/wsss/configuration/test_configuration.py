"""The configuration: what users write, what they are told, and what the recipes say."""

import json
import re
from pathlib import Path
from typing import get_args

import jsonschema
import numpy as np
import pytest
import torch
import yaml
from repository import ROOT

from wsss.configuration import reference
from wsss.configuration.data_sections import SOURCE_KINDS
from wsss.configuration.paths import expanded_path
from wsss.configuration.resolve import (
    classifier_of,
    load,
    merge,
    picked_classifiers,
    picked_sources,
    plain,
    read_recipe,
    recipe_names,
    resolve,
    trained_as,
    variant_config,
)
from wsss.configuration.sections import Configuration
from wsss.configuration.yaml_files import read_yaml
from wsss.errors import InputError

CONFIG = ROOT / "config"
CONFIG_YAML = ROOT / "config.yaml"
OVERLAYS = sorted(CONFIG.glob("*.yaml"))
TRIALS = sorted(CONFIG.glob("tuning/**/*.yaml"))  # laid over the animals
EXPERIMENTS = (
    "ablations",
    "compare-labels",
    "corrected-masks",
    "full-supervision",
    "saliency-sources",
)  # laid over the configuration of a data set
BY_USER = {"dataset.name", "dataset.format", "recipe", "stages"}
MINIMAL = {"dataset": {"name": "toy", "format": "demo"}, "recipe": "demo", "stages": 3}


@pytest.fixture(autouse=True)
def folders(monkeypatch):
    monkeypatch.setenv("VOC_ROOT", "/data/voc")
    monkeypatch.setenv("VOC_SALIENCY", "/data/saliency")
    monkeypatch.setenv("COCO_ROOT", "/data/coco")
    monkeypatch.setenv("COCO_SALIENCY", "/data/coco/saliency")
    monkeypatch.setenv("PHOTOS", "/data/photos")
    monkeypatch.setenv("MASKS", "/data/masks")
    monkeypatch.setenv("TRUE_MASKS", "/data/true_masks")
    monkeypatch.setenv("THEIR_CAMS", "/data/cams")
    monkeypatch.setenv("THEIR_LABELS", "/data/labels")


# Each one value, whatever is in it.
NAMED = ("variants", "classifiers", "saliency.sources", "figures.points")


def leaves(values, prefix=""):
    """Dotted key -> value of nested dicts."""
    found = {}
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict) and dotted not in NAMED:
            found |= leaves(value, f"{dotted}.")
        else:
            found[dotted] = value
    return found


def settings():
    """Dotted key -> (default, whether there is one) of every setting that is not a section."""
    return {
        key: (default, has_default)
        for key, default, has_default, _, is_section in reference.keys(Configuration)
        if not is_section
    }


def refusal(change):
    """The error line for the minimal configuration with a change."""
    with pytest.raises(InputError) as caught:
        resolve(merge(MINIMAL, change))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is made of the sections, and config.yaml -----------------------------------------------


@pytest.mark.parametrize("name", reference.FILES)
def test_what_is_made_of_the_sections_is_up_to_date(name):
    remedy = "python -m wsss.configuration.reference makes it again"
    assert (ROOT / name).read_text(encoding="utf-8") == reference.FILES[name](), remedy


def test_every_key_is_described():
    for key, _, _, description, _ in reference.keys(Configuration):
        assert description and "\n" not in description, key


def test_the_schema_for_editors_takes_overlays_and_finds_slips():
    schema = json.loads((CONFIG / "schema.json").read_text())
    for path in [*OVERLAYS, *TRIALS]:
        jsonschema.validate(read_yaml(path), schema)
    for slip in ({"stage": {"learning_rat": 0.1}}, {"stages": 6}, {"seeds": "0"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(slip, schema)


def uncommented():
    """config.yaml with its commented keys in force (prose has one space behind the #)."""
    text = re.sub(r"(?m)^( *)#(?! \S)", r"\1", CONFIG_YAML.read_text(encoding="utf-8"))
    return yaml.safe_load(text)


def test_config_yaml_sets_three_keys_only():
    set_here = read_yaml(CONFIG_YAML)
    assert set_here == {
        "dataset": {"name": "demo", "format": "demo"},
        "recipe": "demo",
        "stages": 3,
    }


def test_config_yaml_documents_every_key_with_its_default():
    documented, known = leaves(uncommented()), settings()
    assert documented.keys() == known.keys()
    for key in known.keys() - BY_USER:
        default, _ = known[key]  # keys of the recipe stand without a value
        assert documented[key] == (list(default) if isinstance(default, tuple) else default), key


def choices(key):
    """What may stand for a key of two names."""
    section, name = key.split(".")
    return set(
        get_args(Configuration.model_fields[section].annotation.model_fields[name].annotation)
    )


def test_choices_are_what_the_code_offers():
    from model.auxsegnet import AFFINITIES, ATTENTION_STARTS, BRANCHES
    from model.backbones import BACKBONES
    from model.designs import DESIGNS
    from wsss.method.saliency import KINDS

    assert choices("network.branches") == set(BRANCHES) - {"cls"}
    assert choices("network.affinity") == set(AFFINITIES)
    assert choices("network.attention_start") == set(ATTENTION_STARTS)
    assert choices("network.design") == set(DESIGNS)
    assert choices("backbone.name") == set(BACKBONES)
    assert set(SOURCE_KINDS) == set(KINDS)


# --- precedence --------------------------------------------------------------------------------


def test_user_over_recipe_over_default():
    config = resolve(merge(MINIMAL, {"recipe": "paper", "stage": {"epochs": 7}}))
    assert config.stage.epochs == 7  # user
    assert config.stage.crop == 321  # recipe, kept beside the user's key
    assert config.stage.loss_weights.saliency == 1  # default


def test_only_the_classifier_may_go_untrained():
    assert resolve(merge(MINIMAL, {"classifier": {"epochs": 0}})).classifier.epochs == 0
    message = refusal({"stage": {"epochs": 0}, "classifier": {"epochs": -1}})
    assert "stage.epochs: must be greater than or equal to 1, not 0" in message
    assert "classifier.epochs: must be greater than or equal to 0, not -1" in message


def test_files_merge_in_order_and_lists_replace(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(yaml.safe_dump(merge(MINIMAL, {"seeds": [0, 1, 2], "shards": 4})))
    second.write_text("seeds: [7]\nprediction: {crf: {iterations: 5}}\n")
    config = load([first, second])
    assert (config.seeds, config.shards) == ((7,), 4)
    assert config.prediction.crf.iterations == 5
    assert config.prediction.crf.bilateral_sxy == 83
    assert load([second, first]).seeds == (0, 1, 2)


def test_resolve_leaves_its_argument():
    user = merge(MINIMAL, {"seeds": [1]})
    before = json.dumps(user)
    resolve(user)
    assert json.dumps(user) == before


def test_a_configuration_does_not_change():
    config = resolve(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        config.stage.epochs = 3


def test_resolved_twice_is_resolved():
    config = resolve(MINIMAL)
    assert resolve(plain(config)) == config


def test_variants_of_the_user_replace_the_default_one():
    assert list(resolve(MINIMAL).variants) == ["auxsegnet"]
    config = resolve(merge(MINIMAL, {"variants": {"plain": {"stages": 1}}}))
    assert list(config.variants) == ["plain"]


# --- variants ----------------------------------------------------------------------------------


def test_variant_overrides_deeply_and_leaves_the_rest():
    change = {"variants": {"auxsegnet": {}, "wide": {"prediction": {"crf": {"iterations": 3}}}}}
    config = resolve(merge(MINIMAL, change))
    wide = variant_config(config, "wide")
    assert wide.prediction.crf.iterations == 3
    assert wide.prediction.crf.bilateral_srgb == 5
    assert variant_config(config, "auxsegnet") == config
    assert config.prediction.crf.iterations == 10


def test_unknown_variant_is_refused():
    with pytest.raises(InputError, match=r"no variant 'x' .*auxsegnet"):
        variant_config(resolve(MINIMAL), "x")


@pytest.mark.parametrize("section", ["cam", "backbone", "seeds", "classifiers", "images"])
def test_variant_cannot_change_what_variants_share(section):
    message = refusal({"variants": {"x": {section: {}}}})
    assert message.startswith(f"variants.x.{section}: ")
    assert "share" in message


SHARED = {
    "saliency": {"sources": {"dss": {"maps": {"folder": "/dss"}}}},
    "classifiers": {
        "seam": {"cam": {"source": "files", "files": {"folder": "/seam"}}},
        "wide": {"backbone": {"output_stride": 8}, "classifier": {"epochs": 2}},
        "wide_seam": {
            "backbone": {"output_stride": 8},
            "classifier": {"epochs": 2},
            "cam": {"source": "files", "files": {"folder": "/seam"}},
        },
    },
    "variants": {
        "auxsegnet": {},
        "dss": {"saliency": "dss", "classifier": "seam"},
        "wide": {"classifier": "wide", "network": {"design": "official"}},
        "weak": {"saliency": "centre_prior", "classifier": "default"},
    },
}


def test_variants_pick_sources_and_classifiers_by_name():
    config = resolve(merge(MINIMAL, SHARED))
    own = {name: variant_config(config, name) for name in config.variants}
    assert [c.saliency.source for c in own.values()] == ["u2netp", "dss", "u2netp", "centre_prior"]
    assert list(picked_sources(config)) == ["u2netp", "dss", "centre_prior"]  # and not u2net
    assert picked_sources(config)["dss"].settings.folder == "/dss"
    assert [classifier_of(config, name) for name in own] == ["default", "seam", "wide", "default"]
    assert list(picked_classifiers(config)) == ["default", "seam", "wide"]  # and not wide_seam
    assert own["dss"].cam.source == "files" and own["auxsegnet"].cam.source == "classifier"
    assert (own["wide"].backbone.output_stride, own["wide"].classifier.epochs) == (8, 2)
    assert own["wide"].network.design == "official"
    assert picked_classifiers(config)["wide"].network.design == "paper"


def test_classifiers_that_differ_in_their_cams_are_trained_once():
    config = resolve(merge(MINIMAL, SHARED))
    trained = {name: trained_as(config, name) for name in config.classifiers}
    assert trained == {
        "default": "default",
        "seam": "default",
        "wide": "wide",
        "wide_seam": "wide",
    }


def test_without_names_there_is_one_source_and_one_classifier():
    for source in ({"source": "u2net"}, {"source": "maps", "maps": {"folder": "/maps"}}):
        config = resolve(merge(MINIMAL, {"saliency": source, "classifier": {"epochs": 3}}))
        assert list(picked_sources(config)) == [source["source"]]
        (name, own), *others = picked_classifiers(config).items()
        assert (name, own, others) == ("default", config, [])


def test_a_classifier_brings_its_design_along():
    change = {
        "classifiers": {"released": {"network": {"design": "official"}}},
        "variants": {"x": {"classifier": "released"}},
    }
    config = resolve(merge(MINIMAL, change))
    assert variant_config(config, "x").network.design == "official"


def test_mistakes_in_a_variant_are_named_with_it():
    message = refusal({"variants": {"x": {"network": {"afinity": "none"}}}})
    assert message == "variants.x.network.afinity: unknown key (did you mean affinity?)"
    message = refusal({"variants": {"x": {"netwrk": {}}}})
    assert message == "variants.x.netwrk: unknown key (did you mean network?)"


@pytest.mark.parametrize(
    "network, stages, key",
    [
        ({"branches": "seg_cls"}, 1, "network.affinity"),  # cross-task without saliency
        ({"branches": "seg", "affinity": "cross_task_segmentation"}, 1, "network.affinity"),
        ({"branches": "seg_sal"}, 2, "stages"),  # no CAMs to refine
        ({"branches": "seg_cls", "affinity": "segmentation"}, 2, "stages"),  # nor saliency
        ({"affinity": "none"}, 2, "stages"),  # nothing to refine them with
    ],
)
def test_networks_that_cannot_be_are_refused(network, stages, key):
    override = {"network": network, "stages": stages}
    assert refusal({"variants": {"x": override}}).startswith(f"variants.x.{key}: ")
    assert refusal(override).startswith(f"{key}: ")


@pytest.mark.parametrize(
    "network, stages",
    [
        ({"branches": "seg", "affinity": "none"}, 1),
        ({"branches": "seg_cls", "affinity": "none"}, 1),
        ({"branches": "seg_cls", "affinity": "segmentation"}, 1),
        ({"branches": "seg_sal", "affinity": "cross_task"}, 1),
        ({"branches": "all", "affinity": "cross_task_segmentation"}, 5),
    ],
)
def test_ablations_of_the_paper_are_accepted(network, stages):
    config = resolve(merge(MINIMAL, {"variants": {"x": {"network": network, "stages": stages}}}))
    assert variant_config(config, "x").network.affinity == network["affinity"]


# --- messages ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"stage": {"learning_rat": 0.1}},
            "stage.learning_rat: unknown key (did you mean learning_rate?)",
        ),
        ({"pseudo_labels": {"saliency_crf": {"iteration": 2}}}, "did you mean iterations?"),
        ({"evaluation": {"xyz": 1}}, "evaluation.xyz: unknown key (known here: ignore_prediction)"),
        ({"dataset": {"voc": {"lables": "x"}}}, "dataset.voc.lables: unknown key"),
        ({3: 1}, "3: unknown key"),
        ({"stages": 6}, "stages: must be less than or equal to 5, not 6"),
        ({"stages": 0}, "stages: must be greater than or equal to 1, not 0"),
        ({"stages": True}, "stages: must be a whole number, not True"),
        ({"stages": 2.0}, "stages: must be a whole number, not 2.0"),
        ({"stages": "3"}, "stages: '3' is text in YAML; write 3"),
        ({"shards": "1000"}, "shards: '1000' is text in YAML; write 1000"),
        (
            {"stage": {"learning_rate": "1e-3"}},
            "stage.learning_rate: '1e-3' is text in YAML; write 1.0e-3",
        ),
        ({"stage": {"later_learning_rate": "2.5E4"}}, "write 2.5e+4"),
        ({"stage": {"learning_rate": 0}}, "stage.learning_rate: must be greater than 0, not 0"),
        ({"stage": {"learning_rate": float("nan")}}, "stage.learning_rate: must be a number"),
        ({"stage": {"learning_rate": float("inf")}}, "stage.learning_rate: must be a number"),
        ({"stage": {"momentum": 1}}, "stage.momentum: must be less than 1, not 1"),
        ({"stage": {"label_padding": 128}}, "stage.label_padding: must be one of 255, 0, not 128"),
        ({"stage": {"random_scale": [1.3, 0.7]}}, "stage.random_scale: the first value (1.3)"),
        ({"stage": {"random_scale": [1.0]}}, "stage.random_scale[1]: missing"),
        (
            {"stage": {"batch_size": 8}, "resources": {"train": {"gpu": 3}}},
            "stage.batch_size: 8 images cannot be shared evenly by resources.train.gpu: 3 GPUs",
        ),
        ({"seeds": [2**32]}, "seeds[0]: must be less than or equal to 4000000000, not"),
        (
            {"prediction": {"crf": {"gaussian_sxy": 1e-6}}},
            "gaussian_sxy: must be greater than or equal to 0.01",
        ),
        ({"resources": {"infer": {"gpu": 2}}}, "resources.infer.gpu: must be one of 0, 1, not 2"),
        ({"stage": None}, "stage: has no value; write a section"),
        ({"stage": 5}, "stage: must be a section"),
        ({"stage": {"epochs": None}}, "stage.epochs: has no value; write a whole number"),
        (
            {"cam": {"scales": [1.0, -1]}},
            "cam.scales[1]: must be greater than or equal to 0.1",
        ),
        ({"cam": {"scales": 1.0}}, "cam.scales: must be a list, not 1.0"),
        ({"cam": {"flip": "yes"}}, "cam.flip: must be true or false, not 'yes'"),
        ({"seeds": [0, 3, 3]}, "seeds: has 3 more than once"),
        ({"seeds": []}, "seeds: must have at least 1"),
        ({"dataset": {"classes": ["cat", "cat"]}}, "dataset.classes: has 'cat' more than once"),
        ({"dataset": {"classes": [False]}}, "dataset.classes[0]: must be text, not False"),
        ({"dataset": {"classes": ["background"]}}, "dataset.classes: background is always there"),
        ({"dataset": {"name": "../x"}}, "dataset.name: '../x' does not fit: letters, digits"),
        ({"dataset": {"name": "x" * 65}}, "dataset.name: must have at most 64 characters"),
        ({"backbone": {"weights": "{a}.pth"}}, "backbone.weights: '{a}.pth' does not fit"),
        ({"dataset": {"name": "logs"}}, "dataset.name: results/logs has another use"),
        ({"dataset": {"name": 2012}}, "dataset.name: must be text, not 2012; put it in quotes"),
        ({"dataset": {"format": "voc"}}, "dataset.root: the format voc needs"),
        ({"dataset": {"format": "folder"}}, "dataset.root: the format folder needs"),
        ({"dataset": {"format": "ade"}}, "must be one of demo, voc, coco, folder, not 'ade'"),
        ({"saliency": {"source": "maps"}}, "saliency.maps.folder: the source maps needs"),
        *(
            ({"saliency": {"maps": {"pattern": pattern}}}, "saliency.maps.pattern: ")
            for pattern in (
                "map.png",
                "/maps/{image_id}.png",
                "~/{image_id}.png",
                "{image_id}/{image_id}.png",
                "{id}_{image_id}.png",
            )
        ),
        ({"cam": {"source": "files"}}, "cam.files.folder: the source files needs"),
        ({"cam": {"files": {"pattern": "cam.npy"}}}, "cam.files.pattern: 'cam.npy' does not fit"),
        (
            {"cam": {"files": {"normalise": "sometimes"}}},
            "cam.files.normalise: must be one of auto",
        ),
        (
            {"cam": {"files": {"pattern": "{id}/{image_id}"}}},
            "does not fit: path of an image's file in it, with {image_id} for the id",
        ),
        ({"pseudo_labels": {"initial": "files"}}, "pseudo_labels.files.folder: initial: files"),
        (
            {"variants": {"x": {"pseudo_labels": {"initial": "files"}}}},
            "variants.x.pseudo_labels.files.folder: initial: files needs",
        ),
        ({"backbone": {"name": "resnet38", "output_stride": 16}}, "backbone.output_stride: "),
        ({"prediction": {"splits": ["vall"]}}, "prediction.splits[0]: must be one of train"),
        ({"recipe": "papr"}, "recipe: there is no 'papr' (did you mean paper?)"),
        ({"recipe": "../demo"}, "recipe: there is no '../demo'"),
        ({"recipe": None}, "recipe: missing; choose one of compact, demo, official, paper"),
        ({"variants": {}}, "variants: must have at least 1 item"),
        ({"variants": {"x": None}}, "variants.x: has no value; write a section"),
        ({"variants": {"a/b": {}}}, "variants.a/b: 'a/b' does not fit: a name of letters"),
        ({"variants": {"classifier": {}}}, "variants.classifier: the results folder"),
        *(
            ({"variants": {"x": {key: value}}}, f"variants.x.{key}: {message}")
            for key, value, message in (
                ("saliency", "u2nett", "no source 'u2nett' (did you mean u2net?)"),
                ("saliency", {"source": "u2net"}, "must be the name of a source (known: u2netp, "),
                ("classifier", "seam", "no classifier 'seam' (known here: default)"),
                ("classifier", {"epochs": 3}, "must be the name of a classifier (known: default)"),
            )
        ),
        ({"saliency": {"source": "u2nett"}}, "saliency.source: no source 'u2nett' (did you mean"),
        *(
            ({"saliency": {"sources": sources}}, f"saliency.sources.{message}")
            for sources, message in (
                ({"dss": {}}, "dss: must have one of u2netp, u2net, maps, centre_prior"),
                ({"dss": {"maps": {}, "u2net": {}}}, "dss: must have one of u2netp"),
                ({"dss": {"mapz": {}}}, "dss.mapz: unknown key (did you mean maps?)"),
                ({"dss": {"maps": {"foldr": "x"}}}, "dss.maps.foldr: unknown key (did you mean f"),
                ({"dss": {"maps": {"pattern": "x"}}}, "dss.maps.pattern: 'x' does not fit: a pat"),
                ({"d/s": {"maps": {}}}, "d/s: 'd/s' does not fit: a name of letters"),
                ({"maps": {"maps": {}}}, "maps: the settings of maps are saliency.maps; rename"),
            )
        ),
        (
            {"saliency": {"source": "dss", "sources": {"dss": {"maps": {}}}}},
            "saliency.sources.dss.maps.folder: the source maps needs the folder",
        ),
        *(
            ({"classifiers": {"x": overrides}}, f"classifiers.x.{message}")
            for overrides, message in (
                ({"clasifier": {}}, "clasifier: unknown key (did you mean classifier?)"),
                ({"stage": {}}, "stage: cannot be changed here: a classifier may set backbone"),
                ({"network": {"branches": "seg"}}, "network.branches: cannot be changed here: a "),
                ({"classifier": {"epochs": -1}}, "classifier.epochs: must be greater"),
                ({"cam": {"source": "files"}}, "cam.files.folder: the source files needs"),
            )
        ),
    ],
)
def test_refused_in_one_line_that_names_the_key(change, message):
    assert message in refusal(change)


@pytest.mark.parametrize("key", ["dataset", "recipe", "stages"])
def test_keys_that_the_user_owes_are_named(key):
    with pytest.raises(InputError, match=rf"^{key}\S*: missing"):
        resolve({name: value for name, value in MINIMAL.items() if name != key})


def test_several_problems_are_listed_with_a_count():
    message = refusal({"stages": 9, "shards": 0, "stage": {"a": 1}, "cam": {"b": 1, "c": 1}})
    assert message.count("; ") == 2
    assert message.endswith("(and 2 more)")


@pytest.mark.parametrize("section", ["voc", "folder"])
def test_a_data_set_needs_no_masks(section):
    config = resolve(merge(MINIMAL, {"dataset": {section: {"masks": None}}}))
    assert getattr(config.dataset, section).masks is None


@pytest.mark.parametrize("pattern", ["{image_id}_sal.png", "DSS/{image_id}.png", "{image_id}"])
def test_patterns_of_saliency_collections_are_accepted(pattern):
    config = resolve(merge(MINIMAL, {"saliency": {"maps": {"pattern": pattern}}}))
    assert config.saliency.maps.pattern == pattern


def test_every_stage_has_a_seed_that_numpy_takes():
    highest = 4_000_000_000
    resolve(merge(MINIMAL, {"seeds": [highest], "stages": 5}))
    np.random.RandomState(highest + 1000 * 5)  # as train_stage adds them
    with pytest.raises(InputError):
        resolve(merge(MINIMAL, {"seeds": [2**32]}))


def test_what_is_written_right_is_accepted():
    change = {"stage": {"learning_rate": 1.0e-3, "later_learning_rate": None}, "seeds": [3, 1]}
    assert resolve(merge(MINIMAL, change)).seeds == (3, 1)


@pytest.mark.parametrize(
    "text, message",
    [
        ("stages: 3\nstages: 4\n", r"line 2: the key 'stages' stands twice"),
        ("stage:\n  epochs: 3\n  crop: 64\n  epochs: 4\n", r"line 4: the key 'epochs'"),
        ("- a\n- b\n", r"must hold key: value lines"),
        ("stage: [1,\n", r"file.yaml, line \d"),
        ("a: !!python/object/apply:os.getcwd []\n", r"could not determine a constructor"),
        ("a: 1\nname: 2020-99-99\n", r"line 2: '2020-99-99' cannot be read \(month"),
        ("a: !!int abc\n", r"line 1: 'abc' cannot be read .*put it in quotes"),
        ("a:\n\tb: 1\n", r"line 2: found character"),
    ],
    ids=lambda text: text[:40],
)
def test_files_that_are_refused(tmp_path, text, message):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load([path])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"absent\.yaml: cannot be read"):
        load([tmp_path / "absent.yaml"])
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"binary\.yaml: is not UTF-8"):
        load([tmp_path / "binary.yaml"])


def test_paths_keep_their_variables(monkeypatch):
    """So that a data set that moves is the same setting; who reads a path expands it."""
    monkeypatch.setenv("LISTS", "/lists")
    voc = {"train_list": "$LISTS/train.txt", "labels": "$LISTS/labels.npy"}
    data = {"name": "toy", "format": "voc", "root": "${PHOTOS}/all", "voc": voc}
    config = resolve(merge(MINIMAL, {"dataset": data, "backbone": {"weights": "~/w.pth"}}))
    assert (config.dataset.root, config.backbone.weights) == ("${PHOTOS}/all", "~/w.pth")
    assert config.dataset.voc.labels == "$LISTS/labels.npy"


def test_paths_expand_variables_and_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded_path("${PHOTOS}/all", "key") == Path("/data/photos/all")
    assert expanded_path("~/w.pth", "key") == Path("/home/me/w.pth")


FILES = {"folder": "$NOT_SET"}


@pytest.mark.parametrize(
    "change, key",
    [
        ({"dataset": {"format": "folder", "root": "$NOT_SET"}}, "dataset.root"),
        ({"backbone": {"weights": "$NOT_SET/w.pth"}}, "backbone.weights"),
        ({"saliency": {"source": "maps", "maps": FILES}}, "saliency.maps.folder"),
        (
            {
                "saliency": {"sources": {"dss": {"maps": FILES}}},
                "variants": {"x": {"saliency": "dss"}},
            },
            "saliency.sources.dss.maps.folder",
        ),
        ({"cam": {"source": "files", "files": FILES}}, "cam.files.folder"),
        (
            {"classifiers": {"x": {"cam": {"source": "files", "files": FILES}}}},
            "classifiers.x.cam.files.folder",
        ),
        (
            {"dataset": {"format": "voc", "root": "/d", "voc": {"train_list": "$NOT_SET/a"}}},
            "dataset.voc.train_list",
        ),
        (
            {"variants": {"x": {"pseudo_labels": {"initial": "files", "files": FILES}}}},
            "variants.x.pseudo_labels.files.folder",
        ),
        ({"pseudo_labels": {"corrected": "$NOT_SET/x.zip"}}, "pseudo_labels.corrected"),
    ],
    ids=str,
)
def test_unset_variable_is_named_where_it_is_used(change, key):
    message = refusal(change)
    assert message.startswith(f"{key}: the environment variable NOT_SET is not set")


def test_variables_of_what_is_not_used_need_not_be_set():
    saliency = {"maps": FILES, "sources": {"dss": {"maps": FILES}}}
    change = {"saliency": saliency, "cam": {"files": FILES}}
    assert resolve(merge(MINIMAL, change)).saliency.source == "u2netp"


# --- recipes and overlays ----------------------------------------------------------------------


def test_recipes_are_the_four():
    assert recipe_names() == ["compact", "demo", "official", "paper"]


@pytest.mark.parametrize("name", ["compact", "demo", "official", "paper"])
def test_recipes_set_exactly_the_keys_without_default(name):
    bare = {key for key, (_, has_default) in settings().items() if not has_default} - BY_USER
    assert leaves(read_recipe(name)).keys() == bare
    resolve(merge(MINIMAL, {"recipe": name}))


@pytest.mark.parametrize("name", ["compact", "demo", "official", "paper"])
def test_frozen_modules_are_modules_of_the_backbone(name):
    from model.backbones import create_backbone

    recipe = read_recipe(name)
    with torch.device("meta"):
        backbone = create_backbone(recipe["backbone"]["name"])
    modules = {module for module, _ in backbone.named_modules()}
    for section in ("classifier", "stage"):
        assert set(recipe[section]["frozen"]) <= modules


@pytest.mark.parametrize(
    "overlay", [p for p in OVERLAYS if p.stem not in EXPERIMENTS], ids=lambda path: path.stem
)
def test_nothing_of_the_demo_leaks_into_an_overlay(overlay):
    assert load([CONFIG_YAML, overlay]) == load([overlay])
    demo, merged = leaves(read_recipe("demo")), leaves(plain(load([CONFIG_YAML, overlay])))
    own = leaves(read_recipe(merged["recipe"])) | leaves(read_yaml(overlay))
    assert merged["recipe"] != "demo"
    assert [key for key in demo if merged[key] != own[key]] == []


@pytest.mark.parametrize("overlay", TRIALS, ids=lambda path: path.stem)
def test_trials_of_the_recipe_fit_the_animals(overlay):
    over = [CONFIG / "voc2012-animals.yaml", CONFIG / "full-supervision.yaml", overlay]
    config = load([CONFIG_YAML, *over])
    assert config.recipe == "compact" and config.variants.keys() >= {"full_supervision"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_set_variants_and_what_they_pick_only(name):
    overlay = CONFIG / f"{name}.yaml"
    assert read_yaml(overlay).keys() <= {"variants", "classifiers"}
    config = load([CONFIG_YAML, CONFIG / "voc2012-animals.yaml", overlay])
    assert read_yaml(overlay)["variants"] == config.variants
    assert all(variant_config(config, variant) for variant in config.variants)


def test_experiments_agree_on_the_networks_that_they_share():
    """Laid over one another they train them once."""
    names = ("ablations", "saliency-sources", "compare-labels", "corrected-masks")
    first, *others = (read_yaml(CONFIG / f"{name}.yaml")["variants"] for name in names)
    for other in others:
        assert "auxsegnet" in other
        assert {name: first[name] for name in first.keys() & other.keys()}.items() <= other.items()


@pytest.mark.parametrize("network", [{"branches": "seg_sal"}, {"affinity": "none"}])
def test_an_ablation_that_cannot_have_later_stages_is_refused_by_its_name(network):
    overlay = read_yaml(CONFIG / "ablations.yaml")
    overlay["variants"]["mine"] = {"network": network}
    assert refusal(overlay).startswith("variants.mine.stages: 3 stages need")


# Xu et al. 2021, section 4, and the released code where the paper is silent.
VOC2012 = {
    "dataset.name": "voc2012",
    "dataset.format": "voc",
    "dataset.root": "$VOC_ROOT",
    "dataset.classes": None,
    "dataset.voc.devkit": "VOCdevkit/VOC2012",
    "dataset.voc.train_list": "ImageSets/Segmentation/train_aug.txt",
    "dataset.voc.val_list": "ImageSets/Segmentation/val.txt",
    "dataset.voc.test_list": None,
    "dataset.voc.scored_list": "ImageSets/Segmentation/train.txt",
    "dataset.voc.labels": "annotations",
    "dataset.voc.masks": "SegmentationClass",
    "dataset.voc.counts.train": 10582,
    "dataset.voc.counts.val": 1449,
    "dataset.voc.counts.test": 1456,
    "dataset.voc.counts.scored": 1464,
    "recipe": "paper",
    "stages": 5,
    "seeds": [0],
    "variants": {"auxsegnet": {}},
    "device": "cuda",
    "keep": "all",
    "shards": 8,
    "images.long_side": None,
    "saliency.source": "maps",
    "saliency.maps.folder": "$VOC_SALIENCY",
    "saliency.maps.pattern": "{image_id}.png",
    "saliency.sources": {},
    "classifiers": {"default": {}},
    "backbone.name": "resnet38",
    "backbone.output_stride": 8,
    "backbone.weights": "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params",
    "network.design": "paper",
    "network.branches": "all",
    "network.affinity": "cross_task",
    "network.attention_start": "random",
    "network.decoder_channels": 128,
    "classifier.epochs": 15,
    "classifier.batch_size": 16,
    "classifier.learning_rate": 0.1,
    "classifier.head_multiplier": 10,
    "classifier.gradient_clip": None,
    "classifier.poly_power": 0.9,
    "classifier.momentum": 0.0005,  # what PSA's optimiser gets for "momentum"
    "classifier.weight_decay": 0.0005,
    "classifier.crop": 448,
    "classifier.resize.long_side": [256, 512],
    "classifier.flip": True,
    "classifier.colour_jitter": [0.3, 0.3, 0.3, 0.1],
    "classifier.frozen": ["conv1a", "b2", "b2_1", "b2_2"],
    "classifier.precision": "fp32",
    "classifier.least_images": 1,
    "classifier.averaged_steps": 0,
    "cam.source": "classifier",
    "cam.scales": [1, 0.5, 1.5, 2],
    "cam.flip": True,
    "pseudo_labels.initial": "fusion",
    "pseudo_labels.corrected": None,
    "pseudo_labels.cam_threshold": 0.2,
    "pseudo_labels.saliency_threshold": 0.06,
    "pseudo_labels.regions": "pixels",
    "pseudo_labels.object_threshold": 0.5,  # for regions: objects, as the next
    "pseudo_labels.doubt_threshold": 0.6,
    "pseudo_labels.background": "off_the_shelf",
    "pseudo_labels.saliency_crf.iterations": 1,
    "pseudo_labels.saliency_crf.gaussian_sxy": 3,
    "pseudo_labels.saliency_crf.gaussian_compat": 3,
    "pseudo_labels.saliency_crf.bilateral_sxy": 60,
    "pseudo_labels.saliency_crf.bilateral_srgb": 5,
    "pseudo_labels.saliency_crf.bilateral_compat": 5,
    "pseudo_labels.saliency_crf.long_side": 1500,  # VOC's photographs are smaller
    "stage.epochs": 10,
    "stage.batch_size": 4,
    "stage.learning_rate": 0.001,
    "stage.later_learning_rate": None,
    "stage.head_multiplier": 10,
    "stage.gradient_clip": None,
    "stage.poly_power": 0.9,
    "stage.momentum": 0.9,
    "stage.weight_decay": 0.0005,
    "stage.crop": 321,
    "stage.random_scale": [0.7, 1.3],
    "stage.random_scale_per": "batch",
    "stage.flip": True,
    "stage.colour_jitter": [0, 0, 0, 0],
    "stage.label_padding": 255,
    "stage.frozen": ["conv1a"],
    "stage.precision": "fp32",
    "stage.least_images": 1,
    "stage.averaged_steps": 0,
    "stage.loss_weights.classification": 1,
    "stage.loss_weights.saliency": 1,
    "stage.loss_weights.segmentation": 1,
    "refinement.scales": [1],
    "refinement.flip": False,
    "prediction.splits": ["val"],
    "prediction.scales": [0.5, 0.75, 1, 1.25, 1.5],
    "prediction.flip": False,
    "prediction.merge": "max",
    "prediction.crf.iterations": 10,
    "prediction.crf.gaussian_sxy": 4,
    "prediction.crf.gaussian_compat": 3,
    "prediction.crf.bilateral_sxy": 83,
    "prediction.crf.bilateral_srgb": 5,
    "prediction.crf.bilateral_compat": 3,
    "prediction.crf.long_side": 1500,  # VOC's photographs are smaller
    "evaluation.ignore_prediction": "miss",
    "masks.export": False,
    "masks.alpha": 0.5,
    "gallery.images": 500,
    "gallery.long_side": 640,
    "compute.channels_last": False,
    "compute.workers": 2,
}
UNUSED_BY_VOC2012 = (
    "dataset.coco.",
    "dataset.folder.",
    "dataset.demo.",
    "saliency.u2netp.",
    "saliency.u2net.",
    "saliency.centre_prior.",
    "cam.files.",
    "pseudo_labels.files.",
    "resources.",
    "figures.",
)


def test_voc2012_is_the_setting_of_the_paper():
    merged = leaves(plain(load([CONFIG_YAML, CONFIG / "voc2012.yaml"])))
    used = {key: value for key, value in merged.items() if not key.startswith(UNUSED_BY_VOC2012)}
    assert used == VOC2012


def test_coco_has_the_setting_of_voc_but_for_the_data_set():
    """The paper gives one setting; the annotations' years and the numbers of jobs differ."""
    same = {key: value for key, value in VOC2012.items() if not key.startswith("dataset.")}
    for year in ("2014", "2017"):
        merged = leaves(plain(load([CONFIG_YAML, CONFIG / f"coco{year}.yaml"])))
        own = {"shards": 64, "saliency.maps.folder": "$COCO_SALIENCY"}
        assert {key: merged[key] for key in same} == same | own
        data = {key: merged[f"dataset.{key}"] for key in ("name", "format", "root", "classes")}
        assert data == {
            "name": f"coco{year}",
            "format": "coco",
            "root": "$COCO_ROOT",
            "classes": None,
        }
        section = {key.rpartition(".")[2]: merged[key] for key in merged if "dataset.coco." in key}
        assert section == {
            "train_images": f"train{year}",
            "val_images": f"val{year}",
            "test_images": None,
            "train_annotations": f"annotations/instances_train{year}.json",
            "val_annotations": f"annotations/instances_val{year}.json",
            "train_list": None,
            "val_list": None,
            "test_list": None,
            "masks": "smallest_on_top",
            "masks_folder": "masks",
            "unannotated": "drop",
        }


def test_official_differs_from_paper_as_the_released_code_does():
    paper, official = leaves(read_recipe("paper")), leaves(read_recipe("official"))
    assert {key: value for key, value in official.items() if value != paper[key]} == {
        "network.design": "official",
        "pseudo_labels.background": "updated",
        "stage.epochs": 15,
        "stage.learning_rate": 0.0007,
        "stage.momentum": 0.00001,
        "stage.weight_decay": 0,
        "stage.label_padding": 0,
        "prediction.scales": [1],
    }


def test_animals_have_six_classes_and_run_anywhere():
    config = load([CONFIG_YAML, CONFIG / "voc2012-animals.yaml"])
    assert config.dataset.classes == ("cat", "cow", "dog", "horse", "person", "sheep")
    assert (config.backbone.name, config.stages, config.device) == ("efficientnet_lite0", 3, "auto")
    assert config.saliency.source == "u2netp"


def test_folder_exports_masks_of_every_photograph():
    config = load([CONFIG_YAML, CONFIG / "folder.yaml"])
    assert config.masks.export is True
    assert config.prediction.splits == ("train", "val", "test")
    assert (config.dataset.format, config.dataset.root) == ("folder", "$PHOTOS")
