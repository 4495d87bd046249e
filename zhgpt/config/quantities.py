"""Counts as people read them."""


def count_text(count: float) -> str:
    """A count in three digits: `999`, `12.3k`, `124M`, `2.50B`."""
    for divisor, suffix in ((1, ""), (1e3, "k"), (1e6, "M"), (1e9, "B"), (1e12, "T")):
        scaled = count / divisor
        if scaled < 999.5 or suffix == "T":
            break
    if suffix == "":
        return f"{scaled:.0f}"
    digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{digits}f}{suffix}"
