"""The configuration: what users write, what they are told, and what the recipes say."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from wsss.configuration import (
    load,
    merge,
    read_recipe,
    read_schema,
    read_yaml,
    recipe_names,
    resolve,
    schema_defaults,
    variant_config,
)
from wsss.crf import SALIENCY_CRF, SEGMENTATION_CRF
from wsss.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = REPOSITORY / "config"
CONFIG_YAML = REPOSITORY / "config.yaml"
OVERLAYS = sorted(path for path in CONFIG.glob("*.yaml") if path.name != "schema.yaml")
BY_USER = {"dataset.name", "dataset.format", "recipe", "stages"}
MINIMAL = {"dataset": {"name": "toy", "format": "demo"}, "recipe": "demo", "stages": 3}


@pytest.fixture(autouse=True)
def folders(monkeypatch):
    monkeypatch.setenv("VOC_ROOT", "/data/voc")
    monkeypatch.setenv("VOC_SALIENCY", "/data/saliency")
    monkeypatch.setenv("COCO_ROOT", "/data/coco")
    monkeypatch.setenv("COCO_SALIENCY", "/data/coco/saliency")
    monkeypatch.setenv("PHOTOS", "/data/photos")


def leaves(values, prefix=""):
    """Dotted key -> value of nested dicts; `variants` is one value, whatever is in it."""
    found = {}
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict) and dotted != "variants":
            found |= leaves(value, f"{dotted}.")
        else:
            found[dotted] = value
    return found


def schema_leaves(schema, prefix=""):
    """Dotted key -> schema of every setting that is not a section."""
    found = {}
    for key, part in schema["properties"].items():
        dotted = f"{prefix}{key}"
        found |= schema_leaves(part, f"{dotted}.") if "properties" in part else {dotted: part}
    return found


def sections(schema):
    yield schema
    for part in schema["properties"].values():
        if "properties" in part:
            yield from sections(part)


def refusal(change):
    """The error line for the minimal configuration with a change."""
    with pytest.raises(InputError) as caught:
        resolve(merge(MINIMAL, change))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- schema and config.yaml --------------------------------------------------------------------


def test_every_section_is_closed_and_requires_what_has_no_default():
    for section in sections(read_schema()):
        assert section["additionalProperties"] is False
        bare = {
            key
            for key, part in section["properties"].items()
            if "default" not in part and "properties" not in part
        }
        assert set(section.get("required", [])) == bare


def numbers(part, where=""):
    """(where, schema) of everything in a schema that may be a number."""
    types = part.get("type", [])
    if {"integer", "number"} & set([types] if isinstance(types, str) else types):
        yield where, part
    for key, inner in part.items():
        for name, item in enumerate(inner) if isinstance(inner, list) else [("", inner)]:
            if isinstance(item, dict):
                yield from numbers(item, f"{where}.{key}{name}")


def test_every_number_has_both_limits():
    found = dict(numbers(read_schema()))
    assert len(found) > 80
    free = {where: part for where, part in found.items() if "enum" not in part}
    unlimited = [
        where
        for where, part in free.items()
        if not {"minimum", "exclusiveMinimum"} & set(part)
        or not {"maximum", "exclusiveMaximum"} & set(part)
    ]
    assert unlimited == []


def test_every_key_is_described():
    for section in sections(read_schema()):
        assert all(part.get("description") for part in section["properties"].values())


def test_defaults_pass_their_own_schema():
    assert leaves(schema_defaults(read_schema())).items() <= leaves(resolve(MINIMAL)).items()


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
    documented = leaves(uncommented())
    schema = schema_leaves(read_schema())
    assert documented.keys() == schema.keys()
    for key in schema.keys() - BY_USER:
        # keys of the recipe stand without a value
        assert documented[key] == schema[key].get("default"), key
    recipe = set(re.findall(r"(\w+): +# \(recipe\)", CONFIG_YAML.read_text(encoding="utf-8")))
    assert recipe == {
        key.rpartition(".")[2] for key in schema.keys() - BY_USER if "default" not in schema[key]
    }


def test_every_key_of_config_yaml_is_explained():
    lines = CONFIG_YAML.read_text(encoding="utf-8").splitlines()
    keys = [line for line in lines if re.match(r" *(#(?! \S))? *\w+:( |$)", line)]
    assert len(keys) >= len(schema_leaves(read_schema()))
    assert [line for line in keys if not re.search(r" # \S", line)] == []


def test_choices_of_the_schema_are_what_the_code_offers():
    from model.auxsegnet import AFFINITIES, ATTENTION_STARTS, BRANCHES
    from model.backbones import BACKBONES
    from model.recipes import RECIPES
    from wsss.datasets.formats import FORMATS
    from wsss.saliency import SOURCES

    schema = schema_leaves(read_schema())
    assert set(schema["network.branches"]["enum"]) == set(BRANCHES) - {"cls"}
    assert set(schema["network.affinity"]["enum"]) == set(AFFINITIES)
    assert set(schema["network.attention_start"]["enum"]) == set(ATTENTION_STARTS)
    assert set(schema["network.recipe"]["enum"]) == set(RECIPES)
    assert set(schema["backbone.name"]["enum"]) == set(BACKBONES)
    assert set(schema["dataset.format"]["enum"]) == set(FORMATS)
    assert set(schema["saliency.source"]["enum"]) == set(SOURCES)


# --- precedence --------------------------------------------------------------------------------


def test_user_over_recipe_over_default():
    config = resolve(merge(MINIMAL, {"recipe": "paper", "stage": {"epochs": 7}}))
    assert config["stage"]["epochs"] == 7  # user
    assert config["stage"]["crop"] == 321  # recipe, kept beside the user's key
    assert config["stage"]["loss_weights"]["saliency"] == 1  # schema default


def test_only_the_classifier_may_go_untrained():
    assert resolve(merge(MINIMAL, {"classifier": {"epochs": 0}}))["classifier"]["epochs"] == 0
    message = refusal({"stage": {"epochs": 0}, "classifier": {"epochs": -1}})
    assert "stage.epochs: must be at least 1, not 0" in message
    assert "classifier.epochs: must be at least 0, not -1" in message


def test_files_merge_in_order_and_lists_replace(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(yaml.safe_dump(merge(MINIMAL, {"seeds": [0, 1, 2], "shards": 4})))
    second.write_text("seeds: [7]\nprediction: {crf: {iterations: 5}}\n")
    config = load([first, second])
    assert (config["seeds"], config["shards"]) == ([7], 4)
    assert config["prediction"]["crf"]["iterations"] == 5
    assert config["prediction"]["crf"]["bilateral_sxy"] == 83
    assert load([second, first])["seeds"] == [0, 1, 2]


def test_resolve_leaves_its_argument_and_shares_nothing_with_it():
    user = merge(MINIMAL, {"seeds": [1]})
    before = json.dumps(user)
    config = resolve(user)
    config["seeds"].append(2)
    config["stage"]["frozen"].clear()
    assert json.dumps(user) == before
    assert resolve(user)["stage"]["frozen"]


def test_resolved_twice_is_resolved():
    config = resolve(MINIMAL)
    assert resolve(config) == config


def test_variants_of_the_user_replace_the_default_one():
    assert list(resolve(MINIMAL)["variants"]) == ["auxsegnet"]
    config = resolve(merge(MINIMAL, {"variants": {"plain": {"stages": 1}}}))
    assert list(config["variants"]) == ["plain"]


# --- variants ----------------------------------------------------------------------------------


def test_variant_overrides_deeply_and_leaves_the_rest():
    change = {"variants": {"auxsegnet": {}, "wide": {"prediction": {"crf": {"iterations": 3}}}}}
    config = resolve(merge(MINIMAL, change))
    wide = variant_config(config, "wide")
    assert wide["prediction"]["crf"]["iterations"] == 3
    assert wide["prediction"]["crf"]["bilateral_srgb"] == 5
    assert variant_config(config, "auxsegnet") == config
    assert config["prediction"]["crf"]["iterations"] == 10


def test_unknown_variant_is_refused():
    with pytest.raises(InputError, match=r"no variant 'x' .*auxsegnet"):
        variant_config(resolve(MINIMAL), "x")


@pytest.mark.parametrize("section", ["classifier", "cam", "backbone", "saliency", "seeds"])
def test_variant_cannot_change_what_variants_share(section):
    message = refusal({"variants": {"x": {section: {}}}})
    assert message.startswith(f"variants.x.{section}: ")
    assert "share" in message


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
    assert variant_config(config, "x")["network"]["affinity"] == network["affinity"]


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
        ({"stages": 6}, "stages: must be at most 5, not 6"),
        ({"stages": 0}, "stages: must be at least 1, not 0"),
        ({"stages": True}, "stages: must be a whole number, not True"),
        ({"stages": 2.0}, "stages: must be a whole number, not 2.0"),
        ({"stages": "3"}, "stages: '3' is text in YAML; write 3"),
        ({"shards": "1e3"}, "shards: '1e3' is text in YAML; write 1000"),
        (
            {"stage": {"learning_rate": "1e-3"}},
            "stage.learning_rate: '1e-3' is text in YAML; write 1.0e-3",
        ),
        ({"stage": {"later_learning_rate": "2.5E4"}}, "write 2.5e+4"),
        ({"stage": {"learning_rate": 0}}, "stage.learning_rate: must be above 0, not 0"),
        ({"stage": {"learning_rate": float("nan")}}, "stage.learning_rate: must be a number"),
        ({"stage": {"learning_rate": float("inf")}}, "stage.learning_rate: must be a number"),
        ({"stage": {"momentum": 1}}, "stage.momentum: must be below 1, not 1"),
        ({"stage": {"label_padding": 128}}, "stage.label_padding: must be one of 255, 0, not 128"),
        ({"stage": {"random_scale": [1.3, 0.7]}}, "stage.random_scale: the first value (1.3)"),
        ({"stage": {"random_scale": [1.0]}}, "stage.random_scale: must have at least 2 values"),
        (
            {"stage": {"batch_size": 8}, "resources": {"train": {"gpu": 3}}},
            "stage.batch_size: 8 images cannot be shared evenly by resources.train.gpu: 3 GPUs",
        ),
        ({"seeds": [2**32]}, "seeds[0]: must be at most 4000000000, not 4294967296"),
        ({"classifier": {"batch_size": 10**18}}, "classifier.batch_size: must be at most 4096"),
        ({"stage": {"head_multiplier": 1e300}}, "stage.head_multiplier: must be at most 10000"),
        ({"prediction": {"crf": {"gaussian_sxy": 1e-6}}}, "gaussian_sxy: must be at least 0.01"),
        ({"resources": {"infer": {"gpu": 2}}}, "resources.infer.gpu: must be at most 1, not 2"),
        ({"stage": None}, "stage: is an empty section"),
        ({"stage": 5}, "stage: must be a section"),
        ({"stage": {"epochs": None}}, "stage.epochs: has no value; write a whole number"),
        ({"cam": {"scales": [1.0, -1]}}, "cam.scales[1]: must be at least 0.1, not -1"),
        ({"cam": {"scales": 1.0}}, "cam.scales: must be a list, not 1.0"),
        ({"cam": {"flip": "yes"}}, "cam.flip: must be true or false, not 'yes'"),
        ({"seeds": [0, 3, 3]}, "seeds: has 3 more than once"),
        ({"seeds": []}, "seeds: must have at least 1"),
        ({"dataset": {"classes": ["cat", "cat"]}}, "dataset.classes: has 'cat' more than once"),
        ({"dataset": {"classes": [False]}}, "dataset.classes[0]: must be text, not false"),
        ({"dataset": {"classes": ["background"]}}, "dataset.classes: background is always there"),
        ({"dataset": {"name": "../x"}}, "dataset.name: '../x' does not fit: a name of letters"),
        ({"dataset": {"name": "x\n"}}, "dataset.name: 'x\\n' does not fit"),
        (
            {"dataset": {"name": "a1" * 33}},
            "does not fit: a name of letters, digits, - and _, at most",
        ),
        ({"dataset": {"name": "x" + "ab" * 20}}, "without an end that repeats 20 times"),
        ({"variants": {"a" * 400: {}}}, f"variants: '{'a' * 119}... does not fit: a name of"),
        ({"dataset": {"root": "~\0"}}, r"dataset.root: '~\x00' does not fit: text without control"),
        ({"dataset": {"root": "a\0b"}}, "dataset.root: 'a"),
        ({"dataset": {"root": "\ud800"}}, r"dataset.root: '\ud800' does not fit"),
        ({"dataset": {"root": "a" * 1001}}, "dataset.root: must have at most 1000 letters, not"),
        ({"dataset": {"classes": ["\ud800"]}}, r"dataset.classes[0]: '\ud800' does not fit"),
        ({"backbone": {"weights": "{a}.pth"}}, "backbone.weights: '{a}.pth' does not fit: a path"),
        ({"saliency": {"u2netp": {"weights": "a}"}}}, "saliency.u2netp.weights: 'a}' does not fit"),
        ({"cam": {"files": {"pattern": "\ud800{image_id}"}}}, "cam.files.pattern: '"),
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
                "../{image_id}.png",
                "a/../{image_id}.png",
                "{image_id}/{image_id}.png",
                "{id}_{image_id}.png",
                "a\n..{image_id}.png",
                "{image_id}.png\n",
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
        ({"cam": {"files": {"pattern": "../{image_id}"}}}, "cam.files.pattern: '../{image_id}'"),
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
        ({"variants": {}}, "variants: must not be empty"),
        ({"variants": {"x": None}}, "variants.x: is an empty section"),
        ({"variants": {"a/b": {}}}, "variants: 'a/b' does not fit: a name of letters"),
        ({"variants": {1: {}}}, "variants: must be text, not 1"),
        ({"variants": {"classifier": {}}}, "variants.classifier: the results folder"),
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
    assert config["dataset"][section]["masks"] is None


@pytest.mark.parametrize("pattern", ["{image_id}_sal.png", "DSS/{image_id}.png", "{image_id}"])
def test_patterns_of_saliency_collections_are_accepted(pattern):
    config = resolve(merge(MINIMAL, {"saliency": {"maps": {"pattern": pattern}}}))
    assert config["saliency"]["maps"]["pattern"] == pattern


def test_every_stage_has_a_seed_that_numpy_takes():
    stages, seeds = (read_schema()["properties"][key] for key in ("stages", "seeds"))
    highest = seeds["items"]["maximum"] + 1000 * stages["maximum"]
    np.random.RandomState(highest)  # as train_stage adds them
    with pytest.raises(ValueError, match="Seed must be"):
        np.random.RandomState(2**32)


def test_what_is_written_right_is_accepted():
    change = {"stage": {"learning_rate": 1.0e-3, "later_learning_rate": None}, "seeds": [3, 1]}
    assert resolve(merge(MINIMAL, change))["seeds"] == [3, 1]


@pytest.mark.parametrize(
    "text, message",
    [
        ("stages: 3\nstages: 4\n", r"line 2: the key 'stages' stands twice"),
        ("stage:\n  epochs: 3\n  crop: 64\n  epochs: 4\n", r"line 4: the key 'epochs'"),
        ("- a\n- b\n", r"must hold key: value lines"),
        ("stage: [1,\n", r"file.yaml, line \d"),
        ("a: !!python/object/apply:os.getcwd []\n", r"could not determine a constructor"),
        # What PyYAML itself answers with errors of seven kinds.
        ("a: 1\nname: 2020-99-99\n", r"line 2: '2020-99-99' cannot be read as timestamp \(month"),
        ("a: 0x_\n", r"line 1: '0x_' cannot be read as int"),
        ("a: 0b_\n", r"line 1: '0b_' cannot be read as int"),
        ("a: !!int abc\n", r"line 1: 'abc' cannot be read as int .*put text in quotes"),
        ("a: !!float abc\n", r"line 1: 'abc' cannot be read as float"),
        ("a: !!bool maybe\n", r"line 1: 'maybe' cannot be read as bool; correct it"),
        ("a: !!timestamp abc\n", r"line 1: 'abc' cannot be read as timestamp; correct it"),
        ("a: !!map abc\n", r"line 1: expected a mapping"),
        ('\na: "\\UFFFFFFFF"\n', r"line 2: is not YAML"),
        (f"a: {'1' * 5000}\n", r"line 1: '1{40}' cannot be read as int"),
        (f"a: 0x{'f' * 5000}\n", r"a: a number of too many digits"),
        (f"a: {'[' * 3000}{']' * 3000}\n", r"line 1: sections or lists are nested more than 20"),
        (f"a: {'[' * 30}{']' * 30}\n", r"a: sections or lists are nested more than 20 deep"),
        ("a: {b: &c [*c]}\n", r"a\.b: sections or lists .* one holds itself"),
        ("a: &c {b: *c}\n", r"a\.b\.b\.b: sections or lists .* one holds itself"),
        (
            "a0: &a0 [1, 2]\n"
            + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]\n" for i in range(1, 10)),
            r"more than 100,000 values",
        ),
    ],
    ids=lambda text: text[:40],
)
def test_files_that_are_refused(tmp_path, text, message):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load([path])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [10**400, -(16**5000)], ids=["long", "not to be shown"])
def test_numbers_that_no_float_holds_are_refused_wherever_they_are(number):
    for change in ({"seeds": [0, number]}, {"x": {number: 1}}, {number: 1}):
        with pytest.raises(InputError, match=r": a number of too many digits"):
            resolve({**MINIMAL, **change})


def test_values_that_hold_themselves_are_refused_from_a_command_line_too():
    seeds = []
    seeds.append(seeds)
    network = {}
    network["branches"] = network
    for key, value in {"seeds": seeds, "network": network}.items():
        with pytest.raises(InputError, match=rf"^{key}.*holds itself"):
            resolve({**MINIMAL, key: value})


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"absent\.yaml: cannot be read"):
        load([tmp_path / "absent.yaml"])
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"binary\.yaml: is not UTF-8"):
        load([tmp_path / "binary.yaml"])


def test_paths_expand_variables_and_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    data = {"name": "toy", "format": "folder", "root": "${PHOTOS}/all"}
    change = {"dataset": data, "backbone": {"weights": "~/w.pth"}}
    config = resolve(merge(MINIMAL, change))
    assert config["dataset"]["root"] == "/data/photos/all"
    assert config["backbone"]["weights"] == "/home/me/w.pth"


@pytest.mark.parametrize(
    "value, message", [("/a{b}", "a path without { and }"), ("/\x1b", "without { and }")]
)
def test_what_a_variable_holds_is_looked_at_too(monkeypatch, value, message):
    monkeypatch.setenv("FOLDER", value)
    assert message in refusal({"backbone": {"weights": "$FOLDER/w.pth"}})


def test_lists_of_voc_keep_their_variables_and_must_have_them_set(monkeypatch):
    """So that a data set that moves is the same setting."""
    data = {"name": "toy", "format": "voc", "root": "/data"}
    lists = {"voc": {"train_list": "$LISTS/train.txt", "labels": "$LISTS/labels.npy"}}
    change = {"dataset": data | lists}
    assert refusal(change).startswith("dataset.voc.train_list: the environment variable LISTS")
    monkeypatch.setenv("LISTS", "/lists")
    assert resolve(merge(MINIMAL, change))["dataset"]["voc"]["labels"] == "$LISTS/labels.npy"


@pytest.mark.parametrize("value", [None, ""])
def test_unset_variable_is_named_where_it_is_used(monkeypatch, value):
    monkeypatch.delenv("VOC_SALIENCY")
    if value is not None:
        monkeypatch.setenv("VOC_SALIENCY", value)
    maps = {"saliency": {"source": "maps", "maps": {"folder": "$VOC_SALIENCY"}}}
    assert refusal(maps).startswith("saliency.maps.folder: the environment variable VOC_SALIENCY")
    maps["saliency"]["source"] = "u2netp"  # then nobody asks for the folder
    assert resolve(merge(MINIMAL, maps))["saliency"]["source"] == "u2netp"


def test_folders_of_other_tools_expand_where_they_are_used(monkeypatch):
    files = {"folder": "$VOC_ROOT/cams"}
    config = resolve(merge(MINIMAL, {"cam": {"source": "files", "files": files}}))
    rest = {"pattern": "{image_id}.npy", "normalise": "auto"}
    assert config["cam"]["files"] == {"folder": "/data/voc/cams"} | rest
    assert resolve(merge(MINIMAL, {"cam": {"files": {"folder": "$NOT_SET"}}}))  # not asked for
    labels = {"pseudo_labels": {"initial": "files", "files": {"folder": "$VOC_ROOT/labels"}}}
    config = resolve(merge(MINIMAL, {"variants": {"fused": {}, "given": labels}}))
    given = variant_config(config, "given")["pseudo_labels"]
    assert given["files"] == {"folder": "/data/voc/labels", "pattern": "{image_id}.png"}
    assert variant_config(config, "fused")["pseudo_labels"]["files"]["folder"] is None
    monkeypatch.delenv("VOC_ROOT")
    message = refusal({"variants": {"given": labels}})
    assert message.startswith("variants.given.pseudo_labels.files.folder: the environment variable")


# --- recipes and overlays ----------------------------------------------------------------------


def test_recipes_are_the_four():
    assert recipe_names() == ["compact", "demo", "official", "paper"]


@pytest.mark.parametrize("name", ["compact", "demo", "official", "paper"])
def test_recipes_set_exactly_the_keys_without_default(name):
    schema = schema_leaves(read_schema())
    bare = {key for key, part in schema.items() if "default" not in part} - BY_USER
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


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_nothing_of_the_demo_leaks_into_an_overlay(overlay):
    assert load([CONFIG_YAML, overlay]) == load([overlay])
    demo, merged = leaves(read_recipe("demo")), leaves(load([CONFIG_YAML, overlay]))
    own = leaves(read_recipe(merged["recipe"])) | leaves(read_yaml(overlay))
    assert merged["recipe"] != "demo"
    assert [key for key in demo if merged[key] != own[key]] == []


# Xu et al. 2021, section 4, and the released code where the paper is silent.
VOC2012 = {
    "dataset.name": "voc2012",
    "dataset.format": "voc",
    "dataset.root": "/data/voc",
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
    "saliency.maps.folder": "/data/saliency",
    "saliency.maps.pattern": "{image_id}.png",
    "backbone.name": "resnet38",
    "backbone.output_stride": 8,
    "backbone.weights": "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params",
    "network.recipe": "paper",
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
    "cam.source": "classifier",
    "cam.scales": [1, 0.5, 1.5, 2],
    "cam.flip": True,
    "pseudo_labels.initial": "fusion",
    "pseudo_labels.cam_threshold": 0.2,
    "pseudo_labels.saliency_threshold": 0.06,
    "pseudo_labels.background": "off_the_shelf",
    "pseudo_labels.saliency_crf.iterations": 1,
    "pseudo_labels.saliency_crf.gaussian_sxy": 3,
    "pseudo_labels.saliency_crf.gaussian_compat": 3,
    "pseudo_labels.saliency_crf.bilateral_sxy": 60,
    "pseudo_labels.saliency_crf.bilateral_srgb": 5,
    "pseudo_labels.saliency_crf.bilateral_compat": 5,
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
    "evaluation.ignore_prediction": "miss",
    "masks.export": False,
    "masks.alpha": 0.5,
    "compute.channels_last": False,
    "compute.workers": 2,
}
UNUSED_BY_VOC2012 = (
    "dataset.coco.",
    "dataset.folder.",
    "dataset.demo.",
    "saliency.u2netp.",
    "cam.files.",
    "pseudo_labels.files.",
    "resources.",
)


def test_default_crfs_are_those_of_the_functions():
    config = load([CONFIG_YAML])
    assert config["pseudo_labels"]["saliency_crf"] == SALIENCY_CRF
    assert config["prediction"]["crf"] == SEGMENTATION_CRF


def test_voc2012_is_the_setting_of_the_paper():
    merged = leaves(load([CONFIG_YAML, CONFIG / "voc2012.yaml"]))
    used = {key: value for key, value in merged.items() if not key.startswith(UNUSED_BY_VOC2012)}
    assert used == VOC2012


def test_coco_has_the_setting_of_voc_but_for_the_data_set():
    """The paper gives one setting; the annotations' years and the numbers of jobs differ."""
    same = {key: value for key, value in VOC2012.items() if not key.startswith("dataset.")}
    for year in ("2014", "2017"):
        merged = leaves(load([CONFIG_YAML, CONFIG / f"coco{year}.yaml"]))
        own = {"shards": 64, "saliency.maps.folder": "/data/coco/saliency"}
        assert {key: merged[key] for key in same} == same | own
        data = {key: merged[f"dataset.{key}"] for key in ("name", "format", "root", "classes")}
        assert data == {
            "name": f"coco{year}",
            "format": "coco",
            "root": "/data/coco",
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
        "network.recipe": "official",
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
    assert config["dataset"]["classes"] == ["cat", "cow", "dog", "horse", "person", "sheep"]
    assert (config["dataset"]["root"], config["device"]) == ("/data/voc", "auto")
    assert (config["backbone"]["name"], config["stages"]) == ("efficientnet_lite0", 4)
    assert config["saliency"]["source"] == "u2netp"


def test_folder_exports_masks_of_every_photograph():
    config = load([CONFIG_YAML, CONFIG / "folder.yaml"])
    assert config["masks"]["export"] is True
    assert config["prediction"]["splits"] == ["train", "val", "test"]
    assert (config["dataset"]["format"], config["dataset"]["root"]) == ("folder", "/data/photos")
