"""Cuts the inputs of a recipe into tasks: by files and their sizes alone, never by the number of workers."""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from megatron_style_data.cleaning.recipe import InputSection, Recipe
from megatron_style_data.document import Document
from megatron_style_data.input_size import estimated_text_bytes
from megatron_style_data.readers import InputFile, ReadCounters, expand_inputs, read_documents
from megatron_style_data.readers.inputs import COMPRESSION_ENDINGS
from megatron_style_data.readers.parts import FilePart, lines_before

# A compressed or binary file is read whole by each of its tasks, which then take turns at blocks of places.
_BLOCK_PLACES = 256
_MOST_TURNS = 16


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of an input that one process cleans into one shard.

    Attributes:
        number: From 0; the number of its shard.
        section: Number of the recipe's input.
        file: The file, or the part of it that the task reads.
        turn: Which blocks of the file are the task's own.
        turns: Tasks that take turns at the file; 1: all of it, or of its part, is the task's own.
        utf8_bytes: About how much text that is.
    """

    number: int
    section: int
    file: InputFile
    turn: int
    turns: int
    utf8_bytes: int


def plan_tasks(recipe: Recipe) -> tuple[Task, ...]:
    """The tasks of a recipe, in the order of its inputs.

    Raises:
        UserError: What ``expand_inputs`` raises.
    """
    tasks: list[Task] = []
    for section_number, section in enumerate(recipe.inputs):
        for file in expand_inputs([section.path], section.format):
            text_bytes = estimated_text_bytes([file])
            pieces = max(1, round(text_bytes / recipe.task_bytes))
            for one, turn, turns in _pieces(file, section, pieces):
                tasks.append(Task(len(tasks), section_number, one, turn, turns, text_bytes // max(turns, pieces)))
    return tuple(tasks)


def documents_of(task: Task, section: InputSection, counters: ReadCounters) -> Iterator[Document]:
    """Yields the documents of a task with their places in the file.

    Raises:
        UserError: What ``read_documents`` raises.
    """
    part = task.file.part
    before = lines_before(task.file.path, part.start) if part else 0  # a part is numbered from 1
    counted = counters if task.turn == 0 else ReadCounters()  # the others read the same bad lines again
    for document in read_documents(task.file, section.read_options(), counted):
        if task.turns == 1 or document.place // _BLOCK_PLACES % task.turns == task.turn:
            yield replace(document, place=document.place + before) if before else document


def fingerprint(recipe: Recipe, tasks: tuple[Task, ...]) -> str:
    """SHA-256 over what decides the output: the recipe without its place and executor, and the files and their sizes."""
    said = recipe.model_dump(mode="json", exclude={"output", "executor", "slurm", "steps"})
    said["steps"] = {label: settings.model_dump(mode="json") for label, settings in recipe.steps.items()}
    files = {str(task.file.path): _size_and_time(task.file.path) for task in tasks}
    content = json.dumps([said, files, len(tasks)], sort_keys=False, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


def _pieces(file: InputFile, section: InputSection, pieces: int) -> Iterator[tuple[InputFile, int, int]]:
    """(what to read, turn, turns) of each task of a file."""
    compressed = file.path.name.lower().endswith(COMPRESSION_ENDINGS)
    if pieces == 1 or (file.format == "text" and section.text_documents == "file"):
        yield file, 0, 1
    elif file.format == "jsonl" and not compressed:
        size = file.path.stat().st_size
        edges = [size * number // pieces for number in range(pieces + 1)]
        for start, end in itertools.pairwise(edges):
            yield replace(file, part=FilePart(start, end)), 0, 1
    else:
        turns = min(pieces, _MOST_TURNS)
        for turn in range(turns):
            yield file, turn, turns


def _size_and_time(path: Path) -> list[int]:
    try:
        found = path.stat()
    except OSError:
        return [0, 0]  # not a file of this machine: a dataset of a hub
    return [found.st_size, found.st_mtime_ns]
