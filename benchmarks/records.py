"""What was measured, kept in benchmarks/results.json, and the page that is written from it.

So some rows can be measured again while the others stay, each with the commit and the machine that it was measured on; what
was measured on another machine stays beside.
"""

import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from benchmarks.measure import Comparison
from megatron_style_data.atomic import atomic_write_json

_ON = " on "
ROOT = Path(__file__).resolve().parents[1]

_HEAD = """# Benchmarks

Written by `python -m benchmarks` (`make bench`): each row measures ours and a named baseline in turn, in one run on one
machine. Ratios are per CPU-second; a number alone says little on another machine. *At least* is what was asked for
before anything was measured. One thread a process where a row says nothing else. *Measured* ends with how many cores
other work took meanwhile, on average: where it is not 0.0, seconds of wall time say little and those of CPU time a bit less.

```bash
python -m benchmarks                                            # the rows that need no text but the demo's
python -m benchmarks --corpus CORPUS.jsonl.zst                  # all
python -m benchmarks --corpus CORPUS.jsonl.zst --only build_50  # some; the others stay as they were measured
```

The corpus here: 230 MB of modern Chinese in 28,901 documents (statutes, news, translated articles, manuals, books,
reviews, dialogues), with a tokenizer of 32,000 tokens trained on it.

"""

_NOTES = """
Text that is encoded is seen once by each variant, in a process of its own: repeated text flatters caches. 50 MB are drawn
evenly from the corpus. It has not 500 MB, so what is missing is made of it (`benchmarks/cold_text.py`): the same
documents with the second half of each run of four or more Han characters taken from another run. Of the characters in
such runs 0.2 % are then in a run that the corpus has, too; between two halves of the corpus itself it is 18 %. A token of
the made text is 4.8 bytes, of the corpus 5.2. Short documents are runs of whole lines of the corpus, of 128 bytes or more.
PSS counts shared pages once; it is looked at every 50 ms. The baselines read the text as ours does, and keep no manifest.

A target is missed: 10 times one `encode` call a document at 50 MB; at 500 MB it is passed. What stands in the way is the
start: from the two sizes, a build takes about 1.3 CPU-seconds before and after the text (imports in three processes, reading the
tokenizer, preparing the fast encoder and proving it on a sample, joining the parts) and 1.2 for each 50 MB. Ten times the
single calls would leave 1.6 for all of it.

MinHash works on characters, so MB a second depend on how many bytes a character has: statutes and a novel are nearly all
Han characters of three bytes, the modern corpus has English, code and markup of one byte. Per character both are alike.

Steps of a model (`model_step`, `model_step_124m`, `engine`): MFU counts attention over the full square, as the PaLM paper
does, while half of it is masked; the peak is that of a product of 1,536 × 1,536 matrices in the same rounds. The engine has
fp32 masters, fp32 accumulation and clipping; transformers' model in bf16 has bf16 weights and bf16 moments, which is less
work. Each variant has a process of its own, and keeps what it frees as our runs do (`zhgpt/distributed/memory.py`): on malloc
as it is, transformers asks the system for the pages of its logits in each step, and scatters with what they cost. In rows of
2026-11-28 it still does, and is slower for it. A run is one to four steps. Rounds go on, up to three times the number of runs,
until in as many in a row the runs of each baseline differ by at most 5 %; those count, for all variants alike. Where there are
none the quietest count, and a row whose baseline differs by more is void. The row of 124M in fp32 has six rounds at most, so
that it ends within the hour. *Ratio within all rounds* is the median of a
round's own ratio, between what it lies with 95 %: other work that lasts longer than a round does not move it.

Wherever a model is trained here, ours and the baseline step with torch's fused AdamW. A run whose recipe names no optimizer
takes Muon for the matrices of layers and fused AdamW for the rest ([optimizers.md](optimizers.md)): that is the variant *ours,
Muon* of `model_step`, whose overhead is over *ours*, the same step with AdamW.
"""


@dataclass(frozen=True)
class Record:
    """Rows that were measured together."""

    rows: tuple[Comparison, ...]
    commit: str
    machine: str
    measured_on: str
    cores_of_others: float | None = None
    """How many cores other work took meanwhile, on average; None where the system does not tell."""


