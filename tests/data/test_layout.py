import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bintally.data.layout import check, counts_on_disk, name_of
from bintally.errors import RecordError, UnreadablePhotoError
from bintally.pixels import decode


def jpeg(progressive: bool) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((200, 150)).save(out, "JPEG", progressive=progressive)
    return out.getvalue()


def is_whole(data: bytes, full: bool) -> bool:
    try:
        decode(data) if full else check("1", "photo", data)
    except UnreadablePhotoError:
        return False
    return True


@pytest.mark.parametrize("progressive", [False, True])
def test_the_quick_check_says_what_a_full_decode_says(progressive: bool) -> None:
    whole = jpeg(progressive)
    cuts = [*range(0, len(whole), 97), *range(len(whole) - 30, len(whole) + 1)]
    assert [is_whole(whole[:cut], False) for cut in cuts] == [is_whole(whole[:cut], True) for cut in cuts]
    assert is_whole(whole, False)
    assert not is_whole(whole[: len(whole) // 2], False)
    rng = np.random.default_rng(1)
    for _ in range(200):
        noisy = np.frombuffer(whole, np.uint8).copy()
        noisy[rng.integers(0, len(noisy), 5)] = rng.integers(0, 256, 5)
        assert is_whole(noisy.tobytes(), False) == is_whole(noisy.tobytes(), True)


def test_records_are_parsed() -> None:
    check("1", "metadata", b'{"BIN_FCSKU_DATA": {}, "EXPECTED_QUANTITY": 0}')
    with pytest.raises(RecordError, match="EXPECTED_QUANTITY"):
        check("1", "metadata", b'{"BIN_FCSKU_DATA": {}}')


def test_counts_of_what_is_there(tmp_path: Path) -> None:
    for photo_id, count in (("1", 3), ("2", 4), ("3", -1), ("4", 5)):
        for what, data in (("photo", b"x"), ("metadata", {"BIN_FCSKU_DATA": {}, "EXPECTED_QUANTITY": count})):
            path = tmp_path / name_of(photo_id, what)  # type: ignore[arg-type]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    (tmp_path / name_of("4", "photo")).unlink()
    assert counts_on_disk(tmp_path, ["1", "2", "3", "4", "5"]) == {"1": 3, "2": 4}
