"""What is in each image of the demo, decided before anything is drawn."""

from dataclasses import dataclass

import numpy as np

from wsss.configuration.data_sections import Demo
from wsss.datasets.demo.material import (
    ASPHALT,
    CLASSES,
    GLYPHS,
    HABITATS,
    HEDGE,
    RARE,
    SAND,
    SCENES,
    SEA,
    SOURCES,
    WALL,
    WHITEWASH,
    WOOD,
    Surface,
)

OBJECT_COUNTS = (0.40, 0.42, 0.18)  # how often 1, 2, 3 objects
AREAS = {1: (0.14, 0.38), 2: (0.09, 0.20), 3: (0.06, 0.12)}  # of the image, each object
PLACES = {  # centres along the long and the short side
    1: ((0.50, 0.52),),
    2: ((0.29, 0.50), (0.71, 0.54)),
    3: ((0.22, 0.48), (0.52, 0.60), (0.80, 0.46)),
}
HAZE = (0.08, 0.24)  # lightens the black outlines of the glyphs
AMBIENT = (0.05, 0.25)
BOARDS = 0.25  # share of images with a board
BOARD_SURFACES = (WALL, WHITEWASH, SAND, SEA, WOOD, HEDGE, ASPHALT)


@dataclass(frozen=True)
class Crop:
    """Rectangle of a source photograph, in its pixels."""

    source: str
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Layer:
    """A crop on its way to being a background."""

    surface: Surface
    crop: Crop
    mirrored: bool
    gain: float


@dataclass(frozen=True)
class Board:
    """A piece of another surface behind the objects: a mat, a sign, a wall. No label names it.

    Centre, width and height in fractions of the image, angle in degrees.
    """

    layer: Layer
    x: float
    y: float
    width: float
    height: float
    angle: float


@dataclass(frozen=True)
class PlacedGlyph:
    """One object: centre in fractions of the image, area as a fraction of it, angle in degrees."""

    class_name: str
    glyph: str
    x: float
    y: float
    area: float
    angle: float
    mirrored: bool
    hue: float
    saturation: float
    value: float
    haze: float
    ambient: float  # share of the background's colour that the object takes on


@dataclass(frozen=True)
class Composition:
    """Everything that is in one image. `objects` are drawn in this order, the last in front."""

    image_id: str
    split: str
    scene: str
    width: int
    height: int
    upper: Layer
    lower: Layer
    horizon: float
    board: Board | None
    fringe: float  # how much of the height the ground covers in front of the objects
    objects: tuple[PlacedGlyph, ...]
    seed: tuple[int, ...]


def plan(demo: Demo) -> list[Composition]:
    """Compositions of both splits, training images first."""
    return [
        *_plan_split("train", demo.train_images, demo.size, (demo.seed, 0)),
        *_plan_split("val", demo.val_images, demo.size, (demo.seed, 1)),
    ]


def _plan_split(split, count, size, seed):
    rng = np.random.default_rng(seed)
    firsts = _deck(CLASSES, count, rng)
    sizes = rng.permutation(np.arange(count) % 3 == 0)  # every third image stands upright
    glyphs = {name: _deck(GLYPHS[name][split], 3 * count, rng) for name in CLASSES}
    used = dict.fromkeys(CLASSES, 0)
    compositions = []
    for number in range(count):
        scene = _pick(SCENES, [_affinity(firsts[number], scene) for scene in SCENES], rng)
        names = _companions(firsts[number], scene, used, rng)
        chosen = [(name, glyphs[name].pop()) for name in names]
        width, height = size[::-1] if sizes[number] else size
        compositions.append(
            _compose(f"{split}_{number:04d}", split, scene, (width, height), chosen, rng)
        )
    return compositions


