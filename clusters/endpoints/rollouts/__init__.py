"""Changing what an endpoint runs: beside it or in place of it, judged on its own requests, undone when it is worse."""
