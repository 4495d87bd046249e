"""Measuring a model: loss on held-out documents, and statistics of the text it writes."""
