"""What a build is asked for, how far it is, and what it made."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

from megatron_style_data.indexed_dataset import TokenDtype
from megatron_style_data.manifest import Manifest
from megatron_style_data.readers import ReadCounters, ReadOptions


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What a build does. `workers` and `force` do not change the output.

    Attributes:
        inputs: Files, folders and globs.
        tokenizer: Folder or file of the tokenizer.
        output: PREFIX of the dataset.
        workers: Encoding processes.
        valid_fraction: Share of the documents of each source held out for evaluation during training.
        test_fraction: Share held out for the end.
        seed: Decides which documents are held out, and their order where they are shuffled.
        shuffle_documents: Whether the documents of each split are put into a random order.
        format: Format of the inputs, or "auto".
        read: How the inputs are read.
        dtype: Type of the token ids.
        end_of_text: The token that ends a document, where the tokenizer's files do not say.
        force: Replace what is there.
    """

    inputs: Sequence[str]
    tokenizer: str
    output: Path
    workers: int = 1
    valid_fraction: float = 0.01
    test_fraction: float = 0.0
    seed: int = 0
    shuffle_documents: bool = False
    format: str = "auto"
    read: ReadOptions = field(default_factory=ReadOptions)
    dtype: TokenDtype = "auto"
    end_of_text: str | None = None
    force: bool = False

    def recorded(self) -> dict[str, str | int | float | bool | None]:
        """What the manifest says of them: all that the output depends on besides text and tokenizer."""
        return {
            "valid_fraction": self.valid_fraction,
            "test_fraction": self.test_fraction,
            "seed": self.seed,
            "shuffle_documents": self.shuffle_documents,
            "format": self.format,
            **asdict(self.read),
        }


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        stage: "encoding", then "writing", then "measuring".
        documents: Documents encoded so far, those of an interrupted build included.
        utf8_bytes: Bytes of their texts.
        resumed_bytes: Those of them that an interrupted build had encoded.
        estimated_bytes: About how many bytes of text the inputs hold.
        encoder: What encodes, and why; empty where nothing does.
    """

    stage: str
    documents: int
    utf8_bytes: int
    resumed_bytes: int
    estimated_bytes: int
    encoder: str


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build made, and what it left out.

    Attributes:
        manifest: The dataset's manifest.
        counters: What was read, changed and dropped, with the first places.
        skipped_files: Files in folders and globs whose names say no format.
        resumed_documents: Documents taken over from an interrupted build.
        encoder: What encoded, and why.
    """

    manifest: Manifest
    counters: ReadCounters
    skipped_files: list[Path]
    resumed_documents: int
    encoder: str


Report: TypeAlias = Callable[[BuildProgress], None]


def silent(progress: BuildProgress) -> None:
    """Reports nothing."""
