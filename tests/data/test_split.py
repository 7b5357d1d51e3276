"""The split: no group spans two parts, whatever the photos; the same photos give the same parts."""

import dataclasses
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bintally.bins import BinPhoto, BinRecord, Item
from bintally.counts import CountRange
from bintally.data.manifest import PARTS, Manifest, Row, build_manifest, digest_of, ordered
from bintally.data.split import (
    SplitSettings,
    assign_parts,
    group_photos,
    num_leaking,
    parse_counts,
    split_manifest,
    split_report,
)
from bintally.errors import SettingsError, SplitError

FRACTIONS = (0.6, 0.15, 0.1, 0.15)


def row(name: str, items: str = "", *, label: int | None = None, look: str | None = None, sha: str = "") -> Row:
    """A photo whose record has one unit of each letter of `items`; its look is far from all others by default."""
    record = BinRecord(
        bin_id=name,
        items=tuple(Item(sku=letter, asin=letter, name="", quantity=1) for letter in items),
        expected_quantity=len(items),
    )
    bits = random.Random(name).getrandbits(256)
    return Row(
        photo=BinPhoto(photo_id=name, uri=f"bin-images/{name}.jpg", sha256=sha or name, width=9, height=9),
        num_bytes=1,
        blur=1.0,
        look=look or f"{bits:064x}",
        record=record,
        expected_quantity=len(items),
        label=len(items) if label is None else label,
        label_source="record",
    )


def groups(*rows: Row) -> dict[str, str]:
    return dict(zip((one.photo.photo_id for one in rows), group_photos(rows), strict=True))


def bins(number: int, seed: int = 0) -> Manifest:
    """Pairs of siblings and bins alone, of counts 0 to 5."""
    rng = random.Random(seed)
    rows, place = [], 10_000
    while len(rows) < number:
        letters = [f"{place}{letter}" for letter in "abcdef"]
        for _ in range(rng.choice([1, 2, 2, 3])):
            rows.append(row(str(place), "", label=rng.randrange(6)))
            units = tuple(Item(sku=one, asin=one, name="", quantity=1) for one in letters)
            record = BinRecord(bin_id=str(place), items=units, expected_quantity=6)
            rows[-1] = dataclasses.replace(rows[-1], record=record)
            place += 1
        place += 5
    return ordered(Path("/bins"), rows)


def test_neighbours_that_share_an_item_stay_together() -> None:
    found = groups(row("00001", "ab"), row("00002", "bc"), row("00003", "cd"), row("00004", "xy"))
    assert found == {"00001": "00001", "00002": "00001", "00003": "00001", "00004": "00004"}


def test_photos_far_apart_do_not_for_all_they_share() -> None:
    assert len(set(groups(row("00001", "ab"), row("00004", "ab")).values())) == 2


def test_an_emptied_bin_stays_with_its_siblings() -> None:
    found = groups(row("00001", "ab"), row("00002", ""), row("00003", "xy"), row("00004", "uv"))
    assert found == {"00001": "00001", "00002": "00001", "00003": "00001", "00004": "00004"}


def test_ids_of_other_lengths_are_no_neighbours() -> None:
    found = groups(row("100", "ab"), row("00100", "ab"), row("101", ""), row("00102", ""), row("99", "ab"))
    assert found["100"] == found["101"] == "100"
    assert found["00100"] == "00100"
    assert found["00102"] == "00102"  # an empty bin two ids on: the one between is not there to judge by
    assert found["99"] == "99"


def test_neighbours_that_look_alike_stay_together() -> None:
    near = f"{(1 << 256) - 1:064x}"
    nearly = f"{((1 << 256) - 1) ^ ((1 << 70) - 1):064x}"
    far = f"{((1 << 256) - 1) ^ ((1 << 100) - 1):064x}"
    assert len(set(groups(row("1", "a", look=near), row("2", "b", look=nearly)).values())) == 1
    assert len(set(groups(row("1", "a", look=near), row("2", "b", look=far)).values())) == 2
    assert len(set(groups(row("1", "a", look=near), row("7", "b", look=nearly)).values())) == 2


def test_a_hole_in_a_series_does_not_split_it() -> None:
    assert len(set(groups(row("1", "ab"), row("3", "bc")).values())) == 1
    assert len(set(groups(row("1", "ab"), row("3", "xy")).values())) == 2
    # With the photo between at hand, and no kin, the two are strangers that happen to share a product.
    assert len(set(groups(row("1", "ab"), row("2", "xy"), row("3", "bc")).values())) == 3


def test_copies_of_one_file_stay_together_wherever_they_are() -> None:
    found = groups(row("1", "a", sha="same"), row("50", "b"), row("900", "c", sha="same"), row("901", "cd"))
    assert found == {"1": "1", "50": "50", "900": "1", "901": "1"}


