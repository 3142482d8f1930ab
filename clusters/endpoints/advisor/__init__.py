"""The whole fleet planned anew: moves worth making, and making them."""
