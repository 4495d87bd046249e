"""Why a run fails, told while it runs: detectors over its metrics, and the rule for a spike."""