def test_a_photo_without_a_record_goes_by_its_look() -> None:
    bare = dataclasses.replace(row("2"), record=None, label=None, expected_quantity=None, label_source="none")
    alike = dataclasses.replace(bare, look=row("1", "a").look)
    assert len(set(groups(row("1", "a"), bare).values())) == 2
    assert len(set(groups(row("1", "a"), alike).values())) == 1


ids = st.integers(0, 60).map(str) | st.integers(0, 60).map(lambda n: f"{n:03d}") | st.text("xyz", min_size=1)
many = st.lists(
    st.tuples(ids, st.text("abcdefgh", max_size=3).map(lambda t: "".join(sorted(set(t))))),
    min_size=1,
    max_size=60,
    unique_by=lambda pair: pair[0],
)


@given(pairs=many, seed=st.integers(0, 5), randomness=st.randoms())
@settings(deadline=None)
def test_parts_depend_neither_on_order_nor_cut_a_group(
    pairs: list[tuple[str, str]], seed: int, randomness: random.Random
) -> None:
    def split(rows: list[Row]) -> dict[str, tuple[str, str | None]]:
        named = group_photos(rows)
        parts = assign_parts(named, [one.label for one in rows], fractions=FRACTIONS, seed=seed)
        return {one.photo.photo_id: pair for one, pair in zip(rows, zip(named, parts, strict=True), strict=True)}

    rows = [row(name, items) for name, items in pairs]
    found = split(rows)
    mixed = list(rows)
    randomness.shuffle(mixed)
    assert split(mixed) == found
    of_group: dict[str, set[str | None]] = {}
    for group, part in found.values():
        of_group.setdefault(group, set()).add(part)
    assert all(len(parts) == 1 for parts in of_group.values())
    assert None not in {part for _, part in found.values()}


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=8)
def test_fractions_are_met_in_all_and_in_every_class(seed: int) -> None:
    made = split_manifest(bins(3000, seed), SplitSettings(counts="0-5", seed=seed))
    report = split_report(made)
    for part, wish in zip(PARTS, FRACTIONS, strict=True):
        assert report["parts"][part]["share"] == pytest.approx(wish, abs=0.01)
        for place in range(6):
            held = report["parts"][part]["per_class"][place]
            total = sum(report["parts"][one]["per_class"][place] for one in PARTS)
            assert held / total == pytest.approx(wish, abs=0.08)


def test_added_photos_move_few_others() -> None:
    before = bins(2000)
    more = [row(str(90_000 + 3 * n), "pq", label=n % 6) for n in range(100)]
    after = ordered(before.root, [*before.rows, *more])
    choice = SplitSettings(counts="0-5")
    old = {one.photo.photo_id: one.part for one in split_manifest(before, choice).rows}
    new = {one.photo.photo_id: one.part for one in split_manifest(after, choice).rows}
    moved = sum(new[name] != part for name, part in old.items())
    assert moved < 0.05 * len(old)


