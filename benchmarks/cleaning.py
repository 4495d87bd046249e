"""``zhgpt corpus clean`` on many short documents made up for it: time and memory of all processes together."""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import measure

_ANY = [chr(0x4E00 + offset) for offset in range(3000)]
_FREQUENT = list(
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经"
)


def main() -> None:
    """Writes the documents, cleans them and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=5_000_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        documents, cleaned = Path(name, "documents.jsonl"), Path(name, "cleaned")
        write_synthetic(documents, arguments.documents)
        recipe = ["configs/corpus/chinese_web.yaml", f"inputs=[{{path: {documents}}}]"]
        command = ["-m", "zhgpt.cli.main", "corpus", "clean", *recipe, "--output", str(cleaned)]
        found = measure([sys.executable, *command, "--workers", str(arguments.workers)])
        print(
            f"{arguments.documents:,} documents, {documents.stat().st_size / 1e6:,.0f} MB: {found.wall_seconds:,.0f} s, ",
            end="",
        )
        print(f"{found.cpu_seconds:,.0f} CPU-seconds, {found.peak_bytes / 2**20:,.0f} MiB at the peak")


def write_synthetic(path: Path, documents: int) -> None:
    """Documents of 65 characters, two fifths of which are frequent characters, a tenth of them copies of the one before."""
    generator, text = random.Random(1), ""
    with open(path, "w", encoding="utf-8") as file:
        for number in range(documents):
            if number % 10 or not text:
                drawn = generator.choices(_ANY, k=36) + generator.choices(_FREQUENT, k=26)
                marked = "".join([*drawn[:20], "，", *drawn[20:45], "，", *drawn[45:], "。"])
                text = "".join(map("".join, zip(marked[:31], marked[31:62], strict=True))) + marked[62:]
            file.write(f'{{"text":"{text}"}}\n')


if __name__ == "__main__":
    main()
