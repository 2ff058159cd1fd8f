"""How a process tree starts, is watched and surely ends. Knows no job, no store, no pipeline.

Nothing is re-exported here: keeper, zygote and guardian import this package and must stay light.
"""
