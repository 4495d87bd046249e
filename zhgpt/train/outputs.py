"""What a run shows and writes as it goes: metrics, text samples, events, console. Only rank 0 does any of it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_style_data.atomic import atomic_write_text
from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.schema import RunConfig
from zhgpt.errors import StorageError
from zhgpt.evaluate.learning_verdict import Facts as VerdictFacts
from zhgpt.evaluate.learning_verdict import Floor, judge
from zhgpt.health.history import Facts, History, facts_of
from zhgpt.health.telling import event_fields, lines_of
from zhgpt.health.watch import Watch
from zhgpt.train.console import Console
from zhgpt.train.document_costs import SplitCosts, write_document_costs
from zhgpt.train.metrics import RunLog, open_run_log, read_metrics
from zhgpt.train.parameter_roles import group_lines
from zhgpt.train.run_folder import RunFolder
from zhgpt.train.sinks import enabled_sinks
from zhgpt.train.spike_guard import Spike
from zhgpt.train.text_samples import samples_path


@dataclass
class Outputs:
    """Rank 0's log and console; on other ranks both are None and every method does nothing.

    What cannot be written raises nothing here, because rank 0 alone would leave: the first such error waits in ``problem``
    until the ranks agree on it after the next step (:func:`zhgpt.train.stop.agreed_signal`).
    """

    folder: RunFolder
    log: RunLog | None = None
    reopen: Callable[[int], RunLog] | None = None
    """The log anew, its metrics brought back to a step."""
    console: Console | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    """All metrics lines of the run so far."""
    floor: Floor = field(default_factory=Floor)
    tokens_per_parameter: float | None = None
    watch: Watch = field(default_factory=lambda: Watch(History(Facts())))
    """The detectors, having seen all records."""
    problem: StorageError | None = None

    @classmethod
    def open(
        cls, folder: RunFolder, config: RunConfig, plan: BatchPlan, report: dict[str, Any], resumed_step: int | None
    ) -> "Outputs":
        """Opens what rank 0 writes to, bringing an earlier attempt's metrics to the step that this one goes on from.

        Args:
            folder: the run's folder.
            config: settings shown beside the curves.
            plan: the batch arithmetic, shown at the start.
            report: from :func:`zhgpt.train.environment_report.describe_environment`.
            resumed_step: the loaded checkpoint's step, None for a start from nothing.
        """
        console = Console()

        def open_log(step: int | None) -> RunLog:
            return open_run_log(
                folder.path,
                enabled_sinks(config.log),
                run_name=config.run.name,
                settings=config.model_dump(mode="json"),
                resumed_step=step,
                say=console.message,
            )

        log = open_log(resumed_step)
        log.event("started", step=resumed_step or 0, world_size=report["world_size"], hosts=report["host_names"])
        console.start(config.run.name, plan, start_facts(report), resumed_step=resumed_step)
        for warning in report["warnings"]:
            console.message(f"warning: {warning}")
        records = read_metrics(folder.metrics).records if folder.metrics.exists() else []
        watch = Watch.over(facts_of(report), records)
        for finding in watch.findings if resumed_step else ():
            if not finding.is_over:
                for line in lines_of(finding):
                    console.message(line)
        ratio = plan.total_tokens / report["parameters"]["active"]
        return cls(folder, log, open_log, console, records, floor_of(report), ratio, watch)

    def step(self, record: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Writes one metrics line, and at evaluations the text samples."""
        if self.log is None or self.console is None:
            return
        with self._keeping_problem():
            self.log.record(record)
            self.records.append(record)
            self.console.step(record)
            if "valid_loss" in record or samples:
                self.console.evaluation(record, samples)
                self._say_whether_it_learns(samples)
            self._say_what_is_wrong(record)
            if samples:
                self.folder.samples.mkdir(exist_ok=True)
                lines = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
                atomic_write_text(samples_path(self.folder.samples, record["step"]), lines)

    @contextmanager
    def _keeping_problem(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            self.problem = self.problem or error
        except OSError as error:
            self.problem = self.problem or StorageError(f"{self.folder.path}: rank 0 cannot write: {error}")

    def _say_whether_it_learns(self, samples: list[dict[str, Any]]) -> None:
        assert self.console is not None
        facts = VerdictFacts(
            self.tokens_per_parameter, samples=samples, is_range_test=self.watch.history.facts.is_range_test
        )
        verdict = judge(self.records, self.floor, facts)
        if verdict.kind in ("too_short", "no_floor", "range_test"):
            return
        self.console.message(f"  {verdict.sentence}")  # what to do, the detectors say
        self.event("verdict", step=self.records[-1]["step"], kind=verdict.kind, sentence=verdict.sentence)

    def held_out_documents(self, costs: SplitCosts, utf8_bytes: float) -> None:
        """Writes what each held-out document costs, for comparing runs; of the run's last evaluation."""
        if self.log is not None:
            with self._keeping_problem():
                write_document_costs(self.folder.held_out_documents, costs, utf8_bytes)

    def _say_what_is_wrong(self, record: dict[str, Any]) -> None:
        assert self.console is not None
        begun, ended = self.watch.see(record)
        for finding in begun:
            for line in lines_of(finding):
                self.console.message(line)
            self.event("finding", **event_fields(finding))
        for finding in ended:
            title = f"{finding.detector.title_zh} / {finding.detector.title_en} ({finding.detector.name})"
            self.console.message(f"已恢复 / over: {title}")
            self.event(
                "finding_over", step=record["step"], detector=finding.detector.name, first_step=finding.first_step
            )

    def spike(self, done: int, policy: str, spike: Spike, rate_factor: float) -> None:
        """Notes an update that the spike policy held back."""
        factor = (
            f"; the learning rate is {rate_factor:g} of the schedule's from here on" if policy == "lower_rate" else ""
        )
        self.message(f"step {done}: spike ({spike.reason}); the update was left out{factor}")
        fields = {"loss": spike.loss, "gradient_norm": spike.gradient_norm, "rate_factor": rate_factor}
        self.event("spike", step=done, policy=policy, reason=spike.reason, **fields)

    def go_back(self, step: int, spike: Spike, passed_over: int, skipped_samples: int) -> None:
        """Notes that the run goes on from an earlier step; the metrics of the steps in between move aside.

        Args:
            step: of the checkpoint.
            spike: why.
            passed_over: samples that are read no more because of it.
            skipped_samples: all such samples of the run.
        """
        if self.log is None or self.reopen is None:
            return
        with self._keeping_problem():
            self.log.close()
            self.log = self.reopen(step)
            self.records = [record for record in self.records if record["step"] <= step]
            self.watch = Watch.over(self.watch.history.facts, self.records)
        self.message(f"back to the checkpoint of step {step}; {passed_over:,} samples are passed over ({spike.reason})")
        fields = {"reason": spike.reason, "passed_over_samples": passed_over, "skipped_samples": skipped_samples}
        self.event("rolled_back", step=step, from_step=spike.step + 1, **fields)

    def notice(self, text: str, event: str = "notice") -> None:
        """Shows one line and keeps it as an event."""
        self.message(text)
        self.event(event, text=text)

    def routing(self, step: int, layers: list[dict[str, Any]]) -> None:
        """Writes the loads of the experts of each layer."""
        if self.log is not None:
            self.log.routing(step, layers)

    def saved(self, step: int, path: Path, seconds: float) -> None:
        """Notes a committed checkpoint."""
        if self.log is not None and self.console is not None:
            with self._keeping_problem():
                self.log.event("checkpoint_saved", step=step, path=path.name, seconds=round(seconds, 3))
                self.log.sync()
                self.console.message(f"saved {path} in {seconds:.1f} s")

    def message(self, text: str) -> None:
        """Shows one line."""
        if self.console is not None:
            with self._keeping_problem():
                self.console.message(text)

    def event(self, name: str, **fields: Any) -> None:
        """Writes one line to events.jsonl."""
        if self.log is not None:
            with self._keeping_problem():
                self.log.event(name, **fields)

    def close(self) -> None:
        """Closes files and console.

        Raises:
            StorageError: the last lines could not be written, and nothing was said about that before.
        """
        known = self.problem
        with self._keeping_problem():
            if self.console is not None:
                self.console.close()
            if self.log is not None:
                self.log.close()
        if known is None and self.problem is not None:
            raise self.problem


def floor_of(report: dict[str, Any]) -> Floor:
    """The dataset's unigram and bigram lines."""
    names = ("unigram_loss", "bigram_loss", "unigram_bits_per_byte", "bigram_bits_per_byte")
    return Floor(**{name: report["floor"][name] for name in names}) if report["floor"] is not None else Floor()


def start_facts(report: dict[str, Any]) -> dict[str, str]:
    """The lines shown at the start, by name."""
    parameters, attention = report["parameters"], report["attention_backend"]
    passed_over = f" ({'; '.join(attention['passed_over'])})" if attention["passed_over"] else ""
    peak = report["peak_tflops_per_rank"]
    floor = report["floor"]
    active = f", {parameters['active']:,} of them active for a token" if report["model"].get("moe") else ""
    facts = {
        "model": f"{report['model']['model_type']}, {parameters['total']:,} parameters ({parameters['non_embedding']:,} without "
        f"embeddings){active}, {report['flops_per_token']:,} FLOPs a token",
        "device": f"{report['world_size']} × {report['device']} ({report['accelerator']}) on {report['hosts']} host(s), "
        f"started by {report['launcher']}",
        "peak": f"{peak:.2f} TFLOPS a rank ({report['peak_source']})" if peak else report["peak_source"],
        "attention": attention["name"] + passed_over,
        **({"options": report["options"]} if report.get("options") else {}),
        **({"experts": report["experts"]} if report.get("experts") else {}),
        "exports to": report["exports_to"],
        "optimizer": report["optimizer"],
        **{f"  group {number}": line for number, line in enumerate(group_lines(report["optimizer_groups"]), start=1)},
        "data": f"{report['dataset']['prefix']}: {report['dataset']['splits']['train']['tokens']:,} tokens to train on",
    }
    if floor is not None:
        facts["floor"] = (
            f"unigram {floor['unigram_loss']:.3f} nats a token = {floor['unigram_bits_per_byte']:.3f} bits a byte, "
            f"bigram {floor['bigram_bits_per_byte']:.3f}: a model at the unigram line knows only which tokens are frequent"
        )
    return facts
