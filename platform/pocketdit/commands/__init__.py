"""The command line, with one module per subcommand. Only these modules import the sibling packages."""
