"""What a distribution centre knows of a bin: items, the record, the photo; read from the public metadata format."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bintally.errors import RecordError

PHOTO_FOLDER = "bin-images"
METADATA_FOLDER = "metadata"

LITRES_PER_CUBIC_INCH = 0.016387064


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One product in a bin's record.

    Attributes:
        sku: the seller's key of the product; may differ from `asin`.
        asin: the catalogue's number of the product.
        name: the product's name, possibly empty.
        quantity: how many units the record says lie in the bin. A unit may be a pack of several objects.
        size_in: length, width, height in inches, each None where the record has none.
        weight_lb: weight of one unit in pounds, None where the record has none.
    """

    sku: str
    asin: str
    name: str
    quantity: int
    size_in: tuple[float | None, float | None, float | None] = (None, None, None)
    weight_lb: float | None = None

    def __post_init__(self) -> None:
        if not self.sku:
            raise ValueError("an item has a SKU")
        if self.quantity < 0:
            raise ValueError(f"item {self.sku} has the negative quantity {self.quantity}")

    @property
    def litres(self) -> float | None:
        """Volume of one unit, None where the record lacks a side."""
        sides = [side for side in self.size_in if side is not None]
        return math.prod(sides) * LITRES_PER_CUBIC_INCH if len(sides) == len(self.size_in) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BinRecord:
    """What the inventory record says lies in one bin.

    Attributes:
        bin_id: the id that photo and metadata share. A string: "00523" is not "523".
        items: the products on record.
        expected_quantity: the record's own total; in a few records it differs from the sum over `items`.
    """

    bin_id: str
    items: tuple[Item, ...]
    expected_quantity: int

    def __post_init__(self) -> None:
        if not self.bin_id:
            raise ValueError("a record has a bin id")
        if self.expected_quantity < 0:
            raise ValueError(f"bin {self.bin_id} expects the negative quantity {self.expected_quantity}")

    @property
    def total(self) -> int:
        """The sum of the items' quantities."""
        return sum(item.quantity for item in self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class BinPhoto:
    """One photo file of a bin. `width` and `height` are in pixels, as the file is to be seen (EXIF applied)."""

    photo_id: str
    uri: str
    sha256: str
    width: int
    height: int

    def __post_init__(self) -> None:
        if not self.photo_id:
            raise ValueError("a photo has an id")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"photo {self.photo_id} is {self.width}×{self.height} pixels")


def id_order(photo_id: str) -> tuple[int, int, str]:
    """Sort key of ids: by length, then by number, so that "100" and "00100" are no neighbours.

    Ids that are no numbers come after those of their length, by text.
    """
    number = int(photo_id) if photo_id.isascii() and photo_id.isdigit() else -1
    return (len(photo_id), number if number >= 0 else 1 << 62, photo_id)


def are_neighbours(first: str, second: str) -> bool:
    """Whether two ids are numbers of one length that differ by one: photos taken one after the other."""
    return (
        len(first) == len(second)
        and all(one.isascii() and one.isdigit() for one in (first, second))
        and abs(int(first) - int(second)) == 1
    )


def parse_record(data: bytes | str, bin_id: str) -> BinRecord:
    """Reads one record in the public dataset's metadata format.

    Args:
        data: the JSON text of `metadata/<id>.json`.
        bin_id: the id, for the record and for messages.

    Raises:
        RecordError: it is not JSON, lacks a field, or holds a value that no record can have.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"metadata of {bin_id} is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise RecordError(f"metadata of {bin_id} is a {type(body).__name__}, not an object")
    fields = _need(body, "BIN_FCSKU_DATA", dict, bin_id)
    items = tuple(_item(sku, value, bin_id) for sku, value in fields.items())
    expected = _count(_need(body, "EXPECTED_QUANTITY", int, bin_id), "EXPECTED_QUANTITY", bin_id)
    return BinRecord(bin_id=bin_id, items=items, expected_quantity=expected)


def record_json(record: BinRecord) -> dict[str, Any]:
    """The record in the public dataset's metadata format; `parse_record` reads it back to an equal record."""
    items: dict[str, Any] = {}
    for item in record.items:
        one: dict[str, Any] = {"asin": item.asin}
        for name, value in zip(("length", "width", "height"), item.size_in, strict=True):
            one[name] = None if value is None else {"unit": "IN", "value": value}
        one |= {"name": item.name, "normalizedName": item.name, "quantity": item.quantity}
        one["weight"] = None if item.weight_lb is None else {"unit": "pounds", "value": item.weight_lb}
        items[item.sku] = one
    return {"BIN_FCSKU_DATA": items, "EXPECTED_QUANTITY": record.expected_quantity}


def _item(sku: str, value: Any, bin_id: str) -> Item:
    if not isinstance(value, dict):
        raise RecordError(f"metadata of {bin_id}: item {sku!r} is a {type(value).__name__}, not an object")
    if not sku:
        raise RecordError(f"metadata of {bin_id}: an item has an empty SKU")
    quantity = _count(_need(value, "quantity", int, bin_id, f"item {sku!r}"), f"item {sku!r} quantity", bin_id)
    length, width, height = (_measure(value.get(name)) for name in ("length", "width", "height"))
    return Item(
        sku=_text(sku),
        asin=_text(value.get("asin") or sku),
        name=_text(value.get("name") or value.get("normalizedName") or ""),
        quantity=quantity,
        size_in=(length, width, height),
        weight_lb=_measure(value.get("weight")),
    )


def _text(value: Any) -> str:
    # JSON can spell half a character ("\ud800"), which no file can hold: it becomes a question mark.
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _need(body: Mapping[str, Any], key: str, kind: type, bin_id: str, where: str = "") -> Any:
    place = f" {where}" if where else ""
    if key not in body:
        raise RecordError(f"metadata of {bin_id}:{place} lacks {key}")
    value = body[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RecordError(f"metadata of {bin_id}:{place} {key} is {str(value)[:40]!r}, not {_KINDS[kind]}")
    return value


def _count(value: int, what: str, bin_id: str) -> int:
    if not 0 <= value < 1 << 31:
        raise RecordError(f"metadata of {bin_id}: {what} is {value}, which is no count of items")
    return value


def _measure(value: Any) -> float | None:
    # Sizes and weights are often missing or null and nothing here depends on them: what is no number is "none".
    number = value.get("value") if isinstance(value, dict) else None
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    return float(number) if math.isfinite(number) and number >= 0 else None


_KINDS = {dict: "an object", int: "a whole number"}
