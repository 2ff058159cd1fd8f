"""The tests of unjam; the folders mirror src/unjam."""
