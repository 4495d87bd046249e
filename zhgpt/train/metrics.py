"""A run's numbers: metrics.jsonl is the truth, events.jsonl the story, and the sinks copies of the first. A mixture of
experts writes the loads of its experts to routing.jsonl.

``docs/metrics.md`` says what each field is and how it is computed; `FIELDS` is the same list for the code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from zhgpt.train.json_lines import DamagedLine, JsonLines, JsonLinesWriter, Trimmed, read_json_lines, trim_json_lines
from zhgpt.train.sinks import SINKS, Sink, SinkError, SinkPlace, open_sinks

METRICS_FILE = "metrics.jsonl"
DROPPED_FILE = "metrics.dropped.jsonl"
EVENTS_FILE = "events.jsonl"
ROUTING_FILE = "routing.jsonl"
DROPPED_ROUTING_FILE = "routing.dropped.jsonl"


@dataclass(frozen=True)
class Field:
    """One number of a record: its unit, its name on a plot's axis, and the name the sinks show it under."""

    unit: str
    label: str
    tag: str


FIELDS: dict[str, Field] = {
    "step": Field("optimizer steps", "step", "step"),
    "loss": Field("nats per token", "training loss", "train/loss"),
    "loss_max": Field("nats per token", "highest training loss", "train/loss_max"),
    "bits_per_byte": Field("bits per UTF-8 byte", "bits per byte", "train/bits_per_byte"),
    "learning_rate": Field("1", "learning rate", "train/learning_rate"),
    "gradient_norm": Field("1", "gradient norm", "train/gradient_norm"),
    "gradient_norm_max": Field("1", "highest gradient norm", "train/gradient_norm_max"),
    "held_back_steps": Field("optimizer steps", "updates held back", "train/held_back_steps"),
    "update_norm": Field("1", "update norm", "layers/update_norm"),
    "update_ratio": Field("1", "update-to-weight ratio", "layers/update_ratio"),
    "update_ratio_min": Field("1", "smallest update-to-weight ratio", "layers/update_ratio_min"),
    "update_ratio_min_layer": Field("layer", "layer of the smallest ratio", "layers/update_ratio_min_layer"),
    "update_ratio_max": Field("1", "largest update-to-weight ratio", "layers/update_ratio_max"),
    "update_ratio_max_layer": Field("layer", "layer of the largest ratio", "layers/update_ratio_max_layer"),
    "tokens_per_second": Field("tokens per second, all ranks", "tokens per second", "speed/tokens_per_second"),
    "cpu_seconds": Field("CPU seconds, all ranks", "CPU time", "speed/cpu_seconds"),
    "data_wait": Field("share of the time (0 to 1)", "waiting for data", "speed/data_wait"),
    "communication": Field("share of the time (0 to 1)", "communication", "speed/communication"),
    "forward_time": Field("share of the time (0 to 1)", "forward", "speed/forward_time"),
    "backward_time": Field("share of the time (0 to 1)", "backward", "speed/backward_time"),
    "update_time": Field("share of the time (0 to 1)", "update", "speed/update_time"),
    "mfu": Field("share of peak FLOPs (0 to 1)", "MFU", "speed/mfu"),
    "peak_memory_bytes": Field("bytes", "peak memory of a rank", "memory/peak_bytes"),
    "z_loss": Field("nats per token", "z-loss", "train/z_loss"),
    "router_loss": Field("1", "router losses", "experts/router_loss"),
    "expert_load_max": Field("times an even share", "largest load of an expert", "experts/load_max"),
    "expert_load_min": Field("times an even share", "smallest load of an expert", "experts/load_min"),
    "dead_experts": Field("experts, all layers", "dead experts", "experts/dead"),
    "router_entropy": Field("nats per token", "entropy of the routers", "experts/router_entropy"),
    "dropped_share": Field("share of the assignments (0 to 1)", "dropped assignments", "experts/dropped_share"),
    "selection_bias_max": Field("1", "largest selection bias", "experts/selection_bias_max"),
    "all_to_all_share": Field("share of the time (0 to 1)", "all-to-all", "experts/all_to_all_share"),
    "consumed_tokens": Field("tokens", "consumed tokens", "progress/consumed_tokens"),
    "elapsed_seconds": Field("seconds", "elapsed time", "progress/elapsed_seconds"),
    "eta_seconds": Field("seconds", "time left", "progress/eta_seconds"),
    "valid_loss": Field("nats per token", "held-out loss", "valid/loss"),
    "valid_perplexity": Field("1", "held-out perplexity", "valid/perplexity"),
    "valid_bits_per_byte": Field("bits per UTF-8 byte", "held-out bits per byte", "valid/bits_per_byte"),
    "sample_repeated_4gram_share": Field(
        "share (0 to 1)", "repeated 4-grams in samples", "samples/repeated_4gram_share"
    ),
    "sample_punctuation_share": Field("share (0 to 1)", "punctuation in samples", "samples/punctuation_share"),
    "memorised_share": Field("share (0 to 1)", "samples copied from the training text", "samples/memorised_share"),
}


