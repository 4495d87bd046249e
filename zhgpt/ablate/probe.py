"""A few real steps of a variant: what a step takes, how much memory, and whether it runs at all."""

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from megatron_style_data.atomic import atomic_write_json
from zhgpt.ablate.child import Interruption, Place, last_lines, run_pretrain
from zhgpt.ablate.expand import override_words
from zhgpt.ablate.grid import Probe, Settings
from zhgpt.errors import OutOfMemoryError, StoppedBySignal
from zhgpt.train.arguments import PretrainArguments
from zhgpt.train.metrics import read_metrics
from zhgpt.train.run_folder import RunFolder, read_exit_status

KILLED = 137
"""128 + SIGKILL: what a probe ends with when a container's memory controller ends it and says nothing."""


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found.

    Attributes:
        exit_code: 0, or that of the run that failed.
        reason: of the failure, in its own words.
        step_seconds: median over the timed steps.
        peak_memory_bytes: of the rank that took most.
    """

    exit_code: int
    reason: str = ""
    step_seconds: float | None = None
    peak_memory_bytes: float | None = None

    @property
    def fits(self) -> bool:
        """Whether the variant ran."""
        return self.exit_code == 0

    @property
    def out_of_memory(self) -> bool:
        """Whether it did not run for lack of memory."""
        return self.exit_code in (OutOfMemoryError.exit_code, KILLED)


@dataclass(frozen=True)
class Prober:
    """Runs probes and remembers what they found, so that a plan made again is the same plan.

    Attributes:
        settings: how many steps.
        config: the base recipe.
        place: how a run is started.
        interruption: who hands signals on.
        say: told before a probe starts.
        starts: whether probes are run; if not, only what earlier ones found is known.
    """

    settings: Probe
    config: Path
    place: Place
    interruption: Interruption
    say: Callable[[str], None]
    starts: bool = True

    def probe(self, folder: Path, name: str, overrides: Settings, deepspeed: Path, phases: bool) -> ProbeResult | None:
        """What the variant's first steps take, from the folder if they ran before; None: they have not, and may not.

        Args:
            folder: the variant's probes.
            name: of the variant, for messages.
            overrides: its settings with the micro batch to try.
            deepspeed: its DeepSpeed JSON.
            phases: whether its data has phases, which so short a run cannot have.

        Raises:
            StoppedBySignal: asked to stop meanwhile.
        """
        key = self._key(overrides, deepspeed)
        file = folder / f"{key}.json"
        if file.exists():
            return ProbeResult(**json.loads(file.read_text(encoding="utf-8"))["result"])
        if not self.starts:
            return None
        micro = overrides["train.micro_batch_size"]
        self.say(f"probe of {name}: {self.settings.steps} steps, micro batch {micro}")
        result = self._run(folder / "run", folder / f"{key}.log", overrides, deepspeed, phases)
        if self.interruption.received:
            raise StoppedBySignal("stopped while probing; the same command goes on")
        said = {"micro_batch_size": micro, "settings": dict(overrides)}
        atomic_write_json(file, {"result": asdict(result), **said})
        return result

    def _key(self, overrides: Settings, deepspeed: Path) -> str:
        """Names a probe by everything that its result depends on, but the machine."""
        parts = [override_words(overrides), deepspeed.read_text(encoding="utf-8"), self.settings.model_dump()]
        parts += [asdict(self.place), self.config.read_text(encoding="utf-8")]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]

    def _run(self, run_dir: Path, log: Path, overrides: Settings, deepspeed: Path, phases: bool) -> ProbeResult:
        shutil.rmtree(run_dir, ignore_errors=True)
        words = override_words({**overrides, **short_run(self.settings, phases), "run.dir": str(run_dir)})
        code = run_pretrain(
            PretrainArguments(self.config, deepspeed, "never", tuple(words)), self.place, log, self.interruption
        )
        try:
            if code != 0:
                status = read_exit_status(RunFolder(run_dir)) or {}
                code = status.get("exit_code") or code
                return ProbeResult(code, str(status.get("reason") or last_lines(log)))
            return measured(read_metrics(run_dir / "metrics.jsonl").records, self.settings.warmup_steps)
        finally:
            shutil.rmtree(run_dir, ignore_errors=True)


def short_run(probe: Probe, phases: bool) -> Settings:
    """Settings that make a run a probe: few steps, each timed, next to nothing evaluated."""
    settings: Settings = {
        "train.steps": probe.steps,
        "log.every_steps": 1,
        "log.tensorboard": False,
        "log.swanlab": False,
        "log.wandb": False,
        "evaluate.every_steps": probe.steps,
        "evaluate.samples": 1,
        "evaluate.prompts": [],
        "checkpoint.every_steps": probe.steps,
        "checkpoint.keep_last": 1,
    }
    return {**settings, "data.phases": []} if phases else settings


def measured(records: Sequence[Mapping[str, Any]], warmup_steps: int) -> ProbeResult:
    """The result of a probe that ran, from its metrics: one line a step."""
    seconds = []
    for before, record in itertools.pairwise(records):
        tokens = record["consumed_tokens"] - before["consumed_tokens"]
        if record["step"] > warmup_steps and tokens > 0:
            seconds.append(tokens / record["tokens_per_second"])
    peaks = [record["peak_memory_bytes"] for record in records if record.get("peak_memory_bytes")]
    return ProbeResult(0, "", median(seconds) if seconds else None, max(peaks, default=None))
