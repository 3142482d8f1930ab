"""What clients send to the generating doors, decoded and checked.

Every field that OpenAI knows has a place here: those that are honoured, those that change nothing and are
accepted, and those that are refused unless they ask for what happens anyway. Others are unknown, and refused.
"""

from gateway.requests.call import Call, ChatMessage
from gateway.requests.chat import read_chat
from gateway.requests.completion import read_completion
from gateway.requests.embedding import read_embedding

__all__ = ["Call", "ChatMessage", "read_chat", "read_completion", "read_embedding"]
