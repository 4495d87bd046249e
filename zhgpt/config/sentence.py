"""A sentence in English and Chinese, and the kind that tests and JSON know it by."""

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One thing said, in both languages; ``kind`` is what tests and ``--json`` know it by."""

    kind: str
    en: str
    zh: str

    def text(self, language: Language) -> str:
        """In one of them."""
        return self.zh if language == "zh" else self.en
