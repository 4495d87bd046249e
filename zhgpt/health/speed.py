"""Steps that wait for their data."""

from statistics import median

from zhgpt.health.detector import Detector, Sighting
from zhgpt.health.history import SMOOTHED, History

WAITING = 0.1


def loader_bound(history: History) -> Sighting | None:
    """Rank 0 spends much of its time waiting for batches."""
    found = history.last("data_wait", SMOOTHED)
    if history.now("data_wait") is None or len(found) < SMOOTHED or median(found) <= WAITING:
        return None
    share = median(found)
    return Sighting(
        share,
        WAITING,
        f"{share:.0%} of the time goes into waiting for batches.",
        f"有 {share:.0%} 的时间在等数据。",
    )


LOADER_BOUND = Detector(
    "loader_bound",
    "Waiting for data",
    "卡在读数据上",
    f"the median of data_wait over the last {SMOOTHED} records is above {WAITING:.0%}",
    loader_bound,
    "Put the dataset on a local disk, raise data.prefetch (0 assembles batches in the step itself), and leave a core for the "
    "loader's thread.",
    "把数据集放到本地磁盘，调大 data.prefetch（0 表示在训练步里现场组批），并给读数据的线程留一个核。",
    "data_wait",
)
