"""The folder of one shard's signatures: checked before it is believed."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from megatron_style_data.deduplication import DuplicateSettings
from megatron_style_data.deduplication.duplicates import cluster, signature_jobs
from megatron_style_data.deduplication.minhash import PlainMinHash, band_keys
from megatron_style_data.deduplication.signature_files import SignatureJob, open_signatures, write_signatures
from megatron_style_data.errors import BadDataError

WriteShard = Callable[[str, Sequence[str]], Path]
TEXTS = [f"第{number}首，春眠不觉晓，处处闻啼鸟。" * (number % 5 + 1) for number in range(50)]


@pytest.fixture
def job(tmp_path: Path, write_shard: WriteShard) -> SignatureJob:
    (job,) = signature_jobs([write_shard("a.jsonl", TEXTS)], DuplicateSettings(), tmp_path / "work")
    return job


def test_what_is_read_back_is_what_the_texts_have(job: SignatureJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megatron_style_data.deduplication.signature_files._BLOCK_DOCUMENTS", 7)
    assert write_signatures(job) == 50
    shard = open_signatures(job)
    minhash = PlainMinHash(job.settings)
    folded = minhash.fold(TEXTS)
    signatures = minhash.signatures(folded)
    assert len(shard.blocks) == 8
    assert shard.lengths().tolist() == folded.lengths.tolist()
    assert shard.places().tolist() == list(range(1, 51))
    assert np.array_equal(shard.signatures(np.array([40, 3, 3])), signatures[[40, 3, 3]])
    keys = band_keys(signatures, job.settings.bands, job.settings.rows)
    for band in (0, 20):
        assert np.array_equal(np.concatenate(list(shard.band(band))), keys[band])


def test_signatures_that_are_missing_or_of_something_else_are_refused(job: SignatureJob) -> None:
    with pytest.raises(BadDataError, match=r"the signatures of .*a\.jsonl are not there; write the signatures again"):
        open_signatures(job)
    write_signatures(job)
    other = SignatureJob(job.shard, DuplicateSettings(threshold=0.5), job.folder)
    with pytest.raises(BadDataError, match="made with another threshold or shingle"):
        open_signatures(other)
    with open(job.shard.path, "ab") as file:
        file.write(b'{"text": "more"}\n')
    with pytest.raises(BadDataError, match="made with another size of the file"):
        open_signatures(job)


def test_a_cut_file_is_refused(job: SignatureJob) -> None:
    write_signatures(job)
    bands = job.folder / "bands"
    bands.write_bytes(bands.read_bytes()[:-8])
    with pytest.raises(BadDataError, match=r"bands: 8392 bytes; expected 8400; write the signatures again"):
        open_signatures(job)


def test_a_shard_that_changes_while_it_is_compared_is_refused(job: SignatureJob, tmp_path: Path) -> None:
    from megatron_style_data.deduplication.output import KeptJob, write_kept

    write_signatures(job)
    found = cluster([job], tmp_path / "work")
    for content in (TEXTS[:40], [*TEXTS, "更多"]):
        lines = "".join(f'{{"text": "{text}"}}\n' for text in content)
        job.shard.path.write_text(lines, "utf-8")
        with pytest.raises(BadDataError, match=r"a\.jsonl: has changed while it was compared; start again"):
            write_kept(KeptJob(job.shard, found.dropped(0), tmp_path / "part"))
    job.shard.path.write_text('{"text": "一"}\n', "utf-8")
    with pytest.raises(BadDataError, match=r"a\.jsonl: has changed while it was compared; start again"):
        found.collection.texts(np.array([3, 45]))
