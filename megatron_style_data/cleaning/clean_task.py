"""One task of a cleaning: reads its documents, runs them through the steps, writes a shard and a record of counts."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from megatron_style_data.atomic import atomic_write_json
from megatron_style_data.cleaning.accounts import Accounts
from megatron_style_data.cleaning.chain import PreparedStep, prepare_steps, stages
from megatron_style_data.cleaning.places import Places
from megatron_style_data.cleaning.plan import Task, documents_of
from megatron_style_data.cleaning.recipe import InputSection, Recipe
from megatron_style_data.cleaning.samples import Samples
from megatron_style_data.cleaning.shards import record_line, shard_writer
from megatron_style_data.document import Document
from megatron_style_data.errors import BadDataError
from megatron_style_data.readers import ReadCounters
from megatron_style_data.readers.parts import places_in_file

_MOST_SOURCES = 1000


class CleanTasks:
    """The cleaning as a step of a datatrove pipeline: called with a rank, it does the task of that number.

    Not a dataclass, of which datatrove would write every task into a file for every task.
    """

    def __init__(self, recipe: Recipe, tasks: tuple[Task, ...], output: Path, near: int = 0) -> None:
        """Holds what to do.

        Args:
            recipe: The recipe.
            tasks: All tasks.
            output: The output folder.
            near: Documents nearest each threshold to keep, on either side.
        """
        self.recipe, self.tasks, self.output, self.near = recipe, tasks, output, near

    def __repr__(self) -> str:
        return f"clean: {', '.join(self.recipe.steps)}"

    def __call__(self, data: Iterable[Any] | None, rank: int = 0, world_size: int = 1) -> None:
        """Does task ``rank``, unless its record is there already.

        Raises:
            UserError: An input, a list or the disk is at fault.
        """
        places = Places(self.output)
        record = places.record("clean", rank)
        if record.exists():
            return
        task = self.tasks[rank]
        accounts = Accounts({}, {label: Accounts().step(label) for label in self.recipe.steps})
        samples = Samples(self.recipe.samples_a_step, self.near, self.recipe.sample_characters)
        counters = ReadCounters()
        section = self.recipe.inputs[task.section]
        steps = prepare_steps(self.recipe.steps)
        with shard_writer(places.part(rank)) as write:
            for document in documents_of(task, section, counters):
                line = _clean(document, section, steps, accounts, samples)
                if line is not None:
                    write(line)
        accounts.unreadable = dict(counters.dropped)
        accounts.first_unreadable = _first_places(task, counters)
        content = {"accounts": accounts.recorded(), "samples": samples.recorded()}
        atomic_write_json(record, content, indent=None)


def read_record(path: Path) -> tuple[Accounts, Mapping[str, Any]]:
    """The counts and samples of a finished task."""
    content = json.loads(path.read_bytes())
    return Accounts.from_record(content["accounts"]), content.get("samples", {})


def source_of(document: Document, section: InputSection) -> str:
    """What the ledger calls the document's source."""
    if section.source is not None:
        return section.source
    if section.source_field is None:
        return document.source
    named = str(document.fields.get(section.source_field) or document.source)
    found = re.search(section.source_pattern, named) if section.source_pattern else None
    return (found.group() if found else named) or document.source


def _clean(
    document: Document,
    section: InputSection,
    steps: tuple[PreparedStep, ...],
    accounts: Accounts,
    samples: Samples,
) -> bytes | None:
    """Runs one document through the steps and counts it; its line, or None if a step dropped it."""
    name = source_of(document, section)
    source = accounts.source(name)
    if len(accounts.sources) > _MOST_SOURCES:
        raise BadDataError(
            f"{document.path}, line {document.place}: the {_MOST_SOURCES + 1}th source, {name[:60]!r}; expected a few "
            "sources an input. Give the input a source, or a source_pattern that takes a part of the field."
        )
    license = str(document.fields.get("license") or section.license or "")
    source.read.count(document.text)
    source.licenses[license] = source.licenses.get(license, 0) + 1
    text = document.text
    for stage in stages(steps, text, document.fields):
        accounts.step(stage.step.label).count(stage)
        samples.take(document, stage)
        failed, text = stage.failed, stage.outcome.text
        if failed is not None:
            reasons = source.dropped.setdefault(stage.step.label, {})
            reason = str(failed.reason)
            reasons[reason] = reasons.get(reason, 0) + 1
            return None
    if not text.strip():
        reasons = source.dropped.setdefault("(empty)", {})
        reasons["nothing was left"] = reasons.get("nothing was left", 0) + 1
        return None
    fields = dict(document.fields)
    if fields.get("source") not in (None, name):
        fields["origin"] = fields["source"]
    return record_line(text, name, license, fields)


def _first_places(task: Task, counters: ReadCounters) -> dict[str, list[str]]:
    file = task.file
    if file.part is None:
        return dict(counters.first_places)
    return {
        reason: [places_in_file(message, file.path, file.part) for message in messages]
        for reason, messages in counters.first_places.items()
    }
