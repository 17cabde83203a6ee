"""Networks of other projects: their files in, ours out; nothing in a file is ever executed."""
