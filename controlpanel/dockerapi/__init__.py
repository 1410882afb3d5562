"""The Docker Engine API as a raw ASGI application: parse, authorise, call the panel's services. No model of its own.

app.py        the application: version, door, route, errors      exchange.py   one request and its reply
router.py     every route of the API                             words.py      booleans, filters, times as moby reads them
door.py       who is calling                                     streams.py    bytes between the agent and the client
"""
