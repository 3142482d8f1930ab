"""Files and batches: requests that are handed in together and answered in idle capacity.

This is the one place of the gateway where prompts and answers rest. They are encrypted before they touch the disk,
stay in the region, and go after the days that their tenant chose.
"""

from gateway.batches.doors import BatchDoors
from gateway.batches.room import Room, make_room

__all__ = ["BatchDoors", "Room", "make_room"]
