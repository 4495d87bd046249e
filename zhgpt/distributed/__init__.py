"""Who am I among the ranks, how do I reach the others, and what starts us."""
