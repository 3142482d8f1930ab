"""The driver for this machine: one supervised tritonserver process per replica.

The driver writes what is wanted and reads what is, both as files below the data folder; the
supervisor, a process of its own, makes the one follow the other. Neither knows Django.
"""
