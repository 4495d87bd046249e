"""Pretraining of Chinese GPT-2-scale language models on DeepSpeed."""

__version__ = "0.1.0"