TAGS: dict[str, str] = {name: field.tag for name, field in FIELDS.items()}
"""The name that sinks show each field under."""


def read_metrics(path: Path) -> JsonLines:
    """The records of a metrics.jsonl in file order, NaN and infinities as floats; damaged lines are reported aside.

    Raises:
        MissingInputError: there is no such file.
        StorageError: the file cannot be read.
    """
    lines = read_json_lines(path)
    records = [record for record in lines.records if _step_of(record) is not None]
    without = len(lines.records) - len(records)
    damaged = lines.damaged
    if without:
        damaged = [*damaged, DamagedLine(0, b"", f"{without} line(s) without a whole number under 'step'")]
    return JsonLines(records, damaged)


def trim_after(run_dir: Path, step: int) -> Trimmed:
    """Take the lines of steps after ``step`` out of metrics.jsonl and routing.jsonl: the resumed run writes them again.

    They are appended to metrics.dropped.jsonl and routing.dropped.jsonl first, with any half-written line; nothing is lost.

    Raises:
        StorageError: a file cannot be read or written.
    """

    def stays(record: dict[str, Any]) -> bool:
        recorded = _step_of(record)
        return recorded is not None and recorded <= step

    trim_json_lines(run_dir / ROUTING_FILE, run_dir / DROPPED_ROUTING_FILE, stays)
    return trim_json_lines(run_dir / METRICS_FILE, run_dir / DROPPED_FILE, stays)


def replay(run_dir: Path, sink: Sink) -> int:
    """Send all records of a run's metrics.jsonl to a sink; gives how many there were.

    Raises:
        MissingInputError: the run has no metrics.jsonl.
        SinkError: the sink refused a record.
    """
    records = read_metrics(run_dir / METRICS_FILE).records
    for record in records:
        sink.write(record)
    sink.flush()
    return len(records)


