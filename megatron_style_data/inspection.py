"""A dataset in words and figures, and its documents as readable text."""

import math
from pathlib import Path

from megatron_style_data.errors import SettingError
from megatron_style_data.indexed_dataset import IndexedDataset
from megatron_style_data.manifest import Manifest, SplitRecord, check_tokenizer
from megatron_style_data.tokenizer import Tokenizer, load_tokenizer


def dataset_tokenizer(prefix: str | Path, manifest: Manifest, path: str | Path | None = None) -> Tokenizer:
    """The dataset's own tokenizer, from `path` or from where the manifest says it lies.

    Raises:
        MissingInputError: It is not there.
        BadDataError: Another tokenizer lies there.
    """
    tokenizer = load_tokenizer(path or manifest.tokenizer_path(prefix), end_of_text=manifest.tokenizer.end_of_text)
    check_tokenizer(manifest, tokenizer)
    return tokenizer


def document_number(manifest: Manifest, number: int, split: str | None) -> int:
    """The document's number in the whole dataset.

    Args:
        manifest: The dataset's.
        number: From 0; counted in `split`, or in the whole dataset if that is None.
        split: "train", "valid", "test" or None.

    Raises:
        SettingError: No such split or document.
    """
    splits = {str(name): record for name, record in manifest.splits.items()}
    if split is not None and split not in splits:
        raise SettingError(f"the dataset has no {split} split; it has: {', '.join(splits)}.")
    first, count = (0, manifest.documents) if split is None else (splits[split].first_document, splits[split].documents)
    if not 0 <= number < count:
        where = "the dataset" if split is None else f"split {split}"
        raise SettingError(f"document {number}: {where} has documents 0 to {count - 1}.")
    return first + number


def document_text(dataset: IndexedDataset, tokenizer: Tokenizer, number: int) -> str:
    """Text of a document, special tokens shown by their names."""
    return tokenizer.decode(dataset.document(number).tolist())


def summary_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """What there is to say about the dataset as a whole."""
    tokenizer = manifest.tokenizer
    rows = [
        ("origin", manifest.origin),
        ("documents", f"{manifest.documents:,}"),
        ("tokens", f"{manifest.tokens:,} ({manifest.dtype})"),
        ("text", f"{manifest.utf8_bytes:,} UTF-8 bytes, {manifest.utf8_bytes / manifest.tokens:.2f} a token"),
        ("tokenizer", f"{tokenizer.path} ({tokenizer.kind}, {tokenizer.vocab_size:,} tokens)"),
        ("end of text", f"{tokenizer.end_of_text} = {tokenizer.end_of_text_id}"),
        ("tokenizer fingerprint", tokenizer.fingerprint),
        ("dataset fingerprint", manifest.fingerprint),
    ]
    if manifest.documents_without_end_of_text:
        rows.append(("without end of text", f"{manifest.documents_without_end_of_text:,} documents"))
    dropped: dict[str, int] = {}
    for source in manifest.sources:
        for reason, count in source.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    rows.append(("dropped", ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items())) or "nothing"))
    return rows + floor_rows(manifest)


def floor_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """The losses of the frequency models, if they were measured."""
    floor = manifest.floor
    if floor is None:
        return [("floor", "not measured: too little text")]
    on = f"on {floor.measured_on}"
    return [
        ("unigram floor", f"{_loss(floor.unigram_loss, floor.unigram_bits_per_byte)} {on}"),
        ("bigram floor", f"{_loss(floor.bigram_loss, floor.bigram_bits_per_byte)} {on}"),
    ]


def split_rows(manifest: Manifest) -> list[tuple[str, ...]]:
    """Name, documents, tokens, UTF-8 bytes and share of the tokens of each split."""
    return [_row(name, split, manifest.tokens) for name, split in manifest.splits.items()]


def source_rows(manifest: Manifest) -> list[tuple[str, ...]]:
    """Name, documents, tokens, UTF-8 bytes and dropped documents of each source."""
    return [
        (
            source.name,
            f"{source.documents:,}",
            f"{source.tokens:,}",
            f"{source.utf8_bytes:,}",
            f"{sum(source.dropped.values()):,}",
        )
        for source in manifest.sources
    ]


def _row(name: str, split: SplitRecord, tokens: int) -> tuple[str, ...]:
    share = f"{100 * split.tokens / tokens:.2f} %"
    return name, f"{split.documents:,}", f"{split.tokens:,}", f"{split.utf8_bytes:,}", share


def _loss(nats: float, bits_per_byte: float) -> str:
    return f"{nats:.3f} nats a token (perplexity {math.exp(nats):,.0f}), {bits_per_byte:.3f} bits a byte"
