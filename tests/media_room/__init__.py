"""Tests of src/unjam/media (the folder `media` beside this one holds sample files)."""
