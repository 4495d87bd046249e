"""What was read stays; what comes may change."""

from typing import Any

from zhgpt.checkpoint.data_identity import data_differences

Shares = dict[str, str]
AT = 800
ADVICE = "what to do"
NAMES = {"w" * 64: "web", "k" * 64: "wiki"}


def blend(*phases: tuple[int, Shares], **more: Any) -> dict[str, Any]:
    listed = [
        {"first_sample": first, "shares": [[key * 64, share] for key, share in shares.items()]}
        for first, shares in phases
    ]
    return {"tokenizer_fingerprint": "t", "blend": listed, "names": NAMES, **more}


BASE = (0, {"w": "3/5", "k": "2/5"})


def test_the_same_blend_goes_on() -> None:
    assert data_differences(blend(BASE), blend(BASE), AT, ADVICE) == []


def test_weights_may_change_from_the_checkpoint_on() -> None:
    later = blend(BASE, (AT, {"k": "1"}))
    assert data_differences(blend(BASE), later, AT, ADVICE) == []
    assert data_differences(blend(BASE, (900, {"w": "1"})), later, AT, ADVICE) == []


def test_weights_before_the_checkpoint_may_not_change() -> None:
    assert data_differences(blend(BASE), blend(BASE, (AT - 1, {"k": "1"})), AT, ADVICE) == [
        "the blend of the 800 samples before the checkpoint is web 3/5, wiki 2/5 from sample 0; wiki 1 from sample 799 but "
        "was saved as web 3/5, wiki 2/5 from sample 0 (what was read cannot be changed: keep it, and put new weights into "
        "data.phases, from the checkpoint's step on)"
    ]
    assert len(data_differences(blend(BASE), blend((0, {"w": "2/5", "k": "3/5"})), AT, ADVICE)) == 1


def test_a_new_source_may_come_in_later() -> None:
    assert data_differences(blend(BASE), blend(BASE, (AT, {"n": "1/2", "w": "1/2"})), AT, ADVICE) == []


def test_a_run_of_one_dataset_may_go_on_with_a_blend_that_began_with_it() -> None:
    alone = {"fingerprint": "w" * 64, "tokens": 9, "tokenizer_fingerprint": "t"}
    assert data_differences(alone, blend((0, {"w": "1"}), (AT, {"k": "1"})), AT, ADVICE) == []
    (difference,) = data_differences(alone, blend(BASE), AT, ADVICE)
    assert "is web 3/5, wiki 2/5 from sample 0 but was saved as web 1 from sample 0" in difference


def test_another_dataset_tokenizer_or_packing_is_named() -> None:
    alone = {"fingerprint": "w", "tokens": 9, "tokenizer_fingerprint": "t"}
    other = {**alone, "fingerprint": "x", "packing": "best_fit"}
    assert data_differences(alone, other, AT, ADVICE) == [
        "dataset.fingerprint is 'x' but was saved as 'w' (what to do)",
        "dataset.packing is 'best_fit' but was saved as None (what to do)",
    ]
    changed = blend(BASE, tokenizer_fingerprint="u")
    assert data_differences(blend(BASE), changed, AT, ADVICE) == [
        "dataset.tokenizer_fingerprint is 'u' but was saved as 't' (what to do)"
    ]
