"""From one line per request to acknowledged usage segments, exactly once.

A request's record is appended to a local log before its last byte goes out. Every window the log is
cut: what is new is counted into segments with the next sequence numbers, and one file that holds both
the segments and the log position they reach to is renamed into the spool. The spool is shipped in order
and kept until the control plane acknowledges it. A crash at any point repeats a step; none is done twice.
"""
