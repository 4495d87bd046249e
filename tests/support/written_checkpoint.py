"""Complete checkpoints written from given bytes, without an engine."""

import json
from pathlib import Path

from zhgpt.checkpoint.layout import COMPLETE, FORMAT, FORMAT_VERSION, MANIFEST, file_hash, step_folder_name


def write_checkpoint(
    checkpoints: Path, step: int, content: bytes = b"weights", others: dict[str, bytes] | None = None
) -> Path:
    """``checkpoints/step-XXXXXXXX`` with one shard of this content and other files by name; returns it."""
    folder = checkpoints / step_folder_name(step)
    (folder / "engine").mkdir(parents=True)
    files = {}
    for name, data in {"engine/shard.pt": content, **(others or {})}.items():
        (folder / name).write_bytes(data)
        files[name] = {"bytes": len(data), "xxh3_128": file_hash(folder / name)}
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, "version": FORMAT_VERSION, "files": files}))
    (folder / COMPLETE).write_text(json.dumps({"step": step, "manifest_xxh3_128": file_hash(folder / MANIFEST)}))
    return folder
