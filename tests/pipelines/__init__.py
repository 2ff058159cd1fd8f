"""Tests of src/unjam/pipelines."""