def _deck(items, count, rng):
    """`count` items in random order, each as often as the others, give or take one."""
    rounds = -(-count // len(items))
    return [item for _ in range(rounds) for item in rng.permutation(items).tolist()][:count]


def _pick(items, weights, rng):
    items, weights = list(items), np.asarray(weights, float)
    return items[rng.choice(len(items), p=weights / weights.sum())]


def _affinity(class_name, scene):
    return HABITATS[class_name].get(scene, RARE)


def _companions(first, scene, used, rng):
    """Class names of one image; those that belong to the scene and are behind come sooner."""
    names = [first]
    used[first] += 1
    for _ in range(_pick(range(3), OBJECT_COUNTS, rng)):
        lowest = min(used.values())
        weights = [_affinity(c, scene) * 0.6 ** (used[c] - lowest) for c in CLASSES]
        names.append(_pick(CLASSES, weights, rng))
        used[names[-1]] += 1
    return names


def _compose(image_id, split, scene, size, chosen, rng):
    upper, lower = SCENES[scene][rng.integers(len(SCENES[scene]))]
    return Composition(
        image_id=image_id,
        split=split,
        scene=scene,
        width=size[0],
        height=size[1],
        upper=_plan_layer(upper, split, size, rng),
        lower=_plan_layer(lower, split, size, rng),
        horizon=float(rng.uniform(0.25, 0.6)),
        board=_plan_board(split, size, rng) if rng.random() < BOARDS else None,
        fringe=float(rng.uniform(0.08, 0.2)) if rng.random() < 0.4 else 0.0,
        objects=_plan_objects(chosen, size, rng),
        seed=tuple(rng.integers(2**32, size=4).tolist()),
    )


def _plan_layer(surface, split, size, rng):
    """A crop of the source's part for the split, in the proportions of the image."""
    source = SOURCES[surface.source]
    x, y, width, height = getattr(source, split)
    aspect = size[1] / size[0] if source.turned else size[0] / size[1]
    crop_height = min(height, width / aspect) * rng.uniform(0.65, 1)
    crop_width, crop_height = int(crop_height * aspect), int(crop_height)
    crop = Crop(
        surface.source,
        x + int(rng.integers(width - crop_width + 1)),
        y + int(rng.integers(height - crop_height + 1)),
        crop_width,
        crop_height,
    )
    return Layer(surface, crop, bool(rng.random() < 0.5), float(rng.uniform(0.8, 1.15)))


def _plan_board(split, size, rng):
    surface = BOARD_SURFACES[rng.integers(len(BOARD_SURFACES))]
    return Board(
        layer=_plan_layer(surface, split, size, rng),
        x=float(rng.uniform(0.2, 0.8)),
        y=float(rng.uniform(0.2, 0.8)),
        width=float(rng.uniform(0.25, 0.6)),
        height=float(rng.uniform(0.25, 0.6)),
        angle=float(rng.normal(0, 8)),
    )


def _plan_objects(chosen, size, rng):
    """Spread the glyphs over the image; what stands lower is in front."""
    places = PLACES[len(chosen)]
    placed = []
    for (name, glyph), (along, across) in zip(chosen, rng.permutation(places), strict=True):
        along, across = along + rng.uniform(-0.06, 0.06), across + rng.uniform(-0.08, 0.08)
        x, y = (along, across) if size[0] >= size[1] else (across, along)
        placed.append(_plan_object(name, glyph, (x, y), AREAS[len(chosen)], rng))
    return tuple(sorted(placed, key=lambda object_: object_.y))


def _plan_object(name, glyph, centre, areas, rng):
    return PlacedGlyph(
        class_name=name,
        glyph=glyph,
        x=float(centre[0]),
        y=float(centre[1]),
        area=float(rng.uniform(*areas)),
        angle=float(rng.normal(0, 12)),
        mirrored=bool(rng.random() < 0.5),
        hue=float(rng.uniform(-10, 10)),
        saturation=float(rng.uniform(0.55, 1.0)),
        value=float(rng.uniform(0.75, 1.05)),
        haze=float(rng.uniform(*HAZE)),
        ambient=float(rng.uniform(*AMBIENT)),
    )
