"""``./manage.py bench``: our figures beside another Docker engine's, in one run, through the Docker Engine API alone.

It knows nothing of how an engine works inside, so the same code measures any of them. Figures are for people and for
the benchmark's table; no test fails for being slow.
"""
