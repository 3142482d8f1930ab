"""Cursor pagination, newest first. UUIDv7 ids sort by time of making, so the id alone is the cursor."""

from rest_framework.pagination import CursorPagination


class NewestFirstPagination(CursorPagination):
    ordering = "-id"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200
