"""What a training may be pointed at: a split manifest, a folder with one, class folders, or any of them in a store."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from bintally.data.folders import missing_parts, parts_in, read_folders
from bintally.data.manifest import MANIFEST_FILE, Manifest, read_manifest
from bintally.data.mirror import MirrorSettings, mirror
from bintally.data.push import SPLIT_FILE
from bintally.data.store import StoreSettings, open_store
from bintally.errors import ManifestError, StoreError
from bintally.progress import Progress, Silent


def open_split(
    source: str | Path,
    *,
    store: StoreSettings | None = None,
    mirrored: MirrorSettings | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """The split that a name stands for; photos of a store are brought here first.

    Args:
        source: a manifest's path; a folder that holds split.parquet, or class folders; or `s3://…` of such a folder.
        store: how a store is reached.
        mirrored: where a store's photos are kept.
        progress: who listens.

    Raises:
        ManifestError: there is none of all this, or it is damaged.
        StoreError: see `mirror`.
        UsageError: see `mirror`.
    """
    progress = progress or Silent()
    url = urlsplit(str(source))
    if url.scheme == "file":
        return open_folder(Path(unquote(url.path)), progress=progress)
    if "://" not in str(source):
        return open_folder(Path(source).expanduser(), progress=progress)
    if url.scheme not in {"s3", "s3a"}:
        raise StoreError(f"{source}: a split is read from a folder or from s3://bucket/prefix")
    store = store or StoreSettings()
    prefix = str(source).rstrip("/").removesuffix(f"/{SPLIT_FILE}")
    folder = mirror(open_store(prefix, store), mirrored, endpoint=store.endpoint, progress=progress)
    return open_folder(folder, progress=progress)


def open_folder(path: Path, *, progress: Progress | None = None) -> Manifest:
    """The split in a local folder, or the manifest that `path` is. Raises ManifestError when there is none."""
    progress = progress or Silent()
    if not path.is_dir():
        return read_manifest(path)
    if (path / SPLIT_FILE).is_file():
        return read_manifest(path / SPLIT_FILE)
    parts = parts_in(path)
    if not parts:
        first = f"bintally split {path} --to {path / SPLIT_FILE}"
        hint = (
            f"`{first}` first" if (path / MANIFEST_FILE).is_file() or (path / "bin-images").is_dir() else "see --help"
        )
        raise ManifestError(
            f"{path} holds neither {SPLIT_FILE} nor class folders (train/3/…, validation/3/…): {hint}"
        )
    if not {"train", "validation"} <= parts.keys():
        lacking = " and ".join(sorted({"train", "validation"} - parts.keys()))
        raise ManifestError(f"{path} has class folders, but none for {lacking}: a training needs both")
    made = read_folders(parts, progress=progress)
    tell_missing(made, progress)
    return made


def tell_missing(manifest: Manifest, progress: Progress) -> None:
    """Says what cannot be done for want of a part."""
    lacking = missing_parts(manifest)
    if "calibration" in lacking:
        progress.message("no calibration part: probabilities stay as the counter gives them, without a temperature")
    if "test" in lacking:
        progress.message("no test part: nothing is left to score the counter on that it was not chosen by")
