"""The ledger of a cleaned corpus (corpus.json): what came in, what became of it by source and step, what is left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from megatron_style_data.cleaning.accounts import Accounts, Amount, SourceAccount
from megatron_style_data.cleaning.plan import Task
from megatron_style_data.cleaning.recipe import Recipe, kind_of
from megatron_style_data.cleaning.steps import STEPS

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Ledger:
    """What happened to a corpus.

    Attributes:
        recipe: How it was cleaned.
        files: (path, source, format) of each input file, in order.
        shards: How many shards there are.
        accounts: Counts by source and by step.
        duplicates: ``counts`` and ``examples``; empty where nobody looked for duplicates.
    """

    recipe: Recipe
    files: Sequence[tuple[str, str, str]]
    shards: int
    accounts: Accounts
    duplicates: Mapping[str, Any]

    @property
    def total(self) -> SourceAccount:
        """All sources together."""
        total = SourceAccount()
        for source in self.accounts.sources.values():
            total.add(source)
        return total

    def flow(self) -> list[tuple[str, int]]:
        """(step, documents dropped), in the recipe's order, ending with duplicates."""
        total = self.total
        steps = [*self.recipe.steps, *(step for step in total.dropped if step not in self.recipe.steps)]
        rows = [(step, sum(total.dropped.get(step, {}).values())) for step in steps]
        return [*rows, ("duplicates", total.duplicates)] if self.duplicates else rows


def ledger_of(recipe: Recipe, tasks: Sequence[Task], accounts: Accounts, duplicates: Mapping[str, Any]) -> Ledger:
    """Puts the ledger together; the counts must add up.

    Args:
        recipe: The recipe.
        tasks: All tasks.
        accounts: Sums over all tasks of both stages.
        duplicates: What the search for duplicates said.
    """
    files = dict.fromkeys((str(task.file.path), task.file.source, task.file.format) for task in tasks)
    for name, source in accounts.sources.items():
        gone = sum(sum(reasons.values()) for reasons in source.dropped.values())
        assert source.read.documents == source.kept.documents + gone + source.duplicates, f"{name} does not add up"
    return Ledger(recipe, list(files), len(tasks), accounts, duplicates)


def ledger_record(ledger: Ledger) -> dict[str, Any]:
    """The ledger as JSON values. No dates, no durations: the same corpus gives the same bytes."""
    recipe = ledger.recipe.model_dump(mode="json", exclude={"steps", "output", "executor", "slurm"})
    recipe["steps"] = {label: settings.model_dump(mode="json") for label, settings in ledger.recipe.steps.items()}
    accounts = ledger.accounts
    return {
        "format": "zhgpt corpus ledger",
        "version": FORMAT_VERSION,
        "name": ledger.recipe.name,
        "total": _source_record(ledger.total, ledger.recipe.tokenizer is not None),
        "sources": {
            name: _source_record(accounts.sources[name], ledger.recipe.tokenizer is not None)
            for name in sorted(accounts.sources)
        },
        "steps": [_step_record(label, ledger) for label in ledger.recipe.steps],
        "duplicates": dict(ledger.duplicates),
        "unreadable": {"counts": accounts.unreadable, "first": accounts.first_unreadable},
        "shards": ledger.shards,
        "files": [{"path": path, "source": source, "format": format} for path, source, format in ledger.files],
        "recipe": recipe,
    }


def _source_record(source: SourceAccount, counted_tokens: bool) -> dict[str, Any]:
    return {
        "licenses": source.licenses,
        "read": _amount_record(source.read, False),
        "dropped": source.dropped,
        "duplicates": source.duplicates,
        "kept": _amount_record(source.kept, counted_tokens),
    }


def _amount_record(amount: Amount, counted_tokens: bool) -> dict[str, Any]:
    record: dict[str, Any] = {
        "documents": amount.documents,
        "characters": amount.characters,
        "utf8_bytes": amount.utf8_bytes,
    }
    if counted_tokens:
        record["tokens"] = amount.tokens  # with the token that ends each document
    # Bin n: from 2**(n/2) characters on.
    return {**record, "documents_by_length": amount.lengths}


def _step_record(label: str, ledger: Ledger) -> dict[str, Any]:
    account = ledger.accounts.step(label)
    return {
        "step": label,
        "documents_seen": account.seen,
        "documents_changed": account.changed,
        "changes": account.changes,
        "changes_are": STEPS[kind_of(label)].unit,
        "characters_removed": account.characters_removed,
        "documents_dropped": sum(account.dropped.values()),
        "dropped": account.dropped,
        "documents_by_share": account.histograms,
    }
