"""The command line of the planner: each module is one command, with ``run(arguments)`` giving the exit status."""
