"""The command line: one console command, one file a sub-command."""
