"""A model's texts at fixed prompts, with their numbers beside held-out text's, as a page of Markdown and as lines of JSON."""

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from megatron_style_data.atomic import atomic_folder, atomic_write_text
from zhgpt.config.quantities import share_text
from zhgpt.evaluate.text_statistics import text_statistics
from zhgpt.evaluate.writing import ALIKE, COPIED, MEASURES, Writing, compare

HEAD = ("measure", "written", "held out", "ratio", "greedy")


@dataclass(frozen=True)
class Sample:
    """What followed one prompt.

    Attributes:
        prompt: as given.
        seed: of the drawn text.
        text: drawn, without the prompt.
        greedy: the likeliest token each time, without the prompt.
    """

    prompt: str
    seed: int
    text: str
    greedy: str


@dataclass(frozen=True)
class WrittenSamples:
    """All of them with what they were drawn with.

    Attributes:
        samples: in the order of the prompts.
        settings: of the generation, by the names of the options.
        searched: tokens of training text that copies were looked for in, and all there are; None: not searched.
        written, greedy, held_out: their numbers; None where all texts are too short to count.
    """

    samples: tuple[Sample, ...]
    settings: dict[str, Any]
    written: Writing | None
    greedy: Writing | None
    held_out: Writing | None
    searched: tuple[int, int] | None = None

    def table(self) -> list[list[str]]:
        """What each side counts, then a row a measure, under ``HEAD``."""
        if self.written is None or self.held_out is None:
            return []
        greedy = self.greedy.measures if self.greedy else {}
        rows = self._counts(self.written, self.held_out)
        for one in compare(self.written, self.held_out):
            ratio = "–" if one.ratio is None else f"{one.ratio:.2f}"
            beside = share_text(greedy[one.name]) if one.name in greedy else "–"
            rows.append([MEASURES[one.name], share_text(one.written), share_text(one.held_out), ratio, beside])
        if self.written.copied_share is not None:
            of_greedy = None if self.greedy is None else self.greedy.copied_share
            beside = "–" if of_greedy is None else share_text(of_greedy)
            rows.append(["copied windows", share_text(self.written.copied_share), "–", "–", beside])
        return rows

    def _counts(self, written: Writing, held_out: Writing) -> list[list[str]]:
        texts = [str(one.texts) if one else "0" for one in (written, held_out, self.greedy)]
        characters = [f"{one.characters:.0f}" if one else "–" for one in (written, held_out, self.greedy)]
        named = (("texts counted", texts), ("characters of a text", characters))
        return [[name, *values[:2], "–", values[2]] for name, values in named]

    def sentences(self) -> list[str]:
        """What the table says, in words."""
        if self.written is None:
            return ["All texts are too short to count; look at them, and give --max-new-tokens more."]
        if self.held_out is None:
            return ["The held-out text is too short to compare with."]
        compared = compare(self.written, self.held_out)
        alike = [MEASURES[one.name] for one in compared if one.is_alike]
        others = [one for one in compared if not one.is_alike]
        said = [f"Within {100 * ALIKE:.0f} % of held-out text: {', '.join(alike) if alike else 'nothing'}."]
        if others:
            apart = (
                f"{MEASURES[one.name]} ({share_text(one.written)} against {share_text(one.held_out)})" for one in others
            )
            said.append(f"Further from it: {', '.join(apart)}.")
        copied = self.written.copied_share
        if copied is not None:
            word = "Recites" if copied > COPIED else "Does not recite"
            said.append(f"{word}: {share_text(copied)} of its 30-character windows stand in {self._searched_words()}.")
        return said

    def _searched_words(self) -> str:
        if self.searched is None or self.searched[0] >= self.searched[1]:
            return "the training text"
        return f"the {share_text(self.searched[0] / self.searched[1])} of the training text that was searched"

    def markdown(self) -> str:
        """The page: settings, table, every text as it came."""
        drawn = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        lines = ["# Written samples", "", f"{len(self.samples)} prompts; {drawn}. Nothing is left out or chosen.", ""]
        rows = self.table()
        if rows:
            lines += [_row(HEAD), "|---|" + "---:|" * (len(HEAD) - 1), *(_row(row) for row in rows), ""]
        lines += [*self.sentences(), ""]
        for number, sample in enumerate(self.samples, 1):
            lines += [f"## {number}", "", f"Seed {sample.seed}:", "", _quoted(sample.prompt, sample.text), ""]
            lines += ["Greedy:", "", _quoted(sample.prompt, sample.greedy), ""]
        return "\n".join(lines)


def write_samples(folder: Path, found: WrittenSamples) -> None:
    """``samples.md``, ``samples.jsonl`` (a line a prompt) and ``summary.json`` in a new folder.

    Raises:
        StorageError: the folder exists, or cannot be written.
    """
    lines = [
        json.dumps({**asdict(sample), **text_statistics(sample.text)}, ensure_ascii=False) for sample in found.samples
    ]
    numbers = {"written": found.written, "greedy": found.greedy, "held_out": found.held_out}
    summary = {"settings": found.settings} | {name: one and asdict(one) for name, one in numbers.items()}
    with atomic_folder(folder) as aside:
        atomic_write_text(aside / "samples.md", found.markdown())
        atomic_write_text(aside / "samples.jsonl", "".join(line + "\n" for line in lines))
        atomic_write_text(aside / "summary.json", json.dumps(summary, ensure_ascii=False, indent=2) + "\n")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _quoted(prompt: str, text: str) -> str:
    """One line of HTML, in which nothing is read as Markdown; line ends stay, the prompt is bold."""
    lines = "<br>".join(html.escape(text, quote=False).splitlines())
    return f"<blockquote><b>{html.escape(prompt, quote=False)}</b>{lines}</blockquote>"
