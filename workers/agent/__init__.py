"""The host's asyncio process for bytes: attach, logs, stats, images in, events. Root; no Celery, no Django.

    server.py   who may ask, what is asked        watcher.py   what the keeper tells: exits settled, deadlines enforced
    attach.py detach.py terminal.py               events.py    the same for panels, with the inventory
    follow.py   logs, from files                  stats.py loading.py

Slow readers cost nobody anything: output is read from log files, once for each reader, at the reader's pace.
"""
