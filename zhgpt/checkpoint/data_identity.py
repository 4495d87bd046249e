"""Whether a run may go on with the data it is now given: what has been read must be the same, what comes may change."""

from typing import Any


def data_differences(saved: dict[str, Any], now: dict[str, Any], consumed_samples: int, advice: str) -> list[str]:
    """What differs between a checkpoint's data and that of the present run, one sentence each; empty: go on.

    A blend is a list of phases, and sample k is a closed form of the phases that begin before k. So a run goes on
    exactly, each source where it stood, when the phases that begin before the checkpoint are the same, whatever follows.

    Args:
        saved: ``dataset`` of the checkpoint (:meth:`zhgpt.train.training_data.TrainingData.identity`).
        now: that of the present run.
        consumed_samples: where the checkpoint stands.
        advice: what to do about another dataset.
    """
    blended = ("blend" in saved) or ("blend" in now)
    of_blends = {"blend", "names", "fingerprint", "tokens"} if blended else set()
    differences = [
        f"dataset.{name} is {now.get(name)!r} but was saved as {saved.get(name)!r} ({advice})"
        for name in sorted({*saved, *now} - of_blends)
        if saved.get(name) != now.get(name)
    ]
    if blended and _past(saved, consumed_samples) != _past(now, consumed_samples):
        names = {**saved.get("names", {}), **now.get("names", {})}
        differences.append(
            f"the blend of the {consumed_samples} samples before the checkpoint is {_words(now, consumed_samples, names)} but "
            f"was saved as {_words(saved, consumed_samples, names)} (what was read cannot be changed: keep it, and put "
            "new weights into data.phases, from the checkpoint's step on)"
        )
    return differences


def _phases(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """The phases of a blend; one dataset is a blend of itself."""
    alone = [{"first_sample": 0, "shares": [[dataset.get("fingerprint"), "1"]]}]
    phases: list[dict[str, Any]] = dataset.get("blend", alone)
    return phases


def _past(dataset: dict[str, Any], consumed_samples: int) -> list[tuple[int, list[list[str]]]]:
    """The phases that begin before the checkpoint; sources in their order, which decides between equal weights."""
    return [
        (phase["first_sample"], phase["shares"])
        for phase in _phases(dataset)
        if phase["first_sample"] < consumed_samples
    ]


def _words(dataset: dict[str, Any], consumed_samples: int, names: dict[str, str]) -> str:
    phases = [
        f"{', '.join(f'{names.get(key, key[:16])} {share}' for key, share in shares)} from sample {first}"
        for first, shares in _past(dataset, consumed_samples)
    ]
    return "; ".join(phases)
