"""Client of any registry (OCI distribution-spec 1.1): names to addresses, credentials, bytes. It knows no store and no image.

root process │ desk, session        asks, checks every digest itself, owns the store
             ▼ socket pair, a pipe for each stream of bytes
courier      │ nobody, no capability, no new privileges, no file of its own: one process a pull or push
             ▼ client → auth → connection (every address is looked at by reach before it is dialled)
the network
"""
