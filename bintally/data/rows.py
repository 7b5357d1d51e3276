"""The rows of a manifest, and how each stands in the columns of its file."""

from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from bintally.bins import BinPhoto, BinRecord, Item
from bintally.counts import CountRange

Part = Literal["train", "validation", "calibration", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "calibration", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One photo with everything known of it.

    Attributes:
        photo: `photo.uri` is its path relative to the manifest's root, with "/".
        num_bytes: size of the file.
        blur: variance of the Laplacian (see `data.look`); the lower, the more blurred.
        look: perceptual hash in hexadecimal (see `data.look`); near-duplicates differ in few bits.
        record: what the inventory says, or None when it is missing or malformed (a `Problem` says which).
        expected_quantity: the record's total, None without a record.
        label: the true count, not clipped to any range; None when nobody knows it.
        label_source: where `label` comes from: the record, a person's review, or nowhere.
        group: photos that may not be split up share it; set by `bintally split`.
        part: which part the photo is in; None when the split leaves it out, or there is no split.
    """

    photo: BinPhoto
    num_bytes: int
    blur: float
    look: str
    record: BinRecord | None
    expected_quantity: int | None
    label: int | None
    label_source: Literal["record", "review", "none"]
    group: str | None = None
    part: Part | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitInfo:
    """How the rows of a manifest were split: counts kept, seed, share of each of `PARTS`, by photo or by group."""

    counts: CountRange
    seed: int
    fractions: tuple[float, float, float, float]
    shuffled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A photo or a record that could not be taken, and why."""

    photo_id: str
    what: str


SCHEMA = pa.schema(
    [
        pa.field("photo_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("num_bytes", pa.int64(), nullable=False),
        pa.field("blur", pa.float64(), nullable=False),
        pa.field("look", pa.string(), nullable=False),
        pa.field(
            "items",  # null: there is no record; empty: the record says that the bin is empty
            pa.list_(
                pa.struct(
                    [
                        pa.field("sku", pa.string()),
                        pa.field("asin", pa.string()),
                        pa.field("name", pa.string()),
                        pa.field("quantity", pa.int32()),
                        pa.field("length_in", pa.float64()),
                        pa.field("width_in", pa.float64()),
                        pa.field("height_in", pa.float64()),
                        pa.field("weight_lb", pa.float64()),
                    ]
                )
            ),
        ),
        pa.field("expected_quantity", pa.int32()),
        pa.field("label", pa.int32()),
        pa.field("label_source", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("part", pa.string()),
    ]
)


def values_of(row: Row) -> dict[str, Any]:
    """One row as plain values, column by column."""
    return {
        "photo_id": row.photo.photo_id,
        "uri": row.photo.uri,
        "sha256": row.photo.sha256,
        "width": row.photo.width,
        "height": row.photo.height,
        "num_bytes": row.num_bytes,
        "blur": float(row.blur),
        "look": row.look,
        "items": None if row.record is None else [_item_values(item) for item in row.record.items],
        "expected_quantity": row.expected_quantity,
        "label": row.label,
        "label_source": row.label_source,
        "group": row.group,
        "part": row.part,
    }


def _item_values(item: Item) -> dict[str, Any]:
    length, width, height = item.size_in
    return {
        "sku": item.sku,
        "asin": item.asin,
        "name": item.name,
        "quantity": item.quantity,
        "length_in": length,
        "width_in": width,
        "height_in": height,
        "weight_lb": item.weight_lb,
    }


def row_of(values: dict[str, Any]) -> Row:
    """`values_of` backwards. Raises ValueError when a value is none that a row can have."""
    items, expected = values["items"], values["expected_quantity"]
    record = None
    if items is not None:
        record = BinRecord(
            bin_id=values["photo_id"], items=tuple(_item(one) for one in items), expected_quantity=expected
        )
    if values["part"] not in (None, *PARTS) or values["label_source"] not in ("record", "review", "none"):
        raise ValueError(f"photo {values['photo_id']} has the part {values['part']!r}")
    return Row(
        photo=BinPhoto(**{name: values[name] for name in ("photo_id", "uri", "sha256", "width", "height")}),
        record=record,
        **{
            name: values[name]
            for name in ("num_bytes", "blur", "look", "expected_quantity", "label", "label_source", "group", "part")
        },
    )


def _item(values: dict[str, Any]) -> Item:
    return Item(
        sku=values["sku"],
        asin=values["asin"],
        name=values["name"],
        quantity=values["quantity"],
        size_in=(values["length_in"], values["width_in"], values["height_in"]),
        weight_lb=values["weight_lb"],
    )
