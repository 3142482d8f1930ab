"""``python -m gateway.replay TRACE``: the traffic of a trace against OpenAI endpoints, measured.

A trace holds when requests came and how long they and their answers were, never what they said. Replaying one
sends prompts of made-up words of those lengths at those moments, to one target or to several, so that two
configurations can be compared on the same traffic.
"""
