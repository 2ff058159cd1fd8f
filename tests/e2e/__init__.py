"""What a user does, by the real command line on real media."""
