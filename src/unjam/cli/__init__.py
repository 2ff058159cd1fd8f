"""The command line: one module per group of commands; whatever is heavy is imported inside the command."""
