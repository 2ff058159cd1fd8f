"""House rules of the test run, as pytest plugins."""