class RunLog:
    """Rank 0's pen: records go to metrics.jsonl and on to the sinks, events to events.jsonl.

    A sink that fails while the run lives is let go with an event and a message; the run and its metrics.jsonl go on.
    """

    def __init__(self, run_dir: Path, sinks: Mapping[str, Sink], say: Callable[[str], None] | None = None) -> None:
        """Open the two files for appending.

        Args:
            run_dir: the run's folder; it exists.
            sinks: the open sinks by name.
            say: told, in a sentence, when a sink is let go.

        Raises:
            StorageError: a file cannot be opened.
        """
        self._run_dir = run_dir
        self._metrics = JsonLinesWriter(run_dir / METRICS_FILE)
        self._events = JsonLinesWriter(run_dir / EVENTS_FILE)
        self._routing: JsonLinesWriter | None = None
        self._sinks = dict(sinks)
        self._say = say
        self._last_step = -1

    def record(self, record: Mapping[str, float | int | None]) -> None:
        """Write one record and hand it to every sink.

        Args:
            record: fields of `FIELDS` (others are welcome: they go to the file and to the sinks under ``other/``);
                ``step`` is required and never goes back. ``None`` is "not known"; NaN and infinities are allowed.

        Raises:
            StorageError: the file refused the line.
        """
        step = _step_of(record)
        assert step is not None, f"a record without a step: {record}"
        assert step >= self._last_step, f"step {step} after step {self._last_step}"
        self._last_step = step
        self._metrics.write(record)
        self._for_each_sink(lambda sink: sink.write(record))

    def routing(self, step: int, layers: Sequence[Mapping[str, Any]]) -> None:
        """Write ``{"step", "layers": [{"layer", "load": a share for each expert, "bias"}]}``; a dense run has no such file.

        Raises:
            StorageError: the file refused the line.
        """
        if self._routing is None:
            self._routing = JsonLinesWriter(self._run_dir / ROUTING_FILE)
        self._routing.write({"step": step, "layers": list(layers)})

    def event(self, event: str, **fields: Any) -> None:
        """Write ``{"at": time with its offset, "event": event, ...fields}``.

        Raises:
            StorageError: the file refused the line.
        """
        self._events.write({"at": datetime.now().astimezone().isoformat(timespec="seconds"), "event": event, **fields})

    def sync(self) -> None:
        """Make all that was written survive a power cut; called with every checkpoint.

        Raises:
            StorageError: the disk refused.
        """
        self._metrics.sync()
        self._events.sync()
        if self._routing is not None:
            self._routing.sync()
        self._for_each_sink(lambda sink: sink.flush())

    def close(self) -> None:
        """Sync and close files and sinks; a second call does nothing."""
        self._for_each_sink(lambda sink: sink.close())
        self._sinks.clear()
        self._metrics.close()
        self._events.close()
        if self._routing is not None:
            self._routing.close()

    def catch_up(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Give the records so far to the sinks that do not continue their earlier files."""

        def write_all(sink: Sink) -> None:
            for record in records:
                sink.write(record)

        self._for_each_sink(write_all, [name for name in self._sinks if not SINKS[name].continues])

    def _for_each_sink(self, action: Callable[[Sink], None], names: Sequence[str] | None = None) -> None:
        for name in list(self._sinks) if names is None else names:
            sink = self._sinks[name]
            try:
                action(sink)
            except SinkError as error:
                del self._sinks[name]
                self.event("sink_stopped", sink=name, step=max(self._last_step, 0), reason=str(error))
                if self._say is not None:
                    self._say(
                        f"log.{name}: {error}; the run goes on without it, {METRICS_FILE} has every number "
                        f"(docs/metrics.md, replay, fills a new one from it)"
                    )


def open_run_log(
    run_dir: Path,
    sink_names: Sequence[str],
    *,
    run_name: str,
    settings: Mapping[str, Any],
    resumed_step: int | None,
    say: Callable[[str], None] | None = None,
) -> RunLog:
    """Open a run's log on rank 0, bringing an earlier attempt's files to the step that the run continues from.

    Args:
        run_dir: the run's folder; it exists.
        sink_names: what `enabled_sinks` gave.
        run_name: the name the sinks show.
        settings: the run's settings as plain data; the sinks show them beside the curves.
        resumed_step: the step of the checkpoint that was loaded; ``None`` for a start from nothing.
        say: told, in a sentence, when a sink is let go.

    Raises:
        StorageError: a file cannot be read or written.
        SettingError: a sink cannot be opened.
    """
    trimmed = trim_after(run_dir, -1 if resumed_step is None else resumed_step)
    metrics = run_dir / METRICS_FILE
    kept = read_metrics(metrics).records if metrics.exists() else []
    log = RunLog(run_dir, open_sinks(sink_names, SinkPlace(run_dir, run_name, settings, resumed_step)), say)
    log.catch_up(kept)
    if trimmed.dropped:
        log.event("metrics_trimmed", resumed_step=resumed_step, **vars(trimmed))
    return log


def _step_of(record: Mapping[str, Any]) -> int | None:
    step = record.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) else None
