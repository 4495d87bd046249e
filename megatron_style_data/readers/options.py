"""How a corpus is to be read."""

from dataclasses import dataclass
from typing import Literal, get_args

from megatron_style_data.errors import SettingError

OnBad = Literal["skip", "refuse"]
TextDocuments = Literal["file", "blank-line"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Choices for reading, checked when made.

    Attributes:
        text_field: JSON field or Parquet column that holds the text; None: ``text``, else ``content``.
        on_bad: What happens to a document that cannot be read (invalid UTF-8, not JSON, no text): ``skip`` counts it
            and goes on, ``refuse`` ends with an error that says where.
        text_documents: What one document of a text file is: the whole ``file``, or a block between ``blank-line``s.
        max_document_bytes: Longest document; a longer one is bad. Bounds the memory.

    Raises:
        SettingError: A value that is none of these.
    """

    text_field: str | None = None
    on_bad: OnBad = "skip"
    text_documents: TextDocuments = "file"
    max_document_bytes: int = 1 << 28

    def __post_init__(self) -> None:
        if self.on_bad not in get_args(OnBad):
            raise SettingError(f"on_bad {self.on_bad!r} is not known; choose skip or refuse.")
        if self.text_documents not in get_args(TextDocuments):
            raise SettingError(f"text_documents {self.text_documents!r} is not known; choose file or blank-line.")
        if self.max_document_bytes < 1:
            raise SettingError(f"max_document_bytes {self.max_document_bytes} is not positive.")
        if self.text_field == "":
            raise SettingError("text_field is empty; name a JSON field or column, or leave it out.")
