"""The command line: one command a file, each with `--json` for programs and plain words for people."""
