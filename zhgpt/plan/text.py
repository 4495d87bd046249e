"""What text a plan counts with: the dataset's, where there is one, else what the user states, with what was assumed."""

from __future__ import annotations

from megatron_style_data.manifest import Manifest, load_manifest, path_manifest
from zhgpt.config.data_section import DataSection
from zhgpt.config.sentence import Sentence
from zhgpt.plan.predict import Text
from zhgpt.plan.scaling_curve import BYTES_PER_TOKEN

VOCAB_SIZE = 32_000
"""Where neither a dataset nor the recipe nor the user says it."""


def text_of(data: DataSection | None, text_gb: float | None, vocab_size: int | None) -> Text:
    """The text of a run.

    Args:
        data: the recipe's section; None: no recipe. Datasets that are not there yet are no error: a plan comes first.
        text_gb: UTF-8 text in GB (10^9 bytes) as the user states it; wins over the datasets' size.
        vocab_size: as the user states it; wins over the datasets'.

    Raises:
        BadDataError: a manifest is damaged.
    """
    manifests = _manifests(data)
    assumed: list[Sentence] = []
    if vocab_size is None and manifests:
        vocab_size = max(manifest.tokenizer.vocab_size for manifest in manifests)
    elif vocab_size is None:
        vocab_size = VOCAB_SIZE
        assumed.append(
            Sentence(
                "vocabulary",
                f"a vocabulary of {VOCAB_SIZE:,} (--vocab-size)",
                f"词表大小 {VOCAB_SIZE:,}（--vocab-size）",
            )
        )
    tokens = float(sum(manifest.splits["train"].tokens for manifest in manifests)) if manifests else None
    if text_gb is not None:
        measured = sum(manifest.splits["train"].utf8_bytes for manifest in manifests) / tokens if tokens else None
        tokens = text_gb * 1e9 / (measured or BYTES_PER_TOKEN)
        if measured is None:
            assumed.append(
                Sentence(
                    "bytes", f"{BYTES_PER_TOKEN:g} bytes of text a token", f"每个 token {BYTES_PER_TOKEN:g} 字节文本"
                )
            )
    elif tokens is None:
        assumed.append(Sentence("text", "enough text for one pass (--text-gb)", "语料足够读一遍（--text-gb）"))
    return Text(tokens, vocab_size, tuple(assumed), _unigram(manifests))


def _unigram(manifests: list[Manifest]) -> float | None:
    """Bits per byte of the unigram line, by the datasets' size; None where one of them has none.

    A run weighs sources by what it reads of each, which a plan does not look at.
    """
    sizes = [manifest.splits["train"].utf8_bytes for manifest in manifests]
    lines = [manifest.floor.unigram_bits_per_byte for manifest in manifests if manifest.floor is not None]
    if not manifests or len(lines) < len(manifests):
        return None
    return sum(size * line for size, line in zip(sizes, lines, strict=True)) / sum(sizes)


def _manifests(data: DataSection | None) -> list[Manifest]:
    """Of all datasets of the recipe; none where one of them is not there yet."""
    prefixes = data.prefixes if data is not None else ()
    if not prefixes or not all(path_manifest(prefix).exists() for prefix in prefixes):
        return []
    return [load_manifest(prefix) for prefix in prefixes]
