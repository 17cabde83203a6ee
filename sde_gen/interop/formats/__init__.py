"""File formats of other projects, read as data: nothing in a file is executed."""
