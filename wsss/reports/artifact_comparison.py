"""Two artifacts side by side: what they were made with, and where what they hold differs."""

from collections import defaultdict
from math import inf

import numpy as np

from wsss.errors import InputError, listed
from wsss.reports.inspection import CLASS_MAPS, Artifact, line_of, number_text, table_lines
from wsss.storage.artifacts import IDENTITY_KEYS

NAMED = 3  # images that differ most, of each array
MADE_WITH = ("parameters", "versions")  # mappings of a header


def compare_artifacts(one: Artifact, other: Artifact) -> list[str]:
    """Lines on what differs between two artifacts of one kind.

    Raises:
        InputError: they are of different kinds.
    """
    if one.kind != other.kind:
        raise InputError(
            f"{one.path} holds {one.kind}, {other.path} holds {other.kind}; give two of one kind"
        )
    lines = [
        line_of("kind", one.kind),
        line_of("first", one.path),
        line_of("second", other.path),
        *_header_lines(one.header, other.header),
        *_id_lines(one, other),
    ]
    if one.header["content_digest"] == other.header["content_digest"]:
        return [*lines, line_of("content", "identical")]
    found = differences(one, other)
    return [*lines, "", *table_lines(_rows(one, found))] if found else lines


def _header_lines(mine, theirs):
    """A line for each part of the identity, of parameters and versions that is not the same."""
    pairs = [(key, mine.get(key), theirs.get(key)) for key in IDENTITY_KEYS]
    for section in MADE_WITH:
        a, b = mine[section], theirs[section]
        pairs += [(key, a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys())]
    return [line_of(key.replace("_", " "), f"{a}  |  {b}") for key, a, b in pairs if a != b]


def _id_lines(one, other):
    lines = [line_of("images", f"{sum(i in other.reader for i in one.ids)} in both")]
    for each, against in ((one, other), (other, one)):
        alone = [image_id for image_id in each.ids if image_id not in against.reader]
        if alone:
            lines.append(line_of("", f"{len(alone)} in {each.path} alone: {listed(alone, 6)}"))
    return lines


def differences(one: Artifact, other: Artifact) -> dict[str, dict[str, float]]:
    """How much each array differs in each image that both artifacts have.

    Returns:
        Name of the array (or of an attribute that is a number) -> image id -> the share of the
        pixels that are of another class for a label map, else the largest absolute difference;
        infinite where shapes differ, or only one of both has such an array. Of maps per class one
        that is missing counts as 0 everywhere.
    """
    found = defaultdict(dict)
    for image_id in one.ids:
        if image_id in other.reader:
            mine, theirs = _values(one, image_id), _values(other, image_id)
            for name in mine.keys() | theirs.keys():
                amount = _amount(mine.get(name), theirs.get(name), one.is_label_map(name))
                found[name][image_id] = amount
    return dict(found)


def _values(artifact, image_id):
    """Name -> array or number, or for maps per class a dict of them by class."""
    arrays, attributes = artifact.read(image_id)
    numbers = {key: np.float64(v) for key, v in attributes.items() if isinstance(v, int | float)}
    name, _ = CLASS_MAPS.get(artifact.kind, (None, False))
    if name in arrays:
        arrays[name] = dict(zip(attributes["keys"], arrays[name], strict=True))
    return arrays | numbers


def _amount(mine, theirs, is_label_map):
    if isinstance(mine, dict) and isinstance(theirs, dict):
        pairs = [(mine.get(key, 0), theirs.get(key, 0)) for key in mine.keys() | theirs.keys()]
        return max((_amount(a, b, is_label_map) for a, b in pairs), default=0.0)
    if mine is None or theirs is None:
        return inf
    if np.shape(mine) != np.shape(theirs) and np.ndim(mine) and np.ndim(theirs):
        return inf
    if is_label_map:
        return float(np.mean(mine != theirs))
    return float(np.max(np.abs(np.subtract(mine, theirs, dtype=np.float64)), initial=0))


def _rows(artifact, found):
    """A row an array: how many images differ, and those that do most."""
    rows = [("", "difference", "images", "differ", "most of all")]
    for name, amounts in sorted(found.items()):
        unit = "share of pixels" if artifact.is_label_map(name) else "absolute"
        differing = sorted((i for i in amounts if amounts[i] > 0), key=lambda i: -amounts[i])
        most = ", ".join(f"{i} {_amount_text(amounts[i])}" for i in differing[:NAMED])
        rows.append((name, unit, str(len(amounts)), str(len(differing)), most or "-"))
    return rows


def _amount_text(amount):
    return "(another shape)" if amount == inf else number_text(amount)
