"""Cleaning: a recipe of named steps for Chinese, samples of what each dropped and changed, a ledger of everything."""
