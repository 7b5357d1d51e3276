"""The catalogue of the bins that bintally draws: what each product is called, how big it is and in which colours it comes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np

from bintally.bins import Item

T = TypeVar("T")
Kind = Literal["box", "carton", "book", "case", "bag", "clear", "bottle", "jar", "tube", "card"]
Family = Literal["brown", "white", "dark", "warm", "cool"]
Colour = tuple[int, int, int]

# Share of each kind in the catalogue, and the range of its length, width and height in inches.
_KINDS: dict[Kind, tuple[float, tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "box": (0.22, (4.0, 11.0), (3.0, 8.0), (1.2, 4.5)),
    "carton": (0.12, (5.0, 12.0), (4.0, 9.0), (2.0, 6.0)),
    "book": (0.14, (7.0, 10.5), (5.0, 8.0), (0.5, 1.8)),
    "case": (0.08, (6.8, 7.6), (5.2, 5.6), (0.5, 0.8)),
    "bag": (0.12, (6.0, 12.0), (5.0, 9.0), (1.0, 3.5)),
    "clear": (0.15, (5.0, 11.0), (4.0, 8.0), (0.8, 3.0)),
    "bottle": (0.08, (5.0, 10.0), (1.8, 3.6), (1.8, 3.6)),
    "jar": (0.04, (3.5, 6.5), (3.0, 5.0), (3.0, 5.0)),
    "tube": (0.04, (6.0, 12.0), (1.2, 2.6), (1.2, 2.6)),
    "card": (0.04, (5.5, 10.0), (3.2, 6.0), (0.5, 1.2)),
}
_ROUND = frozenset({"bottle", "jar", "tube"})

# As the thing is painted, before the camera takes most of the contrast away.
_PALETTE: dict[Family, tuple[Colour, ...]] = {
    "brown": ((168, 122, 84), (150, 106, 72), (184, 142, 104), (132, 92, 62)),
    "white": ((222, 218, 212), (206, 200, 192), (184, 182, 180), (226, 222, 206)),
    "dark": ((30, 28, 30), (42, 40, 46), (24, 30, 48), (56, 46, 42)),
    "warm": ((160, 52, 46), (184, 112, 62), (186, 124, 134), (128, 52, 74), (190, 160, 80)),
    "cool": ((54, 80, 128), (98, 138, 168), (52, 98, 82), (76, 126, 128), (92, 74, 118), (118, 142, 92)),
}
_FAMILY_SHARE: dict[Family, float] = {"brown": 0.1, "white": 0.27, "dark": 0.35, "warm": 0.13, "cool": 0.15}

_MAKERS: tuple[str, ...] = (
    "Alder",
    "Brightwell",
    "Corvo",
    "Dunmore",
    "Everfield",
    "Fennick",
    "Greyline",
    "Halden",
    "Ivora",
    "Juno",
)
_MAKERS += ("Kestrel", "Lumen", "Marlowe", "Northbay", "Oakes", "Pryor", "Quill", "Rookwood", "Sable", "Tamsin")
_TRAITS: tuple[str, ...] = (
    "Classic",
    "Compact",
    "Deluxe",
    "Essential",
    "Folding",
    "Heavy Duty",
    "Kids",
    "Mini",
    "Natural",
    "Original",
)
_TRAITS += ("Portable", "Premium", "Pro", "Quiet", "Soft", "Travel", "Ultra", "Vintage", "Waterproof", "Wireless")
_NOUNS: dict[Kind, tuple[str, ...]] = {
    "box": (
        "Desk Lamp",
        "Router",
        "Tea Kettle",
        "Board Game",
        "Headphones",
        "Puzzle",
        "Coffee Grinder",
        "Brake Pads",
    ),
    "carton": ("Storage Rack", "Oil Filter", "Shower Head", "Door Lock", "Shelf Brackets", "Water Filter", "Toolbox"),
    "book": (
        "A Field Guide",
        "The Long Winter",
        "Cooking for Two",
        "Maps and Makers",
        "A History",
        "The Last Harbor",
    ),
    "case": ("The Complete Series (DVD)", "Live in Concert (CD)", "Racing Game", "The Feature (Blu-ray)"),
    "bag": ("T-Shirt", "Pillow Case", "Raincoat", "Fleece Blanket", "Yoga Pants", "Backpack", "Bath Towel"),
    "clear": ("Scarf", "Cable Organizer", "Party Decorations", "Craft Beads", "Dog Leash", "Curtain Tiebacks"),
    "bottle": ("Shampoo", "Multivitamin", "Dish Soap", "Hand Lotion", "Maple Syrup", "Cleaner Spray"),
    "jar": ("Protein Powder", "Coconut Oil", "Paint", "Snack Mix", "Wax", "Fish Food"),
    "tube": ("Poster Tube", "Foam Roller", "Gift Wrap", "Flashlight", "Umbrella"),
    "card": ("Markers", "Screwdriver", "Earbuds", "Phone Case", "Toy Car", "Batteries"),
}
_COLOURS = ("Black", "Blue", "Green", "Grey", "Natural", "Red", "White")
_LETTERS = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One product of the drawn catalogue.

    Attributes:
        number: its place in the catalogue.
        kind: what kind of thing it is, which says how it is drawn.
        family: the family of its main colour.
        asin: the catalogue's number; of books all digits, as ISBNs are.
        sku: the seller's key; usually the same as `asin`.
        name: what the record calls it.
        size_in: length, width, height in inches, longest first.
        weight_lb: weight in pounds, None for the few that the record has none of.
        colours: main, second and ink colour, R, G, B.
        look_seed: seeds everything else about how it looks.
    """

    number: int
    kind: Kind
    family: Family
    asin: str
    sku: str
    name: str
    size_in: tuple[float, float, float]
    weight_lb: float | None
    colours: tuple[Colour, Colour, Colour]
    look_seed: int

    def item(self, quantity: int) -> Item:
        """The product as a line of a bin's record."""
        return Item(
            sku=self.sku,
            asin=self.asin,
            name=self.name,
            quantity=quantity,
            size_in=self.size_in,
            weight_lb=self.weight_lb,
        )


