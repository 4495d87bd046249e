"""Step ``markup``: takes away what HTML and Markdown leave behind, and keeps code as it is."""

import html
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from megatron_style_data.cleaning.measures import Measure, Outcome, StepFunction
from megatron_style_data.cleaning.steps.settings import Share, StepSettings

# Only names that HTML has, so that a < b and <你好> stay.
_TAG_NAMES = (
    "a|abbr|address|article|aside|audio|b|big|blockquote|body|br|button|canvas|caption|center|cite|code|col|colgroup|"
    "dd|del|details|dfn|div|dl|dt|em|embed|fieldset|figcaption|figure|font|footer|form|frame|frameset|h[1-6]|head|"
    "header|hr|html|i|iframe|img|input|ins|kbd|label|legend|li|link|main|map|mark|meta|nav|noscript|object|ol|"
    "optgroup|option|p|param|picture|pre|q|s|samp|section|select|small|source|span|strike|strong|style|sub|summary|"
    "sup|svg|table|tbody|td|textarea|tfoot|th|thead|time|title|tr|tt|u|ul|var|video|wbr|o:p|st1:[a-z]+"
)
_UNSEEN = re.compile(
    r"<!--.{0,20000}?-->|<(script|style)\b[^>]{0,1000}>.{0,100000}?</\1\s*>", re.DOTALL | re.IGNORECASE
)
_BREAKING = re.compile(r"<(?:br|/p|/div|/li|/tr|/h[1-6]|/table|/blockquote|hr)\b[^<>]{0,1000}>", re.IGNORECASE)
_TAG = re.compile(rf"</?(?:{_TAG_NAMES})(?:\s[^<>]{{0,2000}}|/)?>|<!doctype[^<>]{{0,300}}>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_BROKEN_ENTITY = re.compile(r"&nbsp(?![a-zA-Z;])")
_CODE = re.compile(r"(^```.*?^```[^\n]*$|^~~~.*?^~~~[^\n]*$|`[^`\n]{1,300}`)", re.DOTALL | re.MULTILINE)
_ASIDE = re.compile("\ufdd0([0-9]+)\ufdd1")
_IMAGE = re.compile(r"!\[([^\]\n]{0,300})\]\([^()\n]{0,1000}(?:\([^()\n]{0,200}\)[^()\n]{0,200})?\)")
_LINK = re.compile(r"(?<!!)\[([^\[\]\n]{1,300})\]\((?:[^()\n]{0,1000}(?:\([^()\n]{0,200}\)[^()\n]{0,200})?)\)")
# [文字][1] and, on a line of its own, [1]: https://…
_REFERENCE = re.compile(r"(?<![!A-Za-z0-9_\])])\[([^\[\]\n]{1,300})\] ?\[[^\[\]\n]{0,100}\](?![(:\[])")
_IMAGE_REFERENCE = re.compile(r"!\[([^\[\]\n]{0,300})\]\[[^\[\]\n]{0,100}\]")
_DEFINITION = re.compile(
    r"^ {0,3}\[[^\[\]\n]{1,100}\]: ?<?(?:https?://|www\.|/|#|mailto:)\S*[^\n]{0,200}\n?", re.MULTILINE
)
_EMPHASIS = re.compile(r"(\*\*|__)(?=\S)([^*_\n]{1,300}?)(?<=\S)\1")
_RUN = re.compile(r"([^\w\s]|_)\1{11,}")
_BLANK_LINES = re.compile(r"\n[ \t]*\n[ \t]*\n(?:[ \t]*\n)*")


class MarkupSettings(StepSettings):
    """Settings of ``markup``."""

    html: bool = Field(default=True, description="Remove tags, comments, scripts; entities become their characters.")
    links: Literal["text", "keep"] = Field(default="text", description="[文字](address) becomes its text.")
    images: Literal["remove", "text", "keep"] = Field(
        default="remove", description="![文字](address) goes, or leaves its text."
    )
    emphasis: Literal["text", "keep"] = Field(default="keep", description="**重点** becomes 重点.")
    shorten_runs: bool = Field(default=True, description="--------… and …………… of twelve marks or more become three.")
    maximum_markup_share: Share | None = Field(
        default=0.7,
        description="Largest share of the characters that may be markup; a page of nothing but links is above it.",
    )


def prepare(settings: MarkupSettings) -> StepFunction:
    """The step with these settings."""

    def run(text: str, fields: Mapping[str, Any]) -> Outcome:
        codes: list[str] = []

        def put_aside(code: re.Match[str]) -> str:
            codes.append(code.group())
            return f"\ufdd0{len(codes) - 1}\ufdd1"  # noncharacters, which no normalised text has

        left = _CODE.sub(put_aside, text) if "`" in text or "~~~" in text else text
        left, changes = _clean(left, settings)
        if changes:
            left = _BLANK_LINES.sub("\n\n", left).strip("\n")
        if codes:
            left = _ASIDE.sub(lambda place: codes[int(place.group(1))], left)
        removed = max(0, len(text) - len(left)) / max(1, len(text)) if changes else 0.0
        measure = Measure("markup_share", removed, high=settings.maximum_markup_share)
        return Outcome(left if changes else text, (measure,), changes)

    return run


def _clean(text: str, settings: MarkupSettings) -> tuple[str, int]:
    changes = 0
    if settings.html and ("<" in text or "&" in text):
        for pattern, replacement in ((_UNSEEN, ""), (_BREAKING, "\n"), (_TAG, ""), (_BROKEN_ENTITY, " ")):
            text, count = pattern.subn(replacement, text)
            changes += count
        text, count = _ENTITY.subn(_character, text)
        changes += count
    if "](" in text or "][" in text or "]:" in text:
        text, count = _without_links(text, settings)
        changes += count
    if settings.emphasis == "text":
        text, count = _EMPHASIS.subn(r"\2", text)
        changes += count
    if settings.shorten_runs:
        text, count = _RUN.subn(r"\1\1\1", text)
        changes += count
    return text, changes


def _without_links(text: str, settings: MarkupSettings) -> tuple[str, int]:
    defined = _DEFINITION.search(text) is not None  # without, a[0][1] is code
    changes = 0
    if settings.links != "keep" and settings.images != "keep":  # else an address that stays would lose its meaning
        text, changes = _DEFINITION.subn("", text)
    images = (_IMAGE, _IMAGE_REFERENCE) if defined else (_IMAGE,)
    links = (_LINK, _REFERENCE) if defined else (_LINK,)
    for choice, patterns in ((settings.images, images), (settings.links, links)):
        for pattern in patterns if choice != "keep" else ():
            text, count = pattern.subn("" if choice == "remove" else r"\1", text)
            changes += count
    return text, changes


def _character(entity: re.Match[str]) -> str:
    """The character of an entity; entities of control characters and unknown ones stay as they are written."""
    decoded = html.unescape(entity.group())
    if decoded == "\xa0":
        return " "
    return decoded if decoded.isprintable() and not decoded.isspace() else entity.group()
