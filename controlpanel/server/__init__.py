"""How connections reach the panel: uvicorn with ``http.hijack``, listening sockets, the supervisor. Knows no resource."""
