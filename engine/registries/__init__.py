"""Client of any registry (OCI distribution-spec 1.1): names to addresses, credentials, bytes. Only pull and push know the store.

- root process: pull, push → desk, session. It asks, checks every digest itself, and owns the store.
- socket pair, and a pipe for each stream of bytes
- courier: nobody, no capability, no new privileges, no file of its own; a process each pull or push. client → auth → connection,
  and every address is looked at by reach before it is dialled.
"""
