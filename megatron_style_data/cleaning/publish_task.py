"""The second stage of a cleaning: shards without their duplicates, counted as they will be read."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from megatron_style_data.atomic import atomic_write_json
from megatron_style_data.cleaning.accounts import Accounts
from megatron_style_data.cleaning.places import Places
from megatron_style_data.cleaning.shards import shard_lines, shard_writer

if TYPE_CHECKING:
    from megatron_style_data.tokenizer import Tokenizer

_TEXTS_AT_ONCE = 256


class PublishTasks:
    """Writes the shards of the corpus: called with a rank, it does the shard of that number."""

    def __init__(self, output: Path, tokenizer: str | None = None) -> None:
        """Holds what to do.

        Args:
            output: The output folder; the lines to drop of each shard lie in it.
            tokenizer: Counts tokens; None: no counts.
        """
        self.output, self.tokenizer = output, tokenizer

    def __repr__(self) -> str:
        return "publish: shards without duplicates"

    def __call__(self, data: Iterable[Any] | None, rank: int = 0, world_size: int = 1) -> None:
        """Writes shard ``rank``, unless its record is there already.

        Raises:
            UserError: The tokenizer or the disk is at fault.
        """
        places = Places(self.output)
        record = places.record("publish", rank)
        if record.exists():
            return
        accounts = Accounts()
        duplicates = places.duplicates(rank)
        dropped = np.load(duplicates) if duplicates.exists() else None
        tokenizer = _load(self.tokenizer)
        with shard_writer(places.shard(rank)) as write:
            held: list[dict[str, Any]] = []
            for number, line in enumerate(shard_lines(places.part(rank))):
                document = json.loads(line)
                if dropped is not None and dropped[number]:
                    accounts.source(document["source"]).duplicates += 1
                    continue
                write(line)
                held.append(document)
                if len(held) == _TEXTS_AT_ONCE:
                    _count(held, accounts, tokenizer)
                    held = []
            _count(held, accounts, tokenizer)
        atomic_write_json(record, {"accounts": accounts.recorded()}, indent=None)


def _load(tokenizer: str | None) -> "Tokenizer | None":
    if tokenizer is None:
        return None
    from megatron_style_data.tokenizer import load_tokenizer

    return load_tokenizer(tokenizer)


def _count(documents: list[dict[str, Any]], accounts: Accounts, tokenizer: "Tokenizer | None") -> None:
    texts = [document["text"] for document in documents]
    tokens = [len(ids) + 1 for ids in tokenizer.encode_batch(texts)] if tokenizer else [0] * len(texts)
    for document, text, number in zip(documents, texts, tokens, strict=True):
        accounts.source(document["source"]).kept.count(text, number)
