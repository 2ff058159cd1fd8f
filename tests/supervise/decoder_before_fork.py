"""What must not be preloaded: a module that makes a library start its threads when it is imported.

FFmpeg's frame threads do not survive the fork: whoever goes on decoding in the child waits for ever for a
frame that nobody decodes, in C and in a futex, as CTranslate2 does with a model that was loaded before the
fork.
"""

from collections.abc import Iterator

import av

from tests.helpers import DEMO


def _decoding() -> "Iterator[av.VideoFrame]":
    container = av.open(str(DEMO))
    stream = container.streams.video[0]
    stream.thread_type = "FRAME"
    stream.codec_context.thread_count = 4
    yield from container.decode(stream)


FRAMES = _decoding()
for _ in range(5):
    next(FRAMES)
