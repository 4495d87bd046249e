"""How a corpus is to be read."""

from dataclasses import dataclass
from typing import Literal, get_args

from megatron_style_data.errors import SettingError

OnBad = Literal["skip", "refuse"]
TextDocuments = Literal["file", "blank-line"]
Encoding = Literal["utf-8", "gb18030", "auto"]
MAX_DOCUMENT_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Choices for reading, checked when made.

    Attributes:
        text_field: JSON field or Parquet column that holds the text, whatever the corpus; None: what the corpus's
            records say, in others ``text``, else ``content``.
        on_bad: What happens to a document that cannot be read (invalid UTF-8, not JSON, no text): ``skip`` counts it
            and goes on, ``refuse`` ends with an error that says where.
        text_documents: What one document of a text file is: the whole ``file``, or a block between ``blank-line``s.
        max_document_bytes: Longest document; a longer one is bad. Bounds the memory.
        encoding: Of text and JSON files: ``utf-8``, ``gb18030``, or ``auto`` to judge each file by its beginning.
        min_score: Documents whose ``score`` is lower, or that have none, are dropped; None: all are kept.
        skip_repeated_paragraphs: Leave out the paragraphs that MNBVC marks as repeated within their file.
        max_bad: Most bad documents; with more the reading ends with an error. None: no limit.

    Raises:
        SettingError: A value that is none of these.
    """

    text_field: str | None = None
    on_bad: OnBad = "skip"
    text_documents: TextDocuments = "file"
    max_document_bytes: int = MAX_DOCUMENT_BYTES
    encoding: Encoding = "utf-8"
    min_score: float | None = None
    skip_repeated_paragraphs: bool = False
    max_bad: int | None = None

    def __post_init__(self) -> None:
        if self.on_bad not in get_args(OnBad):
            raise SettingError(f"on_bad {self.on_bad!r} is not known; choose skip or refuse.")
        if self.text_documents not in get_args(TextDocuments):
            raise SettingError(f"text_documents {self.text_documents!r} is not known; choose file or blank-line.")
        if self.encoding not in get_args(Encoding):
            raise SettingError(f"encoding {self.encoding!r} is not known; choose utf-8, gb18030 or auto.")
        if self.max_document_bytes < 1:
            raise SettingError(f"max_document_bytes {self.max_document_bytes} is not positive.")
        if self.text_field == "":
            raise SettingError("text_field is empty; name a JSON field or column, or leave it out.")
        if self.max_bad is not None and self.max_bad < 0:
            raise SettingError(f"max_bad {self.max_bad} is negative; give the most bad documents to pass over.")
