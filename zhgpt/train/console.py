"""What a person sees of a run: a live bar in a terminal, plain lines everywhere else.

Nothing here can end a run: characters that the terminal cannot show are replaced, and when the output is gone (a closed
pipe, a lost ssh session) the console falls silent; metrics.jsonl and the logs have everything.
"""

import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO, cast

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.description import describe_length, describe_stages
from zhgpt.config.quantities import count_text, duration_text, loss_text, rate_text, share_text

_BAR_WIDTH = 10
_SAMPLE_CHARACTERS = 160
_PLAIN = str.maketrans({"×": "x", "▸": ">", "…": "...", "·": "."})


_STATUS: dict[str, Callable[[float], str]] = {
    "loss": lambda value: f"loss {loss_text(value)}",
    "bits_per_byte": lambda value: f"{loss_text(value)} bits/byte",
    "learning_rate": lambda value: f"lr {rate_text(value)}",
    "gradient_norm": lambda value: f"grad {value:.2f}",
    "tokens_per_second": lambda value: f"{count_text(value)} tokens/s",
    "mfu": lambda value: f"MFU {share_text(value)}",
    "expert_load_max": lambda value: f"fullest expert {value:.1f}×",
    "eta_seconds": lambda value: f"ETA {duration_text(value)}",
}

# What a narrow terminal keeps, most wanted first.
_PRIORITY = (
    "loss",
    "eta_seconds",
    "bits_per_byte",
    "tokens_per_second",
    "learning_rate",
    "gradient_norm",
    "mfu",
    "expert_load_max",
)

_EVALUATION: dict[str, Callable[[float], str]] = {
    "valid_loss": lambda value: f"loss {loss_text(value)}",
    "valid_perplexity": lambda value: f"perplexity {value:.1f}",
    "valid_bits_per_byte": lambda value: f"{loss_text(value)} bits/byte",
}

_SAMPLE: dict[str, Callable[[float], str]] = {
    "distinct_2": lambda value: f"distinct-2 {value:.2f}",
    "repeated_4gram_share": lambda value: f"repeated 4-grams {share_text(value)}",
    "punctuation_share": lambda value: f"punctuation {share_text(value)}",
}


class Console:
    """Shows one run. Only rank 0 has one."""

    def __init__(self, stream: TextIO | None = None, *, terminal: bool | None = None, width: int | None = None) -> None:
        """Choose how to show things.

        Args:
            stream: where to; standard output if ``None``.
            terminal: whether that is a terminal; asked from the stream if ``None``.
            width: columns; asked from the terminal if ``None``.
        """
        self._stream = _TolerantStream(sys.stdout if stream is None else stream)
        self._terminal = self._stream.isatty() if terminal is None else terminal
        self._rich = RichConsole(
            file=cast(TextIO, self._stream), force_terminal=self._terminal, width=width, highlight=False, markup=False
        )
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._steps = 0

    def start(
        self, run_name: str, plan: BatchPlan, facts: Mapping[str, str] | None = None, *, resumed_step: int | None = None
    ) -> None:
        """Print the batch arithmetic and what else was decided, then show the bar.

        Args:
            run_name: the run's name.
            plan: the batch plan.
            facts: further lines, by name: model, device, attention backend, data, ...
            resumed_step: the step of the checkpoint that the run continues from.
        """
        self._steps = plan.steps
        self.message(f"run {run_name}" + ("" if resumed_step is None else f": continues after step {resumed_step:,}"))
        self.message(
            f"  batch: {plan.micro_batch_size} sequences × {plan.gradient_accumulation_steps} micro-steps × "
            f"{plan.data_parallel_size} ranks = {plan.global_batch_size} sequences × {plan.sequence_length:,} tokens = "
            f"{plan.tokens_per_step:,} tokens a step"
        )
        for steps, cut in describe_stages(plan).items():
            self.message(f"  {steps}: {cut}")
        self.message(f"  run: {describe_length(plan)} = {count_text(plan.total_tokens)} tokens")
        for name, value in (facts or {}).items():
            self.message(f"  {name}: {value}")
        if self._terminal:
            self._start_bar(resumed_step or 0)

    def step(self, record: Mapping[str, Any]) -> None:
        """Show one record of metrics.jsonl; numbers that are missing or ``None`` are left out."""
        if self._progress is None:
            parts = "  ".join(_parts(record, _STATUS))
            self._line(f"step {record['step']:>{len(str(self._steps))}}/{self._steps}  {parts}")
            return
        self._progress.update(self._task, completed=record["step"], status=self._fitting(record))
        self._progress.refresh()

    def evaluation(self, record: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> None:
        """Print an evaluation: the held-out numbers, then prompt, continuation and its statistics.

        Args:
            record: the record with ``step`` and the ``valid_`` fields.
            samples: one mapping a prompt, as in ``samples/step-*.jsonl``.
        """
        self.message(f"evaluation at step {record['step']:,}: " + ", ".join(_parts(record, _EVALUATION)))
        for sample in samples:
            text = _one_line(str(sample.get("text", "")))
            statistics = ", ".join(_parts(sample, _SAMPLE))
            self.message(
                f"  {_one_line(str(sample.get('prompt', '')))} ▸ {text}" + (f"  ({statistics})" * bool(statistics))
            )

    def message(self, text: str) -> None:
        """Print one line above the bar."""
        self._line(text)

    def close(self) -> None:
        """Take the bar down; a second call does nothing."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _start_bar(self, first_step: int) -> None:
        # Refreshed by hand: no thread draws while the ranks fork, compile or hang.
        self._progress = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(bar_width=_BAR_WIDTH),
            TextColumn("{task.fields[status]}"),
            console=self._rich,
            auto_refresh=False,
        )
        self._task = self._progress.add_task("", total=self._steps, completed=first_step, status="first step ...")
        self._progress.start()

    def _line(self, text: str) -> None:
        if self._terminal:
            self._rich.print(Text(text), soft_wrap=True)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()

    def _fitting(self, record: Mapping[str, Any]) -> str:
        room = self._rich.width - len(f"step {self._steps}/{self._steps} ") - _BAR_WIDTH - 2
        shown: dict[str, Any] = {}
        for name in _PRIORITY:
            wider = {**shown, name: record.get(name)}
            if len("  ".join(_parts(wider, _STATUS))) > room:
                break
            shown = wider
        return "  ".join(_parts(shown, _STATUS))


class _TolerantStream:
    """A text stream that never raises: it replaces what cannot be encoded and goes silent when its end is gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._gone = False
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        return len(text) if self._attempt(lambda: self._stream.write(self._shown(text))) else 0

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def fileno(self) -> int:
        return self._stream.fileno()

    def _shown(self, text: str) -> str:
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            return text.translate(_PLAIN).encode(self.encoding, "replace").decode(self.encoding)
        return text

    def _attempt(self, action: Callable[[], object]) -> bool:
        if not self._gone:
            try:
                action()
            except (OSError, ValueError):  # ValueError: the stream was closed under us.
                self._gone = True
        return not self._gone


def _parts(values: Mapping[str, Any], texts: Mapping[str, Callable[[float], str]]) -> list[str]:
    return [text(values[name]) for name, text in texts.items() if isinstance(values.get(name), int | float)]


def _one_line(text: str) -> str:
    # A young model writes control characters too; a terminal would obey them.
    line = "".join("·" if unicodedata.category(character) in ("Cc", "Cf", "Cs") else character for character in text)
    return line if len(line) <= _SAMPLE_CHARACTERS else line[:_SAMPLE_CHARACTERS] + "…"
