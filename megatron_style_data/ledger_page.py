"""The ledger as one page (corpus.html) that needs nothing else: tables, plots, samples of what was dropped."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment

from megatron_style_data.cleaning.accounts import SourceAccount
from megatron_style_data.cleaning.recipe import kind_of
from megatron_style_data.cleaning.samples import Samples
from megatron_style_data.cleaning.steps import STEPS
from megatron_style_data.ledger import Ledger
from megatron_style_data.ledger_plots import drop_plot, length_plot, share_plot
from megatron_style_data.ledger_template import PAGE

_SAMPLES_SHOWN = 8
_SOURCES_SHOWN = 100
_SAMPLE_CHARACTERS = 160


def ledger_page(ledger: Ledger, samples: Samples) -> str:
    """The page.

    Args:
        ledger: The ledger.
        samples: Samples of what the steps dropped and changed.
    """
    total, accounts = ledger.total, ledger.accounts
    tokens = ledger.recipe.tokenizer is not None
    names = sorted(accounts.sources, key=lambda name: (-accounts.sources[name].read.utf8_bytes, name))
    rows = [_source_row(name, accounts.sources[name], tokens) for name in names[:_SOURCES_SHOWN]]
    heads = ["read", "MB", "dropped", "duplicates", "kept", "MB", "characters", *(["tokens"] if tokens else [])]
    first = accounts.first_unreadable
    page = Environment(autoescape=True).from_string(PAGE)
    return page.render(
        name=ledger.recipe.name,
        subtitle=f"{len(ledger.files):,} files, {len(accounts.sources):,} sources, {ledger.shards:,} shards",
        cards=_cards(total, tokens),
        drops=drop_plot(ledger.flow(), total.read.documents),
        lengths=length_plot(total.read.lengths, total.kept.lengths),
        source_heads=heads,
        sources=[*rows, *([["all", "", *_source_row("all", total, tokens)[2:]]] if len(names) > 1 else [])],
        more_sources=max(0, len(names) - _SOURCES_SHOWN),
        unreadable=[
            (reason, f"{count:,}", first.get(reason, [""])[0]) for reason, count in accounts.unreadable.items()
        ],
        steps=[_step(label, ledger, samples) for label in ledger.recipe.steps],
        duplicates={key: f"{count:,}" for key, count in ledger.duplicates.get("counts", {}).items()},
        pairs=ledger.duplicates.get("examples", [])[:_SAMPLES_SHOWN],
    )


def _cards(total: SourceAccount, tokens: bool) -> list[tuple[str, str, str]]:
    read, kept = total.read, total.kept
    cards = [
        ("documents read", f"{read.documents:,}", f"{read.utf8_bytes / 1e6:,.1f} MB"),
        ("documents kept", f"{kept.documents:,}", f"{100 * kept.documents / max(1, read.documents):.1f} %"),
        ("characters kept", f"{kept.characters:,}", f"{100 * kept.characters / max(1, read.characters):.1f} %"),
        ("bytes kept", f"{kept.utf8_bytes / 1e6:,.1f} MB", f"{100 * kept.utf8_bytes / max(1, read.utf8_bytes):.1f} %"),
    ]
    if tokens:
        per_token = f"{kept.characters / max(1, kept.tokens):.2f} characters a token"
        cards.append(("tokens", f"{kept.tokens:,}", per_token))
    return cards


def _source_row(name: str, source: SourceAccount, tokens: bool) -> list[str]:
    dropped = sum(sum(reasons.values()) for reasons in source.dropped.values())
    licenses = sorted(source.licenses, key=lambda license: -source.licenses[license])
    shown = "; ".join(license or "unknown" for license in licenses[:2])
    more = f" and {len(licenses) - 2} more" if len(licenses) > 2 else ""
    amounts = (source.read.utf8_bytes, source.kept.utf8_bytes)
    read_mb, kept_mb = (f"{amount / 1e6:,.2f}" for amount in amounts)
    counts = [f"{source.read.documents:,}", read_mb, f"{dropped:,}", f"{source.duplicates:,}"]
    left = [f"{source.kept.documents:,}", kept_mb, f"{source.kept.characters:,}"]
    return [name, shown + more, *counts, *left, *([f"{source.kept.tokens:,}"] if tokens else [])]


def _step(label: str, ledger: Ledger, samples: Samples) -> Mapping[str, Any]:
    account = ledger.accounts.step(label)
    dropped = sum(account.dropped.values())
    said = f"{account.seen:,} documents came, {dropped:,} were dropped ({100 * dropped / max(1, account.seen):.2f} %)"
    unit = STEPS[kind_of(label)].unit
    if unit:
        said += f"; {account.changed:,} were changed ({account.changes:,} {unit}"
        said += f", {account.characters_removed:,} characters fewer)" if account.characters_removed else ")"
    settings = ledger.recipe.steps[label].model_dump(mode="json")
    reasons = sorted(account.dropped.items(), key=lambda item: -item[1])
    return {
        "label": label,
        "settings": ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()),
        "said": said + ".",
        "reasons": [(r, f"{count:,}", f"{100 * count / max(1, account.seen):.3f} %") for r, count in reasons],
        "plots": [
            (name, share_plot(bins, settings.get(f"minimum_{name}"), settings.get(f"maximum_{name}")))
            for name, bins in account.histograms.items()
        ],
        "dropped": _shown(samples.entries(f"dropped/{label}")),
        "changed": _shown(samples.entries(f"changed/{label}")),
    }


def _shown(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first samples, with texts cut."""
    return [
        {key: value[:_SAMPLE_CHARACTERS] if isinstance(value, str) else value for key, value in entry.items()}
        for entry in entries[:_SAMPLES_SHOWN]
    ]
