"""Step ``blocklist``: drops texts with listed phrases, and pages of listed hosts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from megatron_style_data.cleaning.measures import Measure, Outcome, StepFunction
from megatron_style_data.cleaning.steps.phrase_files import read_phrases
from megatron_style_data.cleaning.steps.settings import Count, StepSettings
from megatron_style_data.errors import SettingError

_URL_FIELDS = ("url", "URL", "link", "source_url", "网址", "链接")


class BlocklistSettings(StepSettings):
    """Settings of ``blocklist``; at least one of the two files."""

    phrases: Path | None = Field(default=None, description="A file of phrases, one a line.")
    hosts: Path | None = Field(
        default=None, description="A file of hosts, one a line; example.com also means its subdomains."
    )
    maximum_blocked_phrases: Count = Field(
        default=1, description="Most different phrases a text may hold; one alone is often news about the matter."
    )
    url_field: str | None = Field(
        default=None, description="The record's field with the address; null: url, link, 网址 …."
    )


def prepare(settings: BlocklistSettings) -> StepFunction:
    """The step with these settings.

    Raises:
        SettingError: Neither phrases nor hosts are given.
        MissingInputError: A file does not exist.
        BadDataError: A file is empty or not UTF-8.
    """
    if settings.phrases is None and settings.hosts is None:
        raise SettingError("step blocklist has no list; give it a file of phrases or of hosts.")
    phrases = read_phrases(settings.phrases) if settings.phrases else []
    hosts = {host.lower().strip(".") for host in read_phrases(settings.hosts)} if settings.hosts else set()
    url_fields = _URL_FIELDS if settings.url_field is None else (settings.url_field,)

    def run(text: str, fields: Mapping[str, Any]) -> Outcome:
        host = next((host_of(str(fields[name])) for name in url_fields if fields.get(name)), "")
        blocked = _listed(host, hosts)
        present = set(text)
        # A text holds a few hundred different characters: most phrases are out by their first and last one.
        candidates = (phrase for phrase in phrases if phrase[0] in present and phrase[-1] in present)
        found = [phrase for phrase in candidates if phrase in text]
        measures = (
            Measure("blocked_host", float(blocked), high=0, detail=host if blocked else ""),
            Measure("blocked_phrases", len(found), high=settings.maximum_blocked_phrases, detail="、".join(found[:5])),
        )
        return Outcome(text, measures)

    return run


def host_of(address: str) -> str:
    """The host of an address in lower case, without port; empty where there is none."""
    try:
        return (urlsplit(address if "//" in address else f"//{address}").hostname or "").strip(".")
    except ValueError:  # an address such as http://[half
        return ""


def _listed(host: str, hosts: set[str]) -> bool:
    labels = host.split(".")
    return any(".".join(labels[number:]) in hosts for number in range(len(labels))) if host else False
