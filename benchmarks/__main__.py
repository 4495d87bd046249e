"""Measures rows of the table and writes docs/benchmarks.md; rows that are not measured stay as they were."""

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.records import ROOT, load, page, record, save, with_record
from benchmarks.rows import NEED_CORPUS, ROWS, Place
from megatron_style_data.atomic import atomic_write_text

RESULTS = ROOT / "benchmarks" / "results.json"
_QUIET = 0.5


def main() -> None:
    """Measures, keeps what was measured after each row, writes the page, prints it."""
    arguments = parser().parse_args()
    names = chosen(arguments.only, bool(arguments.corpus))
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started
    if os.getloadavg()[0] > _QUIET:
        print(f"warning: something else is running (load {os.getloadavg()[0]:.1f})", file=sys.stderr)
    records = load(arguments.results)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        place = Place(Path(folder), arguments.corpus, arguments.scale)
        for name in names:
            print(f"{name} …", file=sys.stderr, flush=True)
            records = with_record(records, name, record(partial(ROWS[name], place)), ROWS)
            save(arguments.results, records)
            atomic_write_text(arguments.output, page(records))
    print(page(records))


def chosen(only: list[str] | None, has_corpus: bool) -> list[str]:
    """Names of the rows to measure, in the order of the table.

    Raises:
        SystemExit: A row that was asked for needs a corpus.
    """
    wanted = set(only or (ROWS if has_corpus else ROWS.keys() - NEED_CORPUS))
    if missing := wanted & NEED_CORPUS if not has_corpus else ():
        raise SystemExit(f"{', '.join(sorted(missing))}: name a corpus with --corpus")
    return [name for name in ROWS if name in wanted]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    result.add_argument("--corpus", type=Path, nargs="+", default=[], help="a large corpus, for the rows that need one")
    result.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=f"of {', '.join(ROWS)}")
    result.add_argument("--folder", type=Path, help="where there are 10 GB for a while [default: the system's]")
    result.add_argument("--scale", type=float, default=1.0, help="multiplies sizes of texts, to try this out")
    result.add_argument("--results", type=Path, default=RESULTS)
    result.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks.md")
    return result


if __name__ == "__main__":
    main()
