"""Faults on purpose, on this machine: to practise with, in tests and in staging.

What is done to a process, a wire or a file is written down before it is done (:mod:`embedded.faults.journal`), and a
guard in a session of its own undoes it when its time is over or when whoever did it has died.
"""
