"""PREFIX.meta.json: what is in an indexed dataset, where it comes from and how to tell that it is whole.

It is the last file of a build to appear, so a dataset without a valid one is not finished and is not opened.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from megatron_style_data.digests import BlockDigest
from megatron_style_data.errors import BadDataError, MissingInputError, StorageError
from megatron_style_data.tokenizer.protocol import Tokenizer

FORMAT = "zhgpt-dataset"
VERSION = 1
SplitName: TypeAlias = Literal["train", "valid", "test"]
Origin: TypeAlias = Literal["built", "adopted", "merged", "split"]
# The order in which the splits lie in the .bin file.
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")

# How pydantic reads the records below. It is imported only where a manifest is read: a build writes one.
_STRICT = {"extra": "forbid", "strict": True}


@dataclass(frozen=True)
class TokenizerRecord:
    """The tokenizer of a dataset. `path` is seen from the dataset's folder, or as it was given at build."""

    __pydantic_config__: ClassVar = _STRICT

    fingerprint: str
    kind: str
    vocab_size: int
    end_of_text: str
    end_of_text_id: int
    path: str


@dataclass(frozen=True)
class Checksums:
    """xxh3-128 of each file, and xxh3-64 of each of its blocks (16 hexadecimal digits each, in one string)."""

    __pydantic_config__: ClassVar = _STRICT

    bin: str
    idx: str
    bin_bytes: int
    idx_bytes: int
    block_bytes: int
    bin_blocks: str
    idx_blocks: str


@dataclass(frozen=True)
class SplitRecord:
    """One split: a range of documents, which is a range of tokens.

    Attributes:
        utf8_bytes: Bytes of the text as it was tokenised (normalised, without end-of-text tokens).
    """

    __pydantic_config__: ClassVar = _STRICT

    first_document: int
    documents: int
    first_token: int
    tokens: int
    utf8_bytes: int

    @property
    def tokens_per_byte(self) -> float:
        """Tokens per UTF-8 byte, end-of-text tokens counted: bits per byte = loss / ln 2 * tokens_per_byte."""
        return self.tokens / self.utf8_bytes


@dataclass(frozen=True)
class SourceRecord:
    """One source of documents: a file, or a folder where there are very many files.

    Attributes:
        name: The path relative to the folder that was asked for, else the file's name.
        dropped: How many documents were left out for which reason.
        changed: What normalisation changed, and how often.
    """

    __pydantic_config__: ClassVar = _STRICT

    name: str
    documents: int
    tokens: int
    utf8_bytes: int
    dropped: dict[str, int]
    changed: dict[str, int]


@dataclass(frozen=True)
class Floor:
    """What a model reaches that knows only how frequent tokens (unigram) or pairs of tokens (bigram) are.

    Losses are nats per token, counted on `train` and measured on `measured_on`; end-of-text tokens count. The bigram is
    interpolated with the unigram; its pairs are counted on `bigram_tokens` tokens spread evenly over `train`.
    """

    __pydantic_config__: ClassVar = _STRICT

    unigram_loss: float
    unigram_bits_per_byte: float
    bigram_loss: float
    bigram_bits_per_byte: float
    measured_on: SplitName
    measured_tokens: int
    bigram_tokens: int


@dataclass(frozen=True)
class Manifest:
    """Everything about a dataset but its tokens.

    Attributes:
        origin: "built" from text, "adopted" from .bin/.idx files made elsewhere, "merged" from several datasets, or
            "split" off another one.
        documents_without_end_of_text: 0 for built datasets.
        splits: Those that hold documents; "train" is always there.
        settings: What the output depends on besides text and tokenizer.
        floor: None when there was too little text to measure it.
    """

    __pydantic_config__: ClassVar = _STRICT

    origin: Origin
    tokenizer: TokenizerRecord
    dtype: str
    documents: int
    sequences: int
    tokens: int
    utf8_bytes: int
    documents_without_end_of_text: int
    checksums: Checksums
    splits: dict[SplitName, SplitRecord]
    sources: list[SourceRecord]
    settings: dict[str, str | int | float | bool | None]
    floor: Floor | None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what decides the samples of a run: tokens, document bounds, splits and tokenizer."""
        splits = {name: asdict(split) for name, split in self.splits.items()}
        return _digest([self.tokenizer.fingerprint, self.dtype, self.checksums.bin, self.checksums.idx, splits])

    def tokenizer_path(self, prefix: str | Path) -> Path:
        """Where the tokenizer lies now: seen from the dataset's folder, else from the working directory.

        Raises:
            MissingInputError: It is in none of these places.
        """
        recorded, folder = Path(self.tokenizer.path), Path(prefix).parent
        places = [folder / recorded, recorded, folder / recorded.name]
        for place in places:
            if place.exists():
                return place
        looked = ", ".join(str(place) for place in dict.fromkeys(places))
        raise MissingInputError(
            f"{path_manifest(prefix)}: its tokenizer {self.tokenizer.path} is not there (looked for {looked}); "
            "name the tokenizer yourself."
        )


class TokenizerIdentity(Protocol):
    """The part of a tokenizer that is compared with a dataset's."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def end_of_text_id(self) -> int: ...


def path_manifest(prefix: str | Path) -> Path:
    """PREFIX.meta.json."""
    return Path(f"{prefix}.meta.json")