def test_another_seed_is_another_split() -> None:
    made = bins(600)
    first, again, other = (split_manifest(made, SplitSettings(counts="0-5", seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first.digest == digest_of(first) != other.digest
    same = sum(one.part == two.part for one, two in zip(first.rows, other.rows, strict=True))
    assert same < 0.7 * len(made.rows)


def test_a_range_leaves_other_counts_out_but_groups_reach_across_them() -> None:
    made = split_manifest(bins(600), SplitSettings(counts="1-5"))
    assert made.split is not None
    assert made.split.counts == CountRange(lowest=1, highest=5)
    assert {one.label for one in made.rows if one.part is None} == {0}
    assert all(one.group for one in made.rows)
    report = split_report(made)
    assert report["left_out"] == sum(one.label == 0 for one in made.rows)
    assert report["leaking_test_photos"] == 0


def test_a_photo_is_in_the_same_part_whatever_the_range() -> None:
    rows = [row(str(100 + 3 * n), "ab", label=n % 12) for n in range(600)]
    everything, few = (
        {
            one.photo.photo_id: one.part
            for one in split_manifest(ordered(Path("/bins"), rows), SplitSettings(counts=counts)).rows
        }
        for counts in ("all", "0-5")
    )
    kept = {photo: part for photo, part in few.items() if part is not None}
    assert len(kept) == 300
    assert kept == {photo: everything[photo] for photo in kept}


def test_all_keeps_every_bin() -> None:
    rows = [row(str(100 + 3 * n), "ab", label=n % 14) for n in range(400)]
    report = split_report(split_manifest(ordered(Path("/bins"), rows), SplitSettings(counts="all", top=12)))
    assert report["left_out"] == 0
    assert report["classes"][-1] == "12+"


def test_a_photo_without_a_label_is_left_out() -> None:
    made = bins(400)
    bare = dataclasses.replace(made.rows[0], label=None, label_source="none")
    done = split_manifest(ordered(made.root, [bare, *made.rows[1:]]), SplitSettings(counts="0-5"))
    assert done.rows[0].part is None
    assert all(one.part for one in done.rows[1:])


def test_shuffled_puts_siblings_on_both_sides_and_says_so() -> None:
    made = split_manifest(bins(1000), SplitSettings(counts="0-5", shuffled=True))
    report = split_report(made)
    assert report["shuffled"]
    assert report["leaking_share"] > 0.4
    train = {one.group for one in made.of_part("train")}
    assert report["leaking_test_photos"] == sum(one.group in train for one in made.of_part("test"))
    assert num_leaking(made.rows, scored="validation") > 0


def test_other_fractions_and_parts_left_empty_on_purpose() -> None:
    report = split_report(split_manifest(bins(1000), SplitSettings(counts="0-5", fractions=(9, 0, 0, 1))))
    assert report["parts"]["train"]["share"] == pytest.approx(0.9, abs=0.01)
    assert report["parts"]["validation"]["photos"] == report["parts"]["calibration"]["photos"] == 0


def test_one_photo_only() -> None:
    one = ordered(Path("/bins"), [row("1", "a")])
    with pytest.raises(SplitError, match="no photo has the count"):
        split_manifest(one, SplitSettings(counts="0-5"))


def test_too_few_groups_for_four_parts() -> None:
    rows = [row("1", "a"), row("2", "ab"), row("50", "c"), row("51", "cd"), row("80", "e")]
    with pytest.raises(SplitError, match="5 photos in 3 groups are too few for 4 parts"):
        split_manifest(ordered(Path("/bins"), rows), SplitSettings(counts="1-2"))


def test_an_empty_class() -> None:
    made = bins(400)
    rows = [one for one in made.rows if one.label != 4]
    with pytest.raises(SplitError, match=r"no photo has the count 4: .*--counts"):
        split_manifest(ordered(made.root, rows), SplitSettings(counts="0-5"))
    assert split_manifest(ordered(made.root, rows), SplitSettings(counts="0-3")).of_part("test")


def test_a_class_that_train_would_lack() -> None:
    made = bins(400)
    lone = row("9", "zy", label=7)
    rows = [*[one for one in made.rows if one.label in (0, 1)], dataclasses.replace(lone, label=2)]
    outcomes = set()
    for seed in range(12):
        try:
            split_manifest(ordered(made.root, rows), SplitSettings(counts="0-2", seed=seed))
            outcomes.add("whole")
        except SplitError as error:
            assert "train would have no photo with the count 2" in str(error)  # noqa: PT017
            outcomes.add("refused")
    assert outcomes == {"whole", "refused"}


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("0-5", CountRange(lowest=0, highest=5)),
        ("1-5", CountRange(lowest=1, highest=5)),
        ("all", CountRange(lowest=0, highest=10, open_ended=True)),
        ("all:12", CountRange(lowest=0, highest=12, open_ended=True)),
        ("2-7+", CountRange(lowest=2, highest=7, open_ended=True)),
    ],
)
def test_ranges_are_read(text: str, wish: CountRange) -> None:
    assert parse_counts(text) == wish
    if text != "all:12":
        assert parse_counts(str(wish)) == wish


@pytest.mark.parametrize("text", ["", "5", "5-1", "0-5-9", "-1-5", "everything", "all:", "1-1", "all:99999"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="counts"):
        parse_counts(text)


def test_reporting_an_unsplit_manifest() -> None:
    with pytest.raises(SplitError, match="bintally split"):
        split_report(bins(10))


@pytest.mark.slow
@pytest.mark.real
def test_real_photos(abid: Path) -> None:
    made = build_manifest(abid)
    assert len(made.rows) == 8000
    report = split_report(split_manifest(made, SplitSettings(counts="0-5")))
    assert 0.7 < report["groups"]["sibling_share"] < 0.85
    assert report["groups"]["longest"] < 12
    assert report["leaking_test_photos"] == 0
    for part, wish in zip(PARTS, FRACTIONS, strict=True):
        assert report["parts"][part]["share"] == pytest.approx(wish, abs=0.005)
    shuffled = split_report(split_manifest(made, SplitSettings(counts="0-5", shuffled=True)))
    assert shuffled["leaking_share"] > 0.35
    assert Counter(report["classes"]) == Counter(shuffled["classes"])