def record(measure_rows: Callable[[], Iterable[Comparison]]) -> Record:
    """Measures the rows; returns them with what is true of this run."""
    before, started = others_seconds(), time.perf_counter()
    rows = tuple(measure_rows())
    after = others_seconds()
    cores = None if before is None or after is None else (after - before) / (time.perf_counter() - started)
    return Record(rows, commit(), machine(), date.today().isoformat(), cores and round(max(cores, 0.0), 2))


def load(path: Path) -> dict[str, Record]:
    """Records by the name of their rows; none if there is no file."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text("utf-8"))
    return {
        name: Record(**{**one, "rows": tuple(Comparison(**row) for row in one["rows"])}) for name, one in found.items()
    }


def save(path: Path, records: Mapping[str, Record]) -> None:
    """Writes what ``load`` reads."""
    atomic_write_json(path, {name: asdict(one) for name, one in records.items()})


def with_record(records: Mapping[str, Record], name: str, new: Record, order: Iterable[str]) -> dict[str, Record]:
    """All records and a new one, which takes the place of those of the same name and machine.

    Args:
        records: key -> record; a key is a name, or ``name on machine`` where another machine has the name.
        name: of the rows in ``new``.
        new: what was measured.
        order: names, as they are to stand on the page.
    """
    others = {key: one for key, one in records.items() if (key.partition(_ON)[0], one.machine) != (name, new.machine)}
    everything = {**others, f"{name}{_ON}{new.machine}" if name in others else name: new}
    return {key: everything[key] for each in order for key in everything if key.partition(_ON)[0] == each}


def page(records: Mapping[str, Record]) -> str:
    """All rows as Markdown."""
    machines = sorted({one.machine for one in records.values()})
    lines = [f"Machine{'' if len(machines) == 1 else f' {number}'}: {one}." for number, one in enumerate(machines, 1)]
    lines += [
        "",
        "| what | baseline | unit | ours / CPU-s | baseline / CPU-s | ratio | at least | also measured | ours / s "
        "| baseline / s | runs | measured |",
        "|---|---|---|---:|---:|---:|---|---|---:|---:|---:|---|",
    ]
    for one in records.values():
        where = "" if len(machines) == 1 else f", machine {machines.index(one.machine) + 1}"
        others = "" if one.cores_of_others is None else f", {one.cores_of_others:.1f} cores"
        lines += [_line(row, f"{one.measured_on}, `{one.commit}`{where}{others}") for row in one.rows]
    return _HEAD + "\n".join(lines) + "\n" + _NOTES


def _line(row: Comparison, measured: str) -> str:
    cells = [row.what, row.baseline, row.unit, number(row.ours_per_cpu_second), number(row.baseline_per_cpu_second)]
    cells += ["–" if row.ratio is None else f"**{row.ratio:,.2f}**", row.at_least or "–", row.notes or "–"]
    cells += [number(row.ours_per_wall_second), number(row.baseline_per_wall_second), str(row.repeats), measured]
    return f"| {' | '.join(cells)} |"


def number(value: float | None) -> str:
    """Three digits that say something, or all before the point."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def machine() -> str:
    """Processor, cores, memory, Python."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cpu_name()}, {os.cpu_count()} cores, {memory:.0f} GiB of memory; Python {platform.python_version()}"


def cpu_name() -> str:
    """The processor's name where the system tells it, and whether it has units for products of bf16 matrices."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.machine()
    lines = [line.partition(":") for line in info.read_text().split("\n\n", 1)[0].splitlines()]
    facts = {key.strip(): value.strip() for key, _, value in lines}
    amx = " with AMX" if "amx_bf16" in facts.get("flags", "").split() else ""
    return facts.get("model name", platform.machine()) + amx


def others_seconds(stat: Path = Path("/proc/stat")) -> float | None:
    """CPU-seconds that all other processes have taken; None where the system does not tell.

    This process and the children that it has waited for are left out.
    """
    if not stat.exists():
        return None
    user, nice, system, _, _, interrupts, soft_interrupts, *_ = map(int, stat.read_text().split("\n", 1)[0].split()[1:])
    busy = (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return busy - sum(one.ru_utime + one.ru_stime for one in own)


def commit() -> str:
    """The commit, with a + if the packages or the benchmarks differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout.strip()

    changed = git(
        "status", "--porcelain", "--untracked-files=no", "--", "megatron_style_data", "zhgpt", "benchmarks/*.py"
    )
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")
