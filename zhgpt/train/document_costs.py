"""held_out_documents.jsonl: what each held-out document costs at the end of a run.

First line: ``{"utf8_bytes"}`` of the evaluated text. Then one object a document: ``{"text", "split", "document", "targets",
"nats"}``; ``document`` is its number in the dataset.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from megatron_style_data.atomic import atomic_write_text
from zhgpt.evaluate.validation import DocumentCosts
from zhgpt.train.json_lines import read_json_lines

SplitCosts = Mapping[tuple[str, str], DocumentCosts]
"""What each document costs, by the text's name and the split."""

DocumentName = tuple[str, str, int]
"""Text, split, number in the dataset."""


@dataclass(frozen=True)
class RecordedCosts:
    """A run's file.

    Attributes:
        utf8_bytes: of all text behind the targets.
        documents: nats and targets by document.
    """

    utf8_bytes: float
    documents: Mapping[DocumentName, tuple[float, int]]


def write_document_costs(path: Path, costs: SplitCosts, utf8_bytes: float) -> None:
    """Writes the file in place of an earlier one.

    Raises:
        StorageError: it cannot be written.
    """
    lines = [json.dumps({"utf8_bytes": utf8_bytes})]
    for (text, split), found in costs.items():
        rows = zip(found.documents.tolist(), found.targets.tolist(), found.nats.tolist(), strict=True)
        lines += [
            json.dumps({"text": text, "split": split, "document": number, "targets": targets, "nats": nats})
            for number, targets, nats in rows
        ]
    atomic_write_text(path, "\n".join(lines) + "\n")


def read_document_costs(path: Path) -> RecordedCosts | None:
    """The file's content; None where there is none, or a half one of another program.

    Raises:
        StorageError: it cannot be read.
    """
    if not path.exists():
        return None
    lines = read_json_lines(path)
    if lines.damaged or not lines.records or "utf8_bytes" not in lines.records[0]:
        return None
    head, *rows = lines.records
    return RecordedCosts(
        head["utf8_bytes"],
        {(row["text"], row["split"], row["document"]): (row["nats"], row["targets"]) for row in rows},
    )
