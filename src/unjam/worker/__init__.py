"""The process that claims jobs on one machine, supervises their attempts and publishes what they made."""