def check_tokenizer(manifest: Manifest, tokenizer: TokenizerIdentity) -> None:
    """Holds that `tokenizer` is the one that made the dataset's ids.

    Raises:
        BadDataError: It is another one.
    """
    if tokenizer.fingerprint != manifest.tokenizer.fingerprint:
        raise BadDataError(
            f"the tokenizer (fingerprint {tokenizer.fingerprint}) is not the one the dataset was tokenised with "
            f"(fingerprint {manifest.tokenizer.fingerprint}, then at {manifest.tokenizer.path}); "
            "use that one, or build the dataset again with this one."
        )
    if tokenizer.end_of_text_id != manifest.tokenizer.end_of_text_id:
        raise BadDataError(
            f"the tokenizer was loaded with end-of-text token {tokenizer.end_of_text_id}, but documents of the dataset "
            f"end with {manifest.tokenizer.end_of_text_id} ({manifest.tokenizer.end_of_text}); load it with that one."
        )


def checksums_of(bin_digest: BlockDigest, idx_digest: BlockDigest) -> Checksums:
    """The record of two digests with blocks of the same size."""
    return Checksums(
        bin=bin_digest.whole,
        idx=idx_digest.whole,
        bin_bytes=bin_digest.bytes,
        idx_bytes=idx_digest.bytes,
        block_bytes=bin_digest.block_bytes,
        bin_blocks=bin_digest.blocks,
        idx_blocks=idx_digest.blocks,
    )


def describe_tokenizer(tokenizer: Tokenizer, path: str | Path, prefix: str | Path) -> TokenizerRecord:
    """The record of the tokenizer at `path` in the manifest of PREFIX."""
    return TokenizerRecord(
        fingerprint=tokenizer.fingerprint,
        kind=tokenizer.kind,
        vocab_size=tokenizer.vocab_size,
        end_of_text=tokenizer.end_of_text,
        end_of_text_id=tokenizer.end_of_text_id,
        path=recorded_path(path, prefix),
    )


def manifest_bytes(manifest: Manifest) -> bytes:
    """The content of PREFIX.meta.json: JSON with format, version and the SHA-256 of the rest."""
    content = asdict(manifest)
    head = {"format": FORMAT, "version": VERSION, "sha256": _digest(content)}
    return (json.dumps({**head, **content}, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def load_manifest(prefix: str | Path) -> Manifest:
    """Reads and checks PREFIX.meta.json.

    Raises:
        MissingInputError: There is none: no dataset, an unfinished build, or files made elsewhere.
        BadDataError: It is damaged, changed by hand, of another format or a newer version.
        StorageError: It cannot be read.
    """
    from pydantic import TypeAdapter, ValidationError

    path = path_manifest(prefix)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingInputError(_why_missing(prefix, path)) from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}.") from error
    content = _parse(path, data)
    digest = content.pop("sha256", None)
    if digest != _digest(content):
        raise BadDataError(
            f"{path}: its content does not have the SHA-256 it names; it was damaged or changed by hand."
        )
    try:
        manifest = TypeAdapter(Manifest).validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadDataError(f"{path}: {place}: {first['msg']}; build the dataset again.") from error
    _check_ranges(path, manifest)
    return manifest


def recorded_path(tokenizer: str | Path, prefix: str | Path) -> str:
    """The tokenizer's path in the manifest of PREFIX.

    Relative to the dataset's folder, so that both can move together and any working directory finds it; absolute where it was
    given so and lies outside that folder.
    """
    folder, path = Path(prefix).parent.resolve(), Path(tokenizer).resolve()
    if Path(tokenizer).is_absolute() and not path.is_relative_to(folder):
        return Path(tokenizer).as_posix()
    return Path(os.path.relpath(path, folder)).as_posix()


def _why_missing(prefix: str | Path, path: Path) -> str:
    if Path(f"{prefix}.idx").exists() or Path(f"{prefix}.bin").exists():
        return (
            f"{path}: no such file, though {prefix}.bin or .idx is there: an unfinished build (run `zhgpt data build` "
            "again) or files made elsewhere (`zhgpt data adopt` takes them over)."
        )
    return f"{path}: no such file. {prefix} is not the prefix of a dataset; `zhgpt data build` makes one."


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise BadDataError(f"{path}: not valid JSON ({error}); the file is damaged or truncated.") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise BadDataError(f'{path}: not a dataset manifest; expected JSON with "format": "{FORMAT}".')
    version = content.pop("version", None)
    if version != VERSION:
        raise BadDataError(
            f"{path}: manifest version {version}, but this zhgpt reads version {VERSION}; "
            "use the zhgpt that built the dataset, or build it again."
        )
    return content


def _check_ranges(path: Path, manifest: Manifest) -> None:
    """The splits follow one another without gap and make up the whole dataset."""
    document, token = 0, 0
    for name in SPLITS:
        split = manifest.splits.get(name)
        if split is None:
            continue
        if (split.first_document, split.first_token) != (document, token):
            raise BadDataError(
                f"{path}: split {name} starts at document {split.first_document} and token {split.first_token}, "
                f"expected {document} and {token}; build the dataset again."
            )
        document, token = document + split.documents, token + split.tokens
    if (document, token) != (manifest.documents, manifest.tokens) or "train" not in manifest.splits:
        raise BadDataError(
            f"{path}: its splits hold {document} documents and {token} tokens, the dataset {manifest.documents} and "
            f"{manifest.tokens}; build the dataset again."
        )


def _digest(content: Any) -> str:
    canonical = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
