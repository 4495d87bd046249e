"""Checks of the data section: one dataset or a blend, one kind of weight, phases in order; a sentence a problem."""

import difflib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zhgpt.config.data_section import BlendPhase, BlendSource, DataSection


def data_problems(data: "DataSection", steps: int) -> list[str]:
    """What cannot go together in the data section of a run of `steps` steps, one sentence each."""
    problems = []
    if data.train is None and data.blend is None:
        problems.append("data.train is missing: give the prefix of a dataset, or several datasets as data.blend")
    elif data.train is not None and data.blend is not None:
        problems.append(
            f"data.train {data.train} and data.blend of {len(data.blend)} are both given: keep one, set the other to null"
        )
    if data.blend is not None and not data.blend:
        problems.append("data.blend is empty: give at least one source, as in {data: data/zh, weight: 1}")
    elif data.blend is None:
        problems += [
            f"data.{name} has no effect without data.blend; leave it out"
            for name, given in (("temperature", data.temperature != 1), ("phases", bool(data.phases)))
            if given
        ]
    else:
        problems += [*_source_problems(data.blend, data.temperature), *_phase_problems(data.blend, data.phases, steps)]
    if data.order == "megatron" and data.packing != "concatenate":
        problems.append(
            f"data.order megatron has no data.packing {data.packing}: Megatron-LM concatenates; take concatenate, or "
            "data.order index_free"
        )
    return problems


def _source_problems(blend: "tuple[BlendSource, ...]", temperature: float) -> Iterator[str]:
    by_name: dict[str, BlendSource] = {}
    for source in blend:
        other = by_name.setdefault(source.label, source)
        if other is not source:
            yield (
                f"data.blend has two sources called {source.label} ({other.data} and {source.data}); give one of them "
                "another name"
            )
        if source.weight is not None and source.epochs is not None:
            yield f"data.blend gives {source.label} weight {source.weight:g} and epochs {source.epochs:g}; keep one"
    kinds = {source.label: _kind(source) for source in blend}
    first, first_kind = next(iter(kinds.items()))
    for name, kind in kinds.items():
        if kind != first_kind:
            yield f"data.blend gives {first} {first_kind} but {name} {kind}; give all sources the same"
            return
    if first_kind != _NEITHER and temperature != 1:
        yield f"data.temperature {temperature:g} has no effect where sources have {first_kind}; leave one of them out"
    if not any(_begins_with(source) for source in blend):
        yield f"data.blend gives no source {first_kind} above 0, so there is nothing to begin with"


_NEITHER = "neither weight nor epochs"


def _kind(source: "BlendSource") -> str:
    if source.weight is not None:
        return "a weight"
    return "epochs" if source.epochs is not None else _NEITHER


def _begins_with(source: "BlendSource") -> bool:
    return (source.weight is None and source.epochs is None) or bool(source.weight or source.epochs)


def _phase_problems(blend: "tuple[BlendSource, ...]", phases: "tuple[BlendPhase, ...]", steps: int) -> Iterator[str]:
    names = [source.label for source in blend]
    for number, phase in enumerate(phases):
        where = f"data.phases.{number}"
        if (phase.from_step is None) == (phase.from_fraction is None):
            yield f"{where} needs from_step or from_fraction, one of them"
            return
        for name in phase.weights:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                listing = f"did you mean {near[0]}?" if near else f"data.blend has {', '.join(names)}"
                yield f"{where} names {name}, which is no source; {listing}"
        if not any(phase.weights.values()):
            yield f"{where} has no weight above 0, so nothing would be read"
        if not 0 < phase.first_step(steps) < steps:
            yield f"{where} begins at step {phase.first_step(steps)}: expected one from 1 to below train.steps {steps}"
    for (number, before), (_, phase) in itertools.pairwise(enumerate(phases)):
        if phase.first_step(steps) <= before.first_step(steps):
            yield (
                f"data.phases.{number + 1} begins at step {phase.first_step(steps)}, not after data.phases.{number} at step "
                f"{before.first_step(steps)}; put them in order"
            )
