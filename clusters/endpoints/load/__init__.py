"""What an endpoint's load really is: learnt from metered hours, compared with the order, answered by a re-plan."""
