"""The last step of a build: finished files take their names, the manifest last; no half is ever taken for a whole.

State on the disk, and what a later build makes of it:

    no marker                     nothing was published; PREFIX.bin and .idx, if there, are not ours
    marker, manifest still aside  PREFIX.bin and .idx may be ours but are not a dataset: removed
    marker, manifest in place     finished; only the private folder is left to remove
"""

import os
from pathlib import Path

from megatron_style_data.atomic import fsync_folder
from megatron_style_data.errors import StorageError
from megatron_style_data.indexed_dataset import path_bin, path_idx
from megatron_style_data.manifest import path_manifest

# The finished files wait in the private folder under this prefix.
ASIDE = "dataset"
_MARKER = "publishing"


def refuse_existing(prefix: Path) -> None:
    """Holds that nothing lies where the output will go.

    Raises:
        StorageError: A dataset, or files of one, are there.
    """
    if path_manifest(prefix).exists():
        raise StorageError(
            f"{path_manifest(prefix)}: this dataset exists already; choose another output or pass --force."
        )
    for path in (path_bin(prefix), path_idx(prefix)):
        if path.exists():
            raise StorageError(
                f"{path}: exists already, without a manifest; if it was made elsewhere, `zhgpt data adopt` takes it "
                "over; else choose another output or pass --force to replace it."
            )


def publish(folder: Path, prefix: Path) -> None:
    """Gives the files aside in `folder` their names. A dataset that was there is replaced.

    Raises:
        StorageError: A name cannot be taken.
    """
    try:
        (folder / _MARKER).touch()
        fsync_folder(folder)
        path_manifest(prefix).unlink(missing_ok=True)
        fsync_folder(prefix.parent)
        for path in (path_bin, path_idx, path_manifest):
            os.replace(path(folder / ASIDE), path(prefix))
            fsync_folder(prefix.parent)
    except OSError as error:
        raise StorageError(f"{prefix}: cannot be written: {error.strerror or error}.") from error


def take_back_unfinished(folder: Path, prefix: Path) -> None:
    """Removes what a publication that was cut off left under the final names."""
    if not (folder / _MARKER).exists():
        return
    if path_manifest(folder / ASIDE).exists():
        for path in (path_bin, path_idx):
            if not path(folder / ASIDE).exists():
                path(prefix).unlink(missing_ok=True)
    (folder / _MARKER).unlink()
    fsync_folder(folder)
