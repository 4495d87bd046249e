"""Duplicates among the shards of a cleaning: the recipe's section in, the lines to drop out."""

import io
import json
from typing import Any

import numpy as np

from megatron_style_data.atomic import atomic_write_bytes, atomic_write_json
from megatron_style_data.cleaning.places import Places
from megatron_style_data.cleaning.recipe import DeduplicateSection

_EXAMPLE_CHARACTERS = 120


def mark_duplicates(places: Places, section: DeduplicateSection, shards: int, workers: int) -> dict[str, Any]:
    """Finds the duplicates among all shards and writes down which lines are dropped, unless that was done.

    Args:
        places: The output folder.
        section: What a duplicate is.
        shards: How many there are.
        workers: Processes.

    Returns:
        ``counts`` and ``examples`` for the ledger; empty where the recipe asks for nothing.

    Raises:
        UserError: The disk is at fault.
    """
    if not (section.exact or section.near):
        return {}
    if not places.duplicates_found.exists():
        from megatron_style_data.deduplication import DuplicateSettings, find_duplicates

        paths = [places.part(number) for number in range(shards)]
        found = find_duplicates(paths, DuplicateSettings(**section.model_dump()), places.signatures, workers)
        for number in range(shards):
            content = io.BytesIO()
            np.save(content, found.dropped(number))
            atomic_write_bytes(places.duplicates(number), content.getvalue())
        counts = found.counts
        examples = [
            {
                "kept": example.kept[:_EXAMPLE_CHARACTERS],
                "dropped": example.dropped[:_EXAMPLE_CHARACTERS],
                "similarity": round(float(example.similarity), 3),
            }
            for example in found.examples
        ]
        said = {"exact": counts.exact, "near": counts.near, "clusters": counts.clusters, "kept": counts.kept}
        atomic_write_json(places.duplicates_found, {"counts": said, "examples": examples})
    content_found: dict[str, Any] = json.loads(places.duplicates_found.read_bytes())
    return content_found
