"""What the demo's images are made of: glyphs by class and split, surfaces, scenes."""

from dataclasses import dataclass

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
