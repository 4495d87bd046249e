"""Building an indexed dataset against the plainest loop over the same tokenizer: one `encode` call a document."""

import shutil
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as HuggingFaceTokenizer

from benchmarks.measure import Comparison, compare
from megatron_style_data.build import build
from megatron_style_data.build_settings import BuildSettings
from megatron_style_data.readers import ReadCounters, ReadOptions, expand_inputs, read_documents


def run(corpus: list[Path], tokenizer: Path, folder: Path) -> Comparison:
    """Bytes of text a CPU-second, from compressed JSONL to .bin/.idx; ours also hashes, splits, verifies and measures floors.

    Each variant sees the text once: repeated text would flatter the tokenizer's cache.
    """
    texts = [
        document.text
        for file in expand_inputs([str(path) for path in corpus])
        for document in read_documents(file, ReadOptions(), ReadCounters())
    ]
    amount = sum(len(text.encode()) for text in texts) / 1e6

    def ours() -> None:
        output = folder / "ours" / "data"
        shutil.rmtree(output.parent, ignore_errors=True)
        output.parent.mkdir(parents=True)
        build(BuildSettings(inputs=[str(path) for path in corpus], tokenizer=str(tokenizer), output=output, workers=1))

    def one_call_a_document() -> None:
        encoder = HuggingFaceTokenizer.from_file(str(tokenizer / "tokenizer.json"))
        with (folder / "plain.bin").open("wb") as handle:
            for file in expand_inputs([str(path) for path in corpus]):
                for document in read_documents(file, ReadOptions(), ReadCounters()):
                    handle.write(np.array(encoder.encode(document.text).ids, dtype=np.uint16).tobytes())

    return compare(
        "build of the demo corpus, 1 worker",
        ours,
        "one HF `encode` call a document, no checks",
        one_call_a_document,
        amount=amount,
        unit="MB of text",
        repeats=1,
        warm_up=False,
    )
