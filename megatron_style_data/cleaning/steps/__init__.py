"""The steps that a recipe can name. A new one is a file with settings and ``prepare``, and one line in ``STEPS``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from megatron_style_data.cleaning.measures import StepFunction
from megatron_style_data.cleaning.steps import (
    blocklist,
    boilerplate,
    characters,
    decontamination,
    encoding,
    language,
    length,
    lines,
    markup,
    personal_data,
    repetition,
    simplify,
    width,
)
from megatron_style_data.cleaning.steps.settings import StepSettings


@dataclass(frozen=True, slots=True)
class StepKind:
    """A kind of step.

    Attributes:
        settings: The model of its settings.
        prepare: From settings to the function that runs it; reads the files it needs.
        unit: What its changes count.
        private: Whether samples of what it changed must not show the text before.
    """

    settings: type[StepSettings]
    prepare: Callable[[Any], StepFunction]
    unit: str = ""
    private: bool = False


STEPS: Mapping[str, StepKind] = MappingProxyType(
    {
        "encoding": StepKind(encoding.EncodingSettings, encoding.prepare, "lines repaired"),
        "width": StepKind(width.WidthSettings, width.prepare, "characters"),
        "markup": StepKind(markup.MarkupSettings, markup.prepare, "tags, entities, links, runs of marks"),
        "boilerplate": StepKind(boilerplate.BoilerplateSettings, boilerplate.prepare, "lines removed"),
        "lines": StepKind(lines.LinesSettings, lines.prepare, "lines removed"),
        "length": StepKind(length.LengthSettings, length.prepare),
        "characters": StepKind(characters.CharactersSettings, characters.prepare),
        "language": StepKind(language.LanguageSettings, language.prepare),
        "repetition": StepKind(repetition.RepetitionSettings, repetition.prepare),
        "simplify": StepKind(simplify.SimplifySettings, simplify.prepare, "characters"),
        "personal_data": StepKind(
            personal_data.PersonalDataSettings, personal_data.prepare, "marks written", private=True
        ),
        "blocklist": StepKind(blocklist.BlocklistSettings, blocklist.prepare),
        "decontamination": StepKind(decontamination.DecontaminationSettings, decontamination.prepare),
    }
)

__all__ = ["STEPS", "StepKind", "StepSettings"]
