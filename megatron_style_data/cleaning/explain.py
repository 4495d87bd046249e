"""Shows for one document, step by step, what was measured, the thresholds and the verdict."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from megatron_style_data.cleaning.chain import Stage, prepare_steps, stages
from megatron_style_data.cleaning.measures import Measure, spell
from megatron_style_data.cleaning.recipe import InputSection, Recipe, kind_of
from megatron_style_data.cleaning.samples import around_difference
from megatron_style_data.cleaning.steps import STEPS
from megatron_style_data.document import Document
from megatron_style_data.errors import BadDataError, MissingInputError
from megatron_style_data.normalize import normalize
from megatron_style_data.readers import ReadCounters, expand_inputs, read_documents

_PLACE = re.compile(r"(.+):(\d+)")
_SHOWN_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class Explanation:
    """A document and what every step said of it.

    Attributes:
        document: The document.
        stages: What each step did, up to the one that drops it.
    """

    document: Document
    stages: tuple[Stage, ...]

    @property
    def dropped_by(self) -> Stage | None:
        """The step that drops it, or None."""
        return self.stages[-1] if self.stages and self.stages[-1].failed is not None else None


def explain(recipe: Recipe, where: str) -> Explanation:
    """Runs one document through the steps of a recipe.

    Args:
        recipe: The recipe.
        where: ``FILE:LINE`` (or ``:ROW`` of a Parquet file) of a corpus, as samples and messages name it, or a file
            whose whole content is the text.

    Raises:
        MissingInputError: There is no such file, or nothing at that place.
        BadDataError: The text is not UTF-8.
    """
    document = find_document(recipe, where)
    return Explanation(document, tuple(stages(prepare_steps(recipe.steps), document.text, document.fields)))


def find_document(recipe: Recipe, where: str) -> Document:
    """The document at a place; see ``explain``."""
    found = _PLACE.fullmatch(where)
    if found is not None and not Path(where).exists():
        return _at(recipe, found.group(1), int(found.group(2)))
    path = Path(where)
    try:
        text = path.read_text("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise MissingInputError(
            f"{where}: no such file; expected FILE:LINE of a corpus, or a file that holds one text."
        ) from error
    except UnicodeDecodeError as error:
        raise BadDataError(f"{where}: byte {error.start} is not UTF-8; expected a text in UTF-8.") from error
    return Document(normalize(text).text, path.name, str(path), 1)


def explanation_lines(explanation: Explanation) -> Iterator[str]:
    """The explanation as lines for a terminal."""
    document = explanation.document
    beginning = " ".join(document.text[:_SHOWN_CHARACTERS].split())
    yield f"{document.path}:{document.place}  {len(document.text):,} characters  {beginning}"
    for stage in explanation.stages:
        yield from _stage_lines(stage)
    dropped = explanation.dropped_by
    if dropped is None:
        yield "verdict: kept (duplicates are found among all documents, after the steps)"
    else:
        failed = dropped.failed
        assert failed is not None, "dropped_by has failed"
        yield f"verdict: dropped by {dropped.step.label}: {failed.reason}, measured {spell(failed.value)}"


def _stage_lines(stage: Stage) -> Iterator[str]:
    outcome = stage.outcome
    yield f"{stage.step.label}" + ("" if outcome.measures or outcome.changes else ": nothing to say")
    if outcome.changes:
        yield f"  changed {outcome.changes:,} {STEPS[kind_of(stage.step.label)].unit}"
        before, after = around_difference(stage.before, outcome.text)
        yield f"    before: {' '.join(before.split())}"
        yield f"    after:  {' '.join(after.split())}"
    for measure in outcome.measures:
        verdict = f"DROPPED ({measure.reason})" if measure is stage.failed else _said(measure)
        detail = f"  [{measure.detail}]" if measure.detail else ""
        yield f"  {measure.name:<24} {spell(measure.value):>10}  {_bounds(measure):<18} {verdict}{detail}"


def _said(measure: Measure) -> str:
    if measure.reason is not None:
        return "outside too"
    return "ok" if measure.bounds() else ""


def _bounds(measure: Measure) -> str:
    low = f">= {spell(measure.low)}" if measure.low is not None else ""
    high = f"<= {spell(measure.high)}" if measure.high is not None else ""
    return " and ".join(filter(None, (low, high))) or "no threshold"


def _at(recipe: Recipe, name: str, place: int) -> Document:
    for section in (*recipe.inputs, InputSection(path=name)):
        try:
            files = expand_inputs([section.path], section.format)
        except MissingInputError:
            continue  # an input of the recipe that is not on this machine; the last one is the file itself
        for file in files:
            if name in (str(file.path), file.source) or Path(name).resolve() == file.path.resolve():
                for document in read_documents(file, section.read_options(), ReadCounters()):
                    if document.place == place:
                        return document
                raise MissingInputError(f"{name}: has no document at line {place}.")
    raise MissingInputError(f"{name}: no such file; expected FILE:LINE of a corpus, or a file that holds one text.")
