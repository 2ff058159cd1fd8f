"""Tests of the pipeline convert, on real media with real ffmpeg."""
