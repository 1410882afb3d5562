"""Images of one host: content by digest, layers unpacked once, names per tenant. Read ``store.py`` first."""
