"""GPU time: what was seen, who held it and what for, and what it cost the owner of the GPUs."""
