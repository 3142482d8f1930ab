"""``make demo``: the main job, end to end, through the doors that everybody uses."""
