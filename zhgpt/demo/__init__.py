"""The demo: from raw Chinese text to a model that speaks, with the commands a user would type."""
