"""Where checkpoints lie, which ones are complete, and which file proves it.

``checkpoints/step-00000100/`` holds DeepSpeed's shards in ``engine/``, ``train_state.json`` (what must match to resume),
``probe.safetensors`` (the engine's logits on a fixed batch), ``manifest.json`` (size and hash of every file) and
``COMPLETE`` (hash of the manifest, written last). While it is being written the folder ends in ``.saving``.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from zhgpt.errors import BadDataError, MissingInputError

FORMAT = "zhgpt-checkpoint"
FORMAT_VERSION = 1
ENGINE_TAG = "engine"
COMPLETE = "COMPLETE"
MANIFEST = "manifest.json"
TRAIN_STATE = "train_state.json"
PROBE = "probe.safetensors"
SAVING_SUFFIX = ".saving"
DELETING_SUFFIX = ".deleting"
SET_ASIDE = "set_aside"
STEP_PATTERN = re.compile(r"^step-(\d{8,})$")


@dataclass(frozen=True)
class StepFolder:
    """One complete checkpoint."""

    path: Path
    step: int


def step_folder_name(step: int) -> str:
    """``step-00000100`` for 100."""
    return f"step-{step:08d}"


def file_hash(path: Path) -> str:
    """xxh3-128 of a file, read in blocks; finds truncation and flipped bits, which ``torch.load`` does not."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as handle:
        while block := handle.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def list_complete(checkpoints: Path) -> list[StepFolder]:
    """Complete checkpoints below ``checkpoints``, oldest first; unfinished ones are not listed."""
    found = []
    for path in checkpoints.glob("step-*") if checkpoints.is_dir() else ():
        match = STEP_PATTERN.match(path.name)
        if match and (path / COMPLETE).is_file():
            found.append(StepFolder(path, int(match.group(1))))
    return sorted(found, key=lambda folder: folder.step)


def find_checkpoint(path: Path) -> StepFolder:
    """The complete checkpoint at ``path``: a step folder, a ``checkpoints`` folder, or a run (its newest one).

    Raises:
        MissingInputError: ``path`` does not exist.
        BadDataError: nothing complete is there.
    """
    if not path.exists():
        raise MissingInputError(f"{path}: no such checkpoint or run folder")
    match = STEP_PATTERN.match(path.name)
    if match:
        if not (path / COMPLETE).is_file():
            raise BadDataError(f"{path}: no {COMPLETE} file, so this checkpoint was never finished; use an older one")
        return StepFolder(path, int(match.group(1)))
    for folder in (path, path / "checkpoints"):
        complete = list_complete(folder)
        if complete:
            return complete[-1]
    raise BadDataError(
        f"{path}: no complete checkpoint (expected step-XXXXXXXX/{COMPLETE} in it or in its checkpoints/ folder)"
    )


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """``{relative file name: {"bytes", "xxh3_128"}}`` of a complete checkpoint.

    Raises:
        BadDataError: the manifest is damaged or does not belong to this ``COMPLETE``.
    """
    manifest_path, complete_path = folder / MANIFEST, folder / COMPLETE
    try:
        complete = json.loads(complete_path.read_text(encoding="utf-8"))
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise BadDataError(
            f"{folder}: unreadable {MANIFEST} or {COMPLETE} ({error}); use an older checkpoint"
        ) from None
    if manifest.get("format") != FORMAT or manifest.get("version") != FORMAT_VERSION:
        raise BadDataError(
            f"{manifest_path}: format {manifest.get('format')!r} version {manifest.get('version')!r}, "
            f"expected {FORMAT!r} version {FORMAT_VERSION}"
        )
    if complete.get("manifest_xxh3_128") != file_hash(manifest_path):
        raise BadDataError(f"{manifest_path}: its hash is not the one in {COMPLETE}; use an older checkpoint")
    files: dict[str, dict[str, Any]] = manifest["files"]
    return files


def manifest_hash(folder: Path) -> str:
    """The hash of a complete checkpoint's manifest, and so of all its files: what names it beyond doubt."""
    complete: dict[str, Any] = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
    return str(complete["manifest_xxh3_128"])


def verify_files(folder: Path, files: dict[str, dict[str, Any]], part: int = 0, parts: int = 1) -> list[str]:
    """Sentences about files whose size or hash is wrong; checks every ``parts``-th file from ``part`` on."""
    problems = []
    for name in sorted(files)[part::parts]:
        path, expected = folder / name, files[name]
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif path.stat().st_size != expected["bytes"]:
            problems.append(f"{path}: {path.stat().st_size} bytes, expected {expected['bytes']}")
        elif file_hash(path) != expected["xxh3_128"]:
            problems.append(f"{path}: hash differs from the manifest's, so its content changed after it was saved")
    return problems


def verify_checkpoint(folder: Path) -> None:
    """Checks every file of a complete checkpoint.

    Raises:
        BadDataError: a file is missing, truncated or changed.
    """
    raise_problems(folder, verify_files(folder, read_manifest(folder)))


def raise_problems(folder: Path, problems: list[str]) -> None:
    """Turns the sentences of :func:`verify_files` into one error."""
    if problems:
        raise BadDataError(
            f"{folder}: damaged checkpoint: {'; '.join(problems[:3])}"
            f"{f' and {len(problems) - 3} more' if len(problems) > 3 else ''}; resume from an older one with --resume PATH"
        )


def read_train_state(folder: Path) -> dict[str, Any]:
    """The ``train_state.json`` of a checkpoint."""
    state: dict[str, Any] = json.loads((folder / TRAIN_STATE).read_text(encoding="utf-8"))
    return state
