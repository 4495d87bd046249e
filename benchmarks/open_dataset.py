"""Opening a very large dataset and jumping to a sample of a late epoch, against building Megatron's indices.

The dataset is made up: 100 million documents, a real .idx file of 2 GB and a .bin file that is a hole of 200 GB. The
baseline is our own order="megatron", which equals Megatron-LM's indices bit for bit; it is asked for one epoch only,
where ours goes to epoch 7, and does not write the three .npy files that Megatron keeps.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.made_up_dataset import lognormal_lengths, write_made_up
from benchmarks.measure import Comparison

DOCUMENTS = 100_000_000

# One opening in a fresh process, after the imports: wall and CPU seconds, private memory, files in the folder.
_OPENING = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from megatron_style_data.sample_source import open_samples

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))

prefix, order, epoch = sys.argv[1], sys.argv[2], int(sys.argv[3])
np.random.RandomState(0).permutation(3)
before, started, cpu = memory("RssAnon"), time.perf_counter(), time.process_time()
samples = open_samples(prefix, sequence_length=1024, seed=1, order=order)
samples.batch([epoch * samples.samples_per_epoch + 12345])
wall, cpu = time.perf_counter() - started, time.process_time() - cpu
print(json.dumps([wall, cpu, memory("RssAnon") - before, memory("VmHWM"), len(os.listdir(Path(prefix).parent))]))
"""


def run(folder: Path, documents: int = DOCUMENTS, repeats: int = 3) -> Comparison:
    """Openings a second, with memory and files.

    Args:
        folder: Where 2 GB are free for 100 million documents.
        documents: How many there are.
        repeats: Of ours; the baseline is measured once.
    """
    place = folder / "large"
    place.mkdir()
    write_made_up(place / "d", lognormal_lengths(documents), sparse=True)
    _opening(place / "d", "index_free", 7)  # what was just written is in the page cache for both
    ours = sorted(_opening(place / "d", "index_free", 7) for _ in range(repeats))[repeats // 2]
    theirs = _opening(place / "d", "megatron", 0)
    return Comparison(
        f"open {documents:,} documents and read a sample of epoch 7",
        "building Megatron's indices of one epoch",
        "openings",
        1 / ours[1],
        1 / theirs[1],
        1 / ours[0],
        1 / theirs[0],
        repeats,
        at_least="< 100 ms, < 10 MB, 0 files",
        notes=f"{_figures(ours)}; baseline {_figures(theirs)}",
    )


def _figures(opening: tuple[float, ...]) -> str:
    wall, _, private, _, files = opening
    return f"{1000 * wall:,.1f} ms, {private / 1e6:,.1f} MB more private memory, {files - 3:.0f} files written"


def _opening(prefix: Path, order: str, epoch: int) -> tuple[float, ...]:
    import json

    command = [sys.executable, "-c", _OPENING, str(prefix), order, str(epoch)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=1200)
    return tuple(json.loads(done.stdout))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--folder", type=Path, help="Where the files go for the time being [default: the system's].")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        row = run(Path(name), arguments.documents)
    sys.stdout.write(f"{row.what}: {row.notes}; ratio {row.ratio:,.0f} per CPU-second\n")


if __name__ == "__main__":
    main()
