"""Real photos and the pretrained ResNet50 for benchmarks: where they are, and a split manifest over some of them."""

import os
import shutil
from pathlib import Path

from bintally.data.manifest import Manifest, build_manifest, write_manifest
from bintally.data.split import SplitSettings, split_manifest


def backbone() -> str:
    """A local snapshot of the ResNet50 (BINTALLY_BACKBONE), or the hub's."""
    return os.environ.get("BINTALLY_BACKBONE", "microsoft/resnet-50")


def some_photos(folder: Path, num: int) -> Manifest:
    """Copies the first `num` photos of BINTALLY_ABID with their records, and splits them by group, counts 0-5."""
    try:
        source = Path(os.environ["BINTALLY_ABID"])
    except KeyError as error:
        raise SystemExit("this benchmark needs BINTALLY_ABID, a folder laid out like the public dataset") from error
    for photo in sorted((source / "bin-images").iterdir())[:num]:
        for name in (f"bin-images/{photo.name}", f"metadata/{photo.stem}.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)
    split = split_manifest(build_manifest(folder), SplitSettings(counts="0-5"))
    return write_manifest(folder / "split.parquet", split)
