"""A run's folder read, judged and shown as one page."""
