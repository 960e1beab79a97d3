"""Configurations at random: each is accepted, or refused in one line that names a key."""

import copy
import json
import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snakemake.io import PeriodicityDetector

from wsss.configuration import merge, read_schema, read_yaml, resolve, variant_config
from wsss.errors import InputError

MINIMAL = {"dataset": {"name": "toy", "format": "demo"}, "recipe": "demo", "stages": 3}
STABLE = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def small_numbers():
    """Hypothesis wants the denormal numbers that trainings in this process have switched off."""
    torch.set_flush_denormal(False)


# What no file, command line or Snakemake takes in some place or other.
ODD_TEXTS = [
    "{a}",
    "a{",
    "a\0b",
    "~\0",
    "\ud800",
    "a\nb",
    "\x1b[1m",
    "a" * 400,
    "ab" * 25,
    "é" * 90,
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.sampled_from([10**308, 10**309, -(10**400)])
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["$HOME", "${", "$", "~", "../..", "/", "{image_id}", "1e-3", "nan", "null"])
    | st.sampled_from(ODD_TEXTS)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def fitting(part):
    """Values that the schema of a setting admits, or nearly."""
    if "enum" in part:
        return st.sampled_from(part["enum"])
    types = part.get("type", "object")
    types = [types] if isinstance(types, str) else types
    low = part.get("minimum", part.get("exclusiveMinimum", 0))
    high = part.get("maximum", part.get("exclusiveMaximum", low + 1000))
    made = {
        "null": st.none(),
        "boolean": st.booleans(),
        "integer": st.integers(int(low), int(high)),
        "number": st.floats(low, high) | st.integers(int(low), int(high)),
        "string": st.sampled_from(["a", "folder/{image_id}.png", "$HOME/x", "Aa-1_"])
        | st.sampled_from(["a", *ODD_TEXTS]),
        "array": st.lists(
            fitting(part["items"]) if isinstance(part.get("items"), dict) else SCALARS,
            min_size=part.get("minItems", 0),
            max_size=part.get("maxItems", 4),
        ),
        "object": st.dictionaries(st.text(max_size=5), SCALARS, max_size=2),
    }
    return st.one_of([made[name] for name in types])


def leaves(schema, path=()):
    for key, part in schema["properties"].items():
        if "properties" in part:
            yield from leaves(part, (*path, key))
            yield (*path, key), None  # a value where a section should be
        else:
            yield (*path, key), part


KEYS = list(leaves(read_schema()))


def nested(path, value):
    for key in reversed(path):
        value = {key: value}
    return value


@st.composite
def changes(draw, fit):
    """One to four known keys with values."""
    made = {}
    for path, part in draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=4)):
        values = fitting(part) if fit and part is not None else VALUES
        made = merge(made, nested(path, draw(values)))
    return made


NAMES = st.sampled_from([key for path, _ in KEYS for key in path]) | st.text(max_size=8)
GARBLED = st.recursive(
    SCALARS, lambda inner: st.dictionaries(NAMES | SCALARS, inner, max_size=4), max_leaves=12
)


def accept_or_refuse(user):
    """Resolve a configuration; whether it was accepted."""
    before = copy.deepcopy(user)
    try:
        config = resolve(user)
        for name in config["variants"]:
            variant_config(config, name)
    except InputError as error:
        message = str(error)
        assert message.isprintable(), message
        # A dotted key stands before what is wrong with it; of odd names, something does.
        assert re.match(r".*?: .", message), message
        return False
    finally:
        assert repr(user) == repr(before)
    handed = json.dumps(config, sort_keys=True, ensure_ascii=False)  # as by rules to commands
    handed.encode()
    assert not re.search(r"\\u00[01]", handed)  # no process has such an argument
    for file in (config["backbone"]["weights"], config["saliency"]["u2netp"]["weights"]):
        assert not set("{}") & set(file)  # Snakemake would want wildcards
    for name in (config["dataset"]["name"], *config["variants"]):
        assert len(name) < 100 and not PeriodicityDetector().is_periodic(name)
    resolve(config)  # what is accepted is complete, and stays so
    return True


@pytest.fixture(scope="module")
def accepted():
    return []


@STABLE
@given(change=changes(fit=True))
def test_values_of_known_keys_that_nearly_fit(accepted, change):
    accepted.append(accept_or_refuse(merge(MINIMAL, change)))


def test_the_fuzzer_hits_both(accepted):
    if not accepted:
        pytest.skip("only after the test above")
    assert 0.1 < sum(accepted) / len(accepted) < 0.95


@STABLE
@given(change=changes(fit=False))
def test_any_values_of_known_keys(change):
    accept_or_refuse(merge(MINIMAL, change))


@STABLE
@given(garbled=st.dictionaries(NAMES | SCALARS, GARBLED, max_size=4))
def test_garbled_structures(garbled):
    accept_or_refuse(garbled)
    accept_or_refuse(merge(MINIMAL, garbled))


@STABLE
@given(override=st.dictionaries(NAMES, GARBLED, max_size=3))
def test_garbled_variants(override):
    accept_or_refuse(merge(MINIMAL, {"variants": {"one": override}}))


# Letters, and what it takes to spell values that YAML cannot make, and nesting without end.
YAML_LINES = st.text(alphabet="abstage:{}[]-&*!|>'\"#%@ \n\t0123,?\u2028\x85é", max_size=60)
YAML_KINDS = ("int", "float", "bool", "timestamp", "binary", "set", "map", "seq", "omap", "str")
YAML_WORDS = st.lists(
    st.sampled_from(
        ["a: ", "seeds: ", "- ", "\n", "  ", "{", "}", "[", "]", ", ", "<<: ", "&x ", "*x", '"']
        + [f"!!{kind} " for kind in YAML_KINDS]
        + ["0x", "0b", "_", "abc", ".", "1e", "1:", "-1", "2020-99-99", "T99:99:99", "=", "~"]
        + ["\\U", "\\x", "FFFFFFFF", "\\ud800", "\\0", "9" * 5000, "[" * 3000, "{a: " * 40]
    ),
    max_size=9,
).map("".join)


@STABLE
@given(text=YAML_LINES | YAML_WORDS | YAML_WORDS.map("a: {}".format))
def test_garbled_yaml(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        user = read_yaml(path)
    except InputError as error:
        assert str(path) in str(error) and str(error).isprintable()
        return
    assert isinstance(user, dict)
    accept_or_refuse(merge(MINIMAL, user))


@STABLE
@given(content=st.binary(max_size=40))
def test_bytes_for_yaml(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    path.write_bytes(content)
    try:
        read_yaml(path)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
