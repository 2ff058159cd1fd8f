"""Everything that knows video and sound: which ffmpeg, what is in a file, where it can be cut, is the result
whole."""
