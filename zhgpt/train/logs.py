"""Where messages go: one file a rank, and only what a person needs on the terminal."""

import logging
import warnings
from pathlib import Path

NOISY = ("DeepSpeed", "torch.distributed", "transformers", "datasets")


def quiet_libraries() -> None:
    """Keeps libraries' INFO lines off the terminal; call it before DeepSpeed starts talking."""
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning)


def log_to_file(folder: Path, rank: int) -> None:
    """Adds ``logs/rank_N.log`` to the root logger and DeepSpeed's own (which does not propagate)."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / f"rank_{rank}.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    for name in NOISY:
        logger = logging.getLogger(name)
        if not logger.propagate:
            logger.addHandler(handler)
