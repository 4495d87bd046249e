"""Where things lie in the output folder of a cleaning."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """The files of an output folder.

    Attributes:
        output: The folder.
    """

    output: Path

    @property
    def ledger(self) -> Path:
        """What happened, for programs; written last."""
        return self.output / "corpus.json"

    @property
    def page(self) -> Path:
        """What happened, for people."""
        return self.output / "corpus.html"

    @property
    def data(self) -> Path:
        """The shards of the clean corpus."""
        return self.output / "data"

    @property
    def samples(self) -> tuple[Path, Path, Path]:
        """Folders of samples: dropped, changed, nearest a threshold."""
        return self.output / "dropped", self.output / "changed", self.output / "near_threshold"

    @property
    def work(self) -> Path:
        """What an unfinished cleaning goes on from; removed at the end."""
        return self.output / "unfinished"

    @property
    def plan(self) -> Path:
        """Which recipe and files the unfinished cleaning is of."""
        return self.work / "plan.json"

    @property
    def logs(self) -> Path:
        """datatrove's logs, statistics and completions."""
        return self.work / "datatrove"

    @property
    def slurm(self) -> Path:
        """Scripts, pickled pipelines and logs of Slurm's jobs; stays, as the last job still writes to it."""
        return self.output / "slurm"

    def part(self, number: int) -> Path:
        """A shard before duplicates are removed."""
        return self.work / "parts" / f"part-{number:05d}.jsonl.zst"

    def duplicates(self, number: int) -> Path:
        """Which lines of a shard are dropped as duplicates."""
        return self.work / "duplicates" / f"{number:05d}.npy"

    @property
    def duplicates_found(self) -> Path:
        """How many duplicates there are, and examples; written after all ``duplicates``."""
        return self.work / "duplicates" / "found.json"

    @property
    def signatures(self) -> Path:
        """What the search for duplicates goes on from."""
        return self.work / "signatures"

    def record(self, stage: str, number: int) -> Path:
        """Counts and samples of a finished task of a stage (``clean`` or ``publish``)."""
        return self.work / stage / f"{number:05d}.json"

    def shard(self, number: int) -> Path:
        """A shard of the clean corpus."""
        return self.data / f"part-{number:05d}.jsonl.zst"
