"""Tables of the documents nearest each threshold, kept and dropped: what people need to see to move one."""

import json
from collections.abc import Mapping

from megatron_style_data.cleaning.recipe import Recipe
from megatron_style_data.cleaning.samples import Samples


def near_pages(recipe: Recipe, samples: Samples) -> dict[str, str]:
    """One Markdown page a step that has a threshold: for each bound of a measure two tables, nearest first.

    Args:
        recipe: Whose steps they are.
        samples: Taken with ``near``.
    """
    pages = {}
    for label, settings in recipe.steps.items():
        names = sorted({name.split("/")[2] for name in samples.kept if name.startswith(f"near/{label}/")})
        tables = [table for name in names for table in _tables(label, name, samples)]
        if tables:
            set_to = settings.model_dump(mode="json")
            said = ", ".join(f"`{key}: {json.dumps(value, ensure_ascii=False)}`" for key, value in set_to.items())
            pages[label] = f"# {label}: documents nearest its thresholds\n\nRecipe {recipe.name}: {said}.\n" + "".join(
                tables
            )
    return pages


def _tables(label: str, drops: str, samples: Samples) -> list[str]:
    tables = []
    for side, said in (("dropped", f"dropped as {drops}"), ("kept", f"kept, nearest to {drops}")):
        entries = samples.entries(f"near/{label}/{drops}/{side}")
        if not entries:
            tables.append(f"\n## {said}\n\nNone.\n")
            continue
        rows = "".join(_row(entry) for entry in entries)
        tables.append(f"\n## {said}\n\n| value | begins |\n|---|---|\n{rows}")
    return tables


def _row(entry: Mapping[str, object]) -> str:
    return f"| {float(str(entry['value'])):.4g} | {_cell(str(entry['text']))} |\n"


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table: nothing in it is markup."""
    for character in "\\`*_[]<>|#$~":
        text = text.replace(character, "\\" + character)
    return text
