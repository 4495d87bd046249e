"""Bands that follow from the threshold, and settings that cannot be."""

from typing import Any

import pytest

from megatron_style_data.deduplication.settings import DuplicateSettings
from megatron_style_data.errors import SettingError


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"exact": False, "near": False}, "neither exact nor near duplicates are asked for"),
        ({"threshold": 0.0}, "threshold 0.0 is not a similarity above 0 and up to 1"),
        ({"threshold": 1.5}, "threshold 1.5 is not a similarity"),
        ({"permutations": 8}, "permutations 8: expected 16 to 1024"),
        ({"shingle": 0}, "shingle 0: expected 1 to 64 characters"),
        ({"keep": "best"}, "keep 'best' is not known; choose longest or first"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        DuplicateSettings(**changed)


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8, 0.95, 1.0])
def test_pairs_at_the_threshold_meet_in_a_band_as_good_as_always(threshold: float) -> None:
    settings = DuplicateSettings(threshold=threshold)
    assert settings.bands * settings.rows <= settings.permutations
    assert 1 - (1 - threshold**settings.rows) ** settings.bands >= 0.99


def test_the_usual_settings_have_21_bands_of_6() -> None:
    settings = DuplicateSettings()
    assert (settings.bands, settings.rows) == (21, 6)


def test_the_fingerprint_is_that_of_what_decides_the_signatures() -> None:
    settings = DuplicateSettings()
    assert DuplicateSettings(keep="first", threshold=0.81).fingerprint == settings.fingerprint
    assert DuplicateSettings(threshold=0.5).fingerprint != settings.fingerprint
    assert DuplicateSettings(near=False).fingerprint != settings.fingerprint
