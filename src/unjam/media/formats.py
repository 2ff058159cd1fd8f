"""What containers and codecs can do: which are read at all, which can be cut, what fits into which
container."""

from __future__ import annotations

DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,vc1,mjpeg,dirac,yuv4mpegpipe,"
    "flv,live_flv,asf,asf_o,ogg,swf,rm,dv,mxf,nut,ivf,wtv,nsv,gxf,nuv,gif,"
    "wav,w64,aiff,au,caf,mp3,aac,ac3,eac3,dts,truehd,flac,amr,ape,wv,tta"
)
"""libavformat's `format_whitelist`. Playlists (hls, dash, concat, sdp, ...) are not in it: they are text that
makes a demuxer open other files and URLs."""

CUTTABLE = frozenset({"mov", "matroska", "mpegts", "avi", "flv", "asf"})
"""Containers whose seek lands at or before a keyframe on both ffmpeg builds (measured: every segment of 14
sources frame-identical). Program streams and raw streams were not: their seeks went astray."""

DECLARES_FRAMES = frozenset({"mov", "avi"})
"""The header says how many frames there are: fewer packets mean a file cut short."""
DECLARES_DURATION = frozenset({"matroska", "flv", "asf"})
"""The header's duration is written at the end of a recording: much less material means a file cut short."""

TEXT_SUBTITLES = frozenset({"subrip", "ass", "ssa", "webvtt", "mov_text", "text"})

VIDEO_IN_MP4 = frozenset(["h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "vc1"])
AUDIO_IN_MP4 = frozenset(["aac", "mp3", "mp2", "ac3", "eac3", "opus", "flac", "alac", "dts"])
AUDIO_NOT_IN_MKV = frozenset({"amr_nb", "amr_wb", "qdm2", "nellymoser", "adpcm_swf"})
VIDEO_NOT_IN_MKV = frozenset({"gif"})


def family(names: str) -> str:
    """libavformat's name list of a demuxer ("mov,mp4,m4a,...") as the one name that is used here."""
    first = names.split(",")[0]
    return {"asf_o": "asf", "live_flv": "flv"}.get(first, first)
