"""The words the demo model knows, what they look like, and which combinations it must never see in training."""

from typing import Final

Rgb = tuple[int, int, int]

COLOURS: Final[dict[str, Rgb]] = {
    "red": (214, 38, 38),
    "orange": (245, 130, 30),
    "yellow": (250, 216, 50),
    "green": (44, 150, 62),
    "blue": (38, 84, 204),
    "purple": (126, 52, 168),
    "pink": (246, 140, 188),
    "brown": (120, 72, 36),
    "black": (20, 20, 22),
    "white": (246, 246, 246),
    "grey": (140, 142, 146),
    "turquoise": (60, 200, 196),
}
# Shades only name backgrounds.
SHADES: Final[dict[str, Rgb]] = {
    "dark blue": (16, 28, 92),
    "light blue": (154, 200, 246),
    "dark green": (12, 70, 34),
    "light green": (166, 226, 150),
}
BACKGROUNDS: Final[dict[str, Rgb]] = COLOURS | SHADES

# Weighted towards the commonest six, which stand sooner that way.
SHAPES: Final[dict[str, float]] = {
    "circle": 3.0,
    "square": 3.0,
    "triangle": 3.0,
    "star": 3.0,
    "heart": 2.5,
    "diamond": 2.0,
    "cross": 1.5,
    "ring": 1.5,
    "crescent": 1.5,
    "arrow": 1.5,
    "oval": 1.5,
}
# Each object with the colours it takes when the caption names none.
OBJECTS: Final[dict[str, tuple[str, ...]]] = {
    "house": ("white", "yellow", "red"),
    "car": ("red", "blue", "yellow"),
    "boat": ("brown", "red", "white"),
    "cat": ("grey", "black", "orange"),
    "fish": ("orange", "blue", "yellow"),
    "flower": ("pink", "red", "purple"),
    "tree": ("green",),
    "balloon": ("red", "yellow", "blue"),
    "mushroom": ("red", "brown"),
    "rocket": ("white", "grey", "red"),
    "cup": ("white", "blue", "turquoise"),
}
PLURALS: Final[dict[str, str]] = {"cross": "crosses", "fish": "fish"}
COUNTS: Final[dict[int, tuple[str, ...]]] = {1: ("one",), 2: ("two", "2"), 3: ("three", "3"), 4: ("four", "4")}

RELATIONS: Final[dict[str, tuple[str, ...]]] = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "on": ("on", "on top of", "standing on"),
    "inside": ("inside", "in"),
    "and": ("and", "next to", "beside"),
}
SCENES: Final[dict[str, tuple[str, ...]]] = {
    "beach": ("a beach", "a sandy beach by the sea"),
    "sea": ("the open sea", "the sea"),
    "night sky": ("a night sky with stars and a moon", "a starry night sky"),
    "mountains": ("snowy mountains", "mountains with snow"),
    "forest": ("a forest", "a green forest"),
    "desert": ("a desert", "a hot desert with sand dunes"),
    "city": ("a city skyline at night", "a city at night"),
    "sunset": ("a sunset over the sea", "a sunset"),
    "meadow": ("a meadow with flowers", "a green meadow"),
    "snow": ("a snowy field", "snow falling on a field"),
}
# Which objects belong in a scene, and the preposition that puts them there.
SCENE_OBJECTS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "beach": ("on", ("boat", "house", "car", "cat")),
    "sea": ("on", ("boat",)),
    "night sky": ("in", ("rocket", "balloon")),
    "mountains": ("in front of", ("house", "tree", "car")),
    "forest": ("in", ("house", "cat", "mushroom")),
    "desert": ("in", ("car", "rocket", "house")),
    "city": ("in front of", ("car", "cat", "rocket")),
    "sunset": ("at", ("boat", "balloon")),
    "meadow": ("in", ("house", "cat", "tree", "mushroom")),
    "snow": ("on", ("house", "tree", "car")),
}
STYLES: Final[tuple[str, ...]] = ("pixel art", "cartoon", "pastel", "sketch")
SIZES: Final[tuple[str, ...]] = ("small", "big")

# Never drawn in training, wherever the pair or triple occurs; the evaluation draws nothing else.
HELD_OUT_THINGS: Final[frozenset[tuple[str, str]]] = frozenset(
    {
        ("red", "star"),
        ("blue", "heart"),
        ("green", "circle"),
        ("yellow", "square"),
        ("purple", "triangle"),
        ("orange", "diamond"),
        ("pink", "cross"),
        ("white", "ring"),
        ("turquoise", "crescent"),
        ("black", "arrow"),
        ("brown", "oval"),
        ("white", "heart"),
        ("green", "car"),
        ("purple", "cat"),
        ("orange", "house"),
        ("pink", "fish"),
    }
)
HELD_OUT_BACKGROUNDS: Final[frozenset[tuple[str, str]]] = frozenset(
    {
        ("red", "white"),
        ("blue", "yellow"),
        ("green", "pink"),
        ("yellow", "purple"),
        ("purple", "orange"),
        ("orange", "blue"),
        ("pink", "black"),
        ("white", "green"),
        ("turquoise", "brown"),
        ("black", "turquoise"),
        ("brown", "grey"),
        ("grey", "red"),
    }
)
HELD_OUT_COUNTS: Final[frozenset[tuple[int, str]]] = frozenset(
    {(2, "triangle"), (2, "diamond"), (3, "circle"), (3, "heart"), (4, "square"), (4, "star")}
)
# Ordered: the colour of the first thing named, then of the second.
HELD_OUT_COLOUR_PAIRS: Final[frozenset[tuple[str, str]]] = frozenset(
    {
        ("red", "blue"),
        ("yellow", "purple"),
        ("green", "orange"),
        ("black", "pink"),
        ("white", "red"),
        ("blue", "green"),
        ("turquoise", "brown"),
        ("orange", "white"),
    }
)