@lru_cache(maxsize=4096)
def make_product(seed: int, number: int) -> Product:
    """The product of that number in the catalogue of that seed: always the same one."""
    rng = np.random.default_rng([seed, 7_001, number])
    kind = which(rng, {kind: share for kind, (share, *_) in _KINDS.items()})
    family: Family = "brown" if kind == "carton" else which(rng, _FAMILY_SHARE)
    asin = _asin(rng, kind, number)
    sku = asin if rng.random() < 0.85 else "X00" + _letters(rng, 7)
    size_in = _size(rng, kind)
    # Paper and liquids weigh the most for their size.
    density = {"book": 0.035, "bottle": 0.03, "jar": 0.03, "bag": 0.008, "clear": 0.008}.get(kind, 0.016)
    weight = round(math.prod(size_in) * density * float(rng.uniform(0.6, 1.4)) + 0.05, 2)
    return Product(
        number=number,
        kind=kind,
        family=family,
        asin=asin,
        sku=sku,
        name=_name(rng, kind),
        size_in=size_in,
        weight_lb=None if rng.random() < 0.025 else weight,
        colours=_colours(rng, family),
        look_seed=int(rng.integers(1 << 31)),
    )


def which(rng: np.random.Generator, weights: dict[T, float]) -> T:
    """One of the keys, by weight. `Generator.choice` takes ten times as long for so few."""
    left = rng.random() * sum(weights.values())
    for key, weight in weights.items():
        left -= weight
        if left < 0:
            return key
    return next(reversed(weights))


def _one(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]


def _letters(rng: np.random.Generator, count: int) -> str:
    return "".join(_LETTERS[number] for number in rng.integers(len(_LETTERS), size=count))


def _asin(rng: np.random.Generator, kind: Kind, number: int) -> str:
    # The product's number is part of it, so that no two products of a catalogue share one.
    if kind == "book":
        return f"{int(rng.integers(10_000)):04d}{number:06d}"
    tail, rest = "", number
    for _ in range(5):
        rest, digit = divmod(rest, len(_LETTERS))
        tail = _LETTERS[digit] + tail
    return "B0" + _letters(rng, 3) + tail


def _size(rng: np.random.Generator, kind: Kind) -> tuple[float, float, float]:
    _, *ranges = _KINDS[kind]
    # Squared towards the small end: small things are the more common ones.
    sides = [low + (high - low) * float(rng.random()) ** 1.3 for low, high in ranges]
    if kind in _ROUND:
        sides[2] = sides[1]
    long, middle, short = sorted(sides, reverse=True)
    return round(long, 2), round(middle, 2), round(short, 2)


def _name(rng: np.random.Generator, kind: Kind) -> str:
    maker, trait, noun, colour = (_one(rng, words) for words in (_MAKERS, _TRAITS, _NOUNS[kind], _COLOURS))
    if kind in ("book", "case"):
        return f"{noun}: {trait} Edition ({maker})" if rng.random() < 0.6 else f"{maker} {noun}"
    return f"{maker} {trait} {noun}, {colour}, {int(rng.integers(1, 40))}{_one(rng, ('A', 'B', 'C', 'X'))}"


def _colours(rng: np.random.Generator, family: Family) -> tuple[Colour, Colour, Colour]:
    main = _vary(rng, _PALETTE[family][int(rng.integers(len(_PALETTE[family])))])
    other = which(rng, _FAMILY_SHARE)
    second = _vary(rng, _PALETTE[other][int(rng.integers(len(_PALETTE[other])))])
    ink: Colour = (38, 34, 36) if sum(main) > 330 else (228, 222, 214)
    return main, second, ink


def _vary(rng: np.random.Generator, colour: Colour) -> Colour:
    red, green, blue = (
        round(min(max(value + by, 8), 248)) for value, by in zip(colour, rng.normal(0, 9, 3), strict=True)
    )
    return red, green, blue
