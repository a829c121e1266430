"""The command line, one file per verb. Only these modules import the sibling packages."""
